package spdp

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/machine"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

func TestDetectRelease(t *testing.T) {
	for name, c := range map[string]struct {
		folders []string
		want    Release
	}{
		"none": {nil, Unknown}, "humble": {[]string{"humble"}, Humble}, "jazzy": {[]string{"jazzy"}, Iron},
		"two of a kind": {[]string{"jazzy", "kilted"}, Iron}, "both kinds": {[]string{"humble", "jazzy"}, Unknown},
		"something else": {[]string{"my_robot", "humble"}, Humble},
	} {
		tree := fstest.MapFS{}
		for _, f := range c.folders {
			tree[f] = &fstest.MapFile{Mode: fs.ModeDir}
		}
		if got := DetectRelease(tree); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if _, err := ParseRelease("melodic"); err == nil {
		t.Error("melodic accepted")
	}
}

// TestAgreement: what is written down in two places is the same in both.
func TestAgreement(t *testing.T) {
	if LocalPort != profile.RelayPort {
		t.Errorf("the relay listens on %d, profiles name %d", LocalPort, profile.RelayPort)
	}
	if ownVendor != machine.Vendor {
		t.Errorf("vendor %v here, %v in the ROS stack", ownVendor, machine.Vendor)
	}
	if _, offset := portRule(LocalPort); offset < 2 || offset >= 10 {
		t.Errorf("port %d belongs to DDS", LocalPort)
	}
	d := wire.ParticipantData{Vendor: machine.Vendor}
	if releaseOf(&d, Humble) != Unknown {
		t.Error("our own participants are kept from some")
	}
}
