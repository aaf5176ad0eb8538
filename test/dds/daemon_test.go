package dds

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// profileFolder is where hnetd keeps the profiles.
const profileFolder = "/var/lib/hnet/dds/"

// fleetOf starts hnetd with the configuration on robots of one LAN, which trust each other.
func fleetOf(t *testing.T, configuration string, n int) (robots []*fleet.Robot, guest *lab.Host) {
	t.Helper()
	peer(t, cyclone)
	l := lab.New(t)
	var parts []lab.Part
	var hosts []*lab.Host
	for i := range n {
		hosts = append(hosts, l.Host(fmt.Sprintf("robot%d", i+1)))
		parts = append(parts, hosts[i])
	}
	guest = l.Host("guest")
	for _, h := range append(hosts, guest) {
		distinguish(t, h)
	}
	l.LAN(lab.Link{}, append(parts, guest)...)
	for _, h := range hosts {
		robots = append(robots, fleet.Start(t, h, configuration))
	}
	fleet.Trust(robots...)
	for _, r := range robots {
		written(t, r, "environment", "CYCLONEDDS_URI")
	}
	return robots, guest
}

// written waits until hnetd has written a file with the text.
func written(t *testing.T, r *fleet.Robot, name, text string) {
	t.Helper()
	lab.Eventually(t, patience, name+" with "+text, func() error {
		b, err := os.ReadFile(r.Path(profileFolder + name))
		if err == nil && !strings.Contains(string(b), text) {
			err = fmt.Errorf("it has\n%s", b)
		}
		return err
	})
}

// inForce starts a program as a user would, in a shell with the profiles in force.
func inForce(t *testing.T, r *fleet.Robot, before, vendor string, args ...string) *lab.Process {
	t.Helper()
	script := before + "\n" + `eval "$("$0" dds env --cyclone ` + string(cycloneVersion()) + `)" && exec "$@"`
	args = append([]string{"-c", script, fleet.Binary(t, "hnet"), peer(t, vendor)}, args...)
	return r.Start(t, "sh", args...)
}

// TestEnvironment has programs of all vendors find and hear each other by what hnetd writes and 'hnet dds env' prints, without a word of the
// libraries against it, in both modes.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	for name, configuration := range map[string]string{
		"both": "dds: {mode: both}\nipv4: \"off\"\n", "overlay": "dds: {mode: overlay}\n", "both_ipv4": "dds: {mode: both}\nipv4: auto\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			robots, _ := fleetOf(t, configuration, 2)
			if name == "both_ipv4" {
				for _, r := range robots {
					written(t, r, "cyclonedds-0.10.xml", "<Transport>udp</Transport>")
				}
			}
			began := time.Now()
			var running []*lab.Process
			var names []string
			for _, r := range robots {
				for _, v := range vendors {
					name := r.Name() + "-" + v
					names = append(names, name)
					running = append(running, inForce(t, r, "", v, "both", "--name", name, "--count", "0", "--rate", "10"))
				}
			}
			for i, p := range running {
				p.WaitLine(`^ready$`, patience)
				for j, name := range names {
					if i != j {
						p.WaitLine("^received "+name+" ", patience)
						t.Logf("%s heard %s by %v", names[i], name, time.Since(began).Round(time.Millisecond))
					}
				}
				for line := range strings.Lines(p.Output()) {
					if strings.HasPrefix(line, "error") || strings.HasPrefix(line, "warning") || strings.Contains(line, "config:") {
						t.Errorf("%s: the library says: %s", names[i], line)
					}
				}
			}
		})
	}
}

// TestLANBeside has Fast DDS programs hear one on the LAN that has no overlay and no profile, and each other.
func TestLANBeside(t *testing.T) {
	robots, guest := fleetOf(t, "ipv4: \"off\"\n", 2)
	a := inForce(t, robots[0], "", fastdds, "both", "--name", "robot1", "--count", "0", "--rate", "10")
	b := inForce(t, robots[1], "", fastdds, "both", "--name", "robot2", "--count", "0", "--rate", "10")
	c := guest.Start(t, peer(t, fastdds), "both", "--name", "guest", "--count", "0", "--rate", "10")
	for p, others := range map[*lab.Process][]string{a: {"robot2", "guest"}, b: {"robot1", "guest"}, c: {"robot1", "robot2"}} {
		for _, name := range others {
			p.WaitLine("^received "+name+" ", patience)
		}
	}
}

