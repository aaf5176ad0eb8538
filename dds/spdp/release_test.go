package spdp

import (
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

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

// TestOrigin finds the program that has a socket, and what it was started for.
func TestOrigin(t *testing.T) {
	link := func(to string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink} }
	text := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	proc := fstest.MapFS{
		"net/udp6": text(""), "self": link("10"),
		"10/fd/0": link("/dev/null"), "10/fd/7": link("socket:[71]"), "10/environ": text("HOME=/\x00ROS_DISTRO=humble\x00"),
		"11/fd/7": link("socket:[72]"), "11/environ": text("AMENT_PREFIX_PATH=/home/me/ws/install/humble:/opt/ros/jazzy\x00ROS_DISTRO=mine\x00"),
		"12/fd/7": link("socket:[73]"), "12/environ": text("HOME=/\x00PATH=/opt/ros/humble/bin\x00"),
		"13/fd/7": link("socket:[74]"),
		"14/fd":   text("not a folder"),
	}
	for inode, want := range map[uint64]Release{71: Humble, 72: Iron, 73: Unknown, 74: Unknown, 75: Unknown} {
		if got := originOf(proc, []uint64{1000, inode}); got != want {
			t.Errorf("socket %d: %v, want %v", inode, got, want)
		}
	}
	if got := originOf(proc, nil); got != Unknown {
		t.Errorf("no socket: %v", got)
	}
	if got := originOf(fstest.MapFS{}, []uint64{71}); got != Unknown {
		t.Errorf("no /proc: %v", got)
	}
}

// TestMixedHost: programs of both generations on one host, each told of its own kind alone.
func TestMixedHost(t *testing.T) {
	w := newWorld(t, 2)
	of := map[uint16]Release{7410: Humble, 7412: Iron, 7414: Unknown}
	asked := 0
	for _, h := range w.hosts {
		h.release = Iron // of what does not tell
		h.detect = func(port uint16) Release { asked++; return of[port] }
	}
	list := w.populate(3)
	w.run(time.Minute)
	w.must(list, func(a, b *program) bool { return (a.port == 7410) == (b.port == 7410) }, "kept apart")
	if asked != len(list) {
		t.Errorf("asked %d times", asked)
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
	if r, sure := releaseOf(&d); r != Unknown || !sure {
		t.Error("our own participants are kept from some")
	}
}
