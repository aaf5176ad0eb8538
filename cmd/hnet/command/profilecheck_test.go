package command

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
)

func TestCheckProfile(t *testing.T) {
	p := profile.Params{Interface: "hnet0", Address: netip.MustParseAddr("fc94::1")}
	text, err := profile.Cyclone(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "cyclone.xml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		file: "", "file://" + file: "", string(text): "", file + "x": "no such file", "<a/>": "does not mention the overlay", t.TempDir(): "no valid XML",
	} {
		got := checkProfile(value, p)
		if (got == nil) != (want == "") || (got != nil && !strings.Contains(got.Text, want)) {
			t.Errorf("%.40s: %+v, want %q", value, got, want)
		}
	}
}
