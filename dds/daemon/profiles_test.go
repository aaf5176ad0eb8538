package daemon

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

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
