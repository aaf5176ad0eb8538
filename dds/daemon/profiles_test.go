package daemon

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
)

// TestProfilesAreMadeOnce: as long as nothing that they are made of changes.
func TestProfilesAreMadeOnce(t *testing.T) {
	a, b := netip.MustParseAddr("fc94::1"), netip.MustParseAddr("fc94::2")
	k := &profileKeeper{}
	var last *byte
	for _, step := range []struct {
		name    string
		change  func(*profile.Params)
		cyclone profile.CycloneVersion
		anew    bool
	}{
		{"first", func(*profile.Params) {}, profile.Cyclone010, true},
		{"same", func(*profile.Params) {}, profile.Cyclone010, false},
		{"another peer", func(p *profile.Params) { p.Peers = append(p.Peers, b) }, profile.Cyclone010, true},
		{"same again", func(p *profile.Params) { p.Peers = append(p.Peers, b) }, profile.Cyclone010, false},
		{"a LAN", func(p *profile.Params) { p.LAN = []string{"eth0"} }, profile.Cyclone010, true},
		{"another release", func(p *profile.Params) { p.LAN = []string{"eth0"} }, profile.CycloneV11, true},
	} {
		p := profile.Params{Interface: "hnet0", Address: netip.MustParseAddr("fc94::9"), Peers: []netip.Addr{a}}
		step.change(&p)
		files, err := k.set(p, t.TempDir(), step.cyclone)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", step.name, len(files), err)
		}
		if now := &files[0].Data[0]; (now != last) != step.anew {
			t.Errorf("%s: made anew: %v, want %v", step.name, now != last, step.anew)
		} else {
			last = now
		}
	}
}

func TestOpenFolder(t *testing.T) {
	for _, test := range []struct {
		dir        string // below the state folder, or absolute
		mode, want os.FileMode
	}{
		{"dds", 0o700, 0o711}, {"dds", 0o755, 0o755}, {"a/dds", 0o750, 0o751}, {"/var/lib/else", 0o700, 0o700}, {"../else", 0o700, 0o700},
	} {
		state := filepath.Join(t.TempDir(), "state")
		if err := os.Mkdir(state, test.mode); err != nil {
			t.Fatal(err)
		}
		dir := test.dir
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(state, dir)
		}
		if err := openFolder(state, dir); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(state); err != nil || info.Mode().Perm() != test.want {
			t.Errorf("%s, mode %o: %v, %v", test.dir, test.mode, info.Mode(), err)
		}
	}
	if err := openFolder(filepath.Join(t.TempDir(), "none"), "/"); err != nil {
		t.Error(err)
	}
}

// TestLANInterfaces looks at the interfaces of this machine, whatever they are.
func TestLANInterfaces(t *testing.T) {
	all := lanInterfaces("hnet0")
	if slices.Contains(all, "lo") || len(all) > 3 {
		t.Errorf("%v", all)
	}
	for _, name := range all {
		if i, err := net.InterfaceByName(name); err != nil || !ipv4Of(i).IsValid() {
			t.Errorf("%s has no IPv4 address: %v", name, err)
		}
		if slices.Contains(lanInterfaces(name), name) {
			t.Errorf("the overlay's own interface %s is taken for a LAN", name)
		}
	}
}

// TestInstalledCyclone is looked for rarely.
func TestInstalledCyclone(t *testing.T) {
	root := fstest.MapFS{}
	k := &profileKeeper{system: root}
	now := time.Now()
	if got := k.installed(now); got != profile.Cyclone010 {
		t.Errorf("nothing is installed: %q", got)
	}
	root["usr/lib/x86_64-linux-gnu/libddsc.so.11.0.1"] = &fstest.MapFile{}
	if got := k.installed(now.Add(cycloneEvery - 1)); got != profile.Cyclone010 {
		t.Errorf("looked at before it was time: %q", got)
	}
	if got := k.installed(now.Add(cycloneEvery)); got != profile.CycloneV11 {
		t.Errorf("a minute after it was installed: %q", got)
	}
}