// TestOwnProfiles sees that what the user has in the environment counts beside what hnetd writes.
func TestOwnProfiles(t *testing.T) {
	robots, _ := fleetOf(t, "dds: {mode: overlay}\nipv4: \"off\"\n", 2)
	a, b := robots[0], robots[1]
	// Where both say something, the user's counts.
	a.Write("/etc/hnet/own.xml", `<CycloneDDS><Domain><General><MaxMessageSize>1100B</MaxMessageSize></General><Tracing><Verbosity>config</Verbosity><OutputFile>/run/trace</OutputFile></Tracing></Domain></CycloneDDS>`)
	a.Write("/etc/hnet/fast.xml", `<dds><profiles><participant profile_name="mine" is_default_profile="true"><rtps><name>mine</name></rtps></participant></profiles></dds>`)
	own := "export CYCLONEDDS_URI=file:///etc/hnet/own.xml FASTRTPS_DEFAULT_PROFILES_FILE=/etc/hnet/fast.xml HOME=/etc/hnet"
	for _, v := range vendors {
		p := inForce(t, a, own, v, "both", "--name", "robot1", "--count", "0")
		q := inForce(t, b, "", v, "both", "--name", "robot2", "--count", "0")
		p.WaitLine("^received robot2 ", patience)
		q.WaitLine("^received robot1 ", patience)
		if v == cyclone {
			trace, err := os.ReadFile(a.Path("/run/trace"))
			for _, setting := range []string{"MaxMessageSize/#text: 1100 B", "Interfaces/NetworkInterface[@name]: hnet0", "FragmentSize/#text: 1080 B"} {
				if !strings.Contains(string(trace), "config: Domain/General/"+setting) {
					t.Errorf("not in force: %s (%v)", setting, err)
				}
			}
		}
		p.Stop()
		q.Stop()
	}
}

// TestFollows sees that files follow what they depend on, and are kept where nothing changes.
func TestFollows(t *testing.T) {
	t.Parallel()
	robots, _ := fleetOf(t, "ipv4: \"off\"\n", 2)
	a, b := robots[0], robots[1]
	written(t, a, "zenoh-router.json5", "tcp/["+b.Address.String()+"]:7447")
	before, err := os.Stat(a.Path(profileFolder + "fastdds-2.xml"))
	if err != nil {
		t.Fatal(err)
	}
	a.Hnet("whitelist", "rm", b.Address.String())
	written(t, a, "zenoh-router.json5", "Routers of the whitelisted hosts: 0.")
	after, err := os.Stat(a.Path(profileFolder + "fastdds-2.xml"))
	if err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Errorf("the Fast DDS profile was written again: %v", err)
	}
	// Everybody may read them, though the state folder is root's.
	for _, folder := range []string{"/var/lib/hnet", "/var/lib/hnet/dds"} {
		if info, err := os.Stat(a.Path(folder)); err != nil || info.Mode()&0o011 != 0o011 {
			t.Errorf("%s: %v, %v", folder, info.Mode(), err)
		}
	}
	// What somebody damaged is mended.
	if err := os.WriteFile(a.Path(profileFolder+"cyclonedds-0.10.xml"), []byte("<CycloneDDS/>"), 0o644); err != nil {
		t.Fatal(err)
	}
	written(t, a, "cyclonedds-0.10.xml", "]:7402")
	// They outlive hnetd, and work without it.
	a.Hnet("down")
	if out, code := a.TryHnet("dds", "env"); code != 0 || !strings.Contains(out, "export CYCLONEDDS_URI='file://"+profileFolder) {
		t.Errorf("exit code %d: %s", code, out)
	}
}
