package profile

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	own, robot2, robot3 := netip.MustParseAddr("fc94::1"), netip.MustParseAddr("fc94:0:0:0:0:0:0:2"), netip.MustParseAddr("fc94::3")
	p := Params{Interface: "hnet0", Address: own, Peers: []netip.Addr{robot2}}
	cyclone, err := Cyclone(p)
	if err != nil {
		t.Fatal(err)
	}
	fast, err := FastDDS(p)
	if err != nil {
		t.Fatal(err)
	}
	more := p
	more.Peers = []netip.Addr{robot2, robot3}
	relay := p
	relay.Relay = true
	relayed, err := Cyclone(relay)
	if err != nil {
		t.Fatal(err)
	}
	fastRelayed, err := FastDDS(relay)
	if err != nil {
		t.Fatal(err)
	}
	moved := p
	moved.Interface, moved.Address = "hnet1", robot3
	moved.Peers = nil
	for _, c := range []struct {
		name, text string
		p          Params
		want       string // in the problem, "" = none
		stale      bool
	}{
		{"our Cyclone profile", string(cyclone), p, "", false},
		{"our Fast DDS profile", string(fast), p, "", false},
		{"a new peer, Cyclone", string(cyclone), more, "fc94::3", true},
		{"a new peer, Fast DDS", string(fast), more, "fc94::3", true},
		{"another host's, Fast DDS", string(fast), moved, "another address", true},
		{"Cyclone, relay", string(relayed), relay, "", false},
		{"Fast DDS, relay", string(fastRelayed), relay, "", false},
		{"Cyclone, relay wanted", string(cyclone), relay, "discovery relay", true},
		{"Fast DDS, relay wanted", string(fast), relay, "discovery relay", true},
		{"cut off", string(cyclone[:len(cyclone)/2]), p, "no valid XML", false},
		{"empty", "", p, "no valid XML", false},
		{"the LAN alone", "<CycloneDDS><Domain><General/></Domain></CycloneDDS>", p, "does not mention the overlay", false},
		{"in a comment alone", "<a><!-- hnet0 fc94::1 --></a>", p, "does not mention the overlay", false},
		{"too long", strings.Repeat(" ", MaxProfile+1), p, "larger", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Check([]byte(c.text), c.p)
			switch {
			case got == nil && c.want != "":
				t.Errorf("nothing found, want %q", c.want)
			case got != nil && (c.want == "" || !strings.Contains(got.Text, c.want) || got.Stale != c.stale):
				t.Errorf("%+v, want %q", *got, c.want)
			}
		})
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte("<a b='fc94::1'>hnet0</a>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		Check(b, Params{Interface: "hnet0", Address: netip.MustParseAddr("fc94::1")})
	})
}
