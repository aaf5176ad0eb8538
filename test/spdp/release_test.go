package spdp

import (
	"testing"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// TestReleases: programs of ROS 2 Humble and of later releases, told by their environment, are kept from each other and
// meet their own kind; programs without ROS meet everybody. Unless all are to meet.
func TestReleases(t *testing.T) {
	for name, c := range map[string]struct {
		configuration string
		known         map[string]int // by environment, of the five others
	}{
		"separate":         {"", map[string]int{"humble": 2, "jazzy": 4, "": 5}},
		"allow":            {"dds: {mixed: allow}\n", map[string]int{"humble": 5, "jazzy": 5, "": 5}},
		"told for a host":  {"dds: {release: kilted}\n", map[string]int{"humble": 5, "jazzy": 5, "": 5}},
		"nobody is in ROS": {"dds: {release: any}\n", map[string]int{"humble": 5, "jazzy": 5, "": 5}},
	} {
		t.Run(name, func(t *testing.T) {
			list := daemons(t, 2, c.configuration)
			a, b := list[0], list[1]
			trust(a, b)
			type started struct {
				program *lab.Process
				distro  string
			}
			var running []started
			start := func(r *robot, distro string) {
				t.Setenv("ROS_DISTRO", distro)
				vendor := vendors[len(running)%2]
				name := r.Name() + "-" + vendor + distro
				running = append(running, started{r.startNamed(name, vendor, "both", 0, "--rate", "10"), distro})
			}
			for _, distro := range []string{"humble", "jazzy", ""} {
				start(a, distro)
			}
			for _, distro := range []string{"jazzy", "", "jazzy"} {
				start(b, distro)
			}
			for _, s := range running {
				matched(t, s.program, c.known[s.distro])
			}
		})
	}
}
