package host

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// look4 lists the IPv4 addresses and routes of hnet0.
func look4(t *testing.T) (list []string) {
	t.Helper()
	for _, line := range strings.Split(ip(t, "-4", "-o", "addr", "show", "dev", "hnet0"), "\n") {
		if f := strings.Fields(line); len(f) > 3 {
			list = append(list, f[3])
		}
	}
	for _, line := range strings.Split(ip(t, "-4", "route", "show", "dev", "hnet0"), "\n") {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			list = append(list, line)
		}
	}
	slices.Sort(list)
	return list
}

func expect4(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, look4(t)); diff != "" {
		t.Fatalf("hnet0 (-want +got):\n%s", diff)
	}
}

func TestSetIPv4(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		h := quiet()
		must(t, h.SetIPv4("hnet0", IPv4Spec{})) // no device, and nothing wanted
		open(t, spec)
		before := look(t, "hnet0")
		prefix, peer := netip.MustParsePrefix, netip.MustParseAddr
		must(t, h.SetIPv4("hnet0", IPv4Spec{}))
		expect4(t)
		must(t, h.SetIPv4("hnet0", IPv4Spec{Address: prefix("198.19.7.8/16"), RouteRange: true, Peers: []IPv4Peer{{peer("198.19.1.1"), 0}, {peer("198.18.2.2"), 1400}}}))
		all := []string{
			"198.19.7.8/16",
			"198.19.0.0/16 proto 148 scope link src 198.19.7.8 metric 1024 mtu 1280",
			"198.19.1.1 proto 148 scope link src 198.19.7.8 metric 1024 mtu 1280",
			"198.18.2.2 proto 148 scope link src 198.19.7.8 metric 1024 mtu 1400",
		}
		expect4(t, all...)
		// The same again, after a restart too, touches nothing: what sockets are bound to lives on.
		ip(t, "route", "change", "198.19.1.1", "dev", "hnet0", "proto", "148", "scope", "link", "src", "198.19.7.8", "metric", "1024", "mtu", "1280", "realm", "7")
		must(t, quiet().SetIPv4("hnet0", IPv4Spec{Address: prefix("198.19.7.8/16"), RouteRange: true, Peers: []IPv4Peer{{peer("198.19.1.1"), 0}, {peer("198.18.2.2"), 1400}}}))
		if got := ip(t, "route", "show", "198.19.1.1"); !strings.Contains(got, "realm 7") {
			t.Errorf("a route that was right was replaced: %s", got)
		}
		// Another route MTU, a peer gone, the range no longer free.
		must(t, h.SetIPv4("hnet0", IPv4Spec{Address: prefix("198.19.7.8/16"), Peers: []IPv4Peer{{peer("198.18.2.2"), 1420}}}))
		expect4(t, "198.19.7.8/16", "198.18.2.2 proto 148 scope link src 198.19.7.8 metric 1024 mtu 1420")
		// Another address, of the same network and of another; what the administrator set stays.
		ip(t, "addr", "add", "10.9.8.7/32", "dev", "hnet0")
		ip(t, "route", "add", "10.9.9.0/24", "dev", "hnet0")
		must(t, h.SetIPv4("hnet0", IPv4Spec{Address: prefix("198.19.9.9/16"), Peers: []IPv4Peer{{peer("198.18.2.2"), 0}}}))
		expect4(t, "10.9.8.7/32", "10.9.9.0/24 scope link", "198.19.9.9/16", "198.18.2.2 proto 148 scope link src 198.19.9.9 metric 1024 mtu 1280")
		must(t, h.SetIPv4("hnet0", IPv4Spec{Address: prefix("250.94.9.9/16"), Peers: []IPv4Peer{{peer("198.18.2.2"), 0}}}))
		expect4(t, "10.9.8.7/32", "10.9.9.0/24 scope link", "250.94.9.9/16", "198.18.2.2 proto 148 scope link src 250.94.9.9 metric 1024 mtu 1280")
		must(t, h.SetIPv4("hnet0", IPv4Spec{}))
		expect4(t, "10.9.8.7/32", "10.9.9.0/24 scope link")
		ip(t, "route", "del", "10.9.9.0/24", "dev", "hnet0")
		ip(t, "addr", "del", "10.9.8.7/32", "dev", "hnet0")
		if diff := cmp.Diff(before, look(t, "hnet0")); diff != "" {
			t.Errorf("IPv6 changed (-before +after):\n%s", diff)
		}
	})
}

// TestIPv4SurvivesTheDaemon: a later daemon finds the device with its IPv4 address, and leaves it.
func TestIPv4SurvivesTheDaemon(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		file, _ := open(t, spec)
		s := IPv4Spec{Address: netip.MustParsePrefix("198.19.7.8/16"), RouteRange: true}
		must(t, quiet().SetIPv4("hnet0", s))
		file.Close()
		want := []string{"198.19.7.8/16", "198.19.0.0/16 proto 148 scope link src 198.19.7.8 metric 1024 mtu 1280"}
		open(t, spec)
		expect4(t, want...)
	})
}

func TestSetIPv4Refuses(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		open(t, spec)
		veth("fc95::/16")(t)
		h := quiet()
		prefix, peer := netip.MustParsePrefix, netip.MustParseAddr
		ok := prefix("198.19.7.8/16")
		with := func(a string, mtu int) IPv4Spec {
			return IPv4Spec{Address: ok, Peers: []IPv4Peer{{peer(a), mtu}}}
		}
		for name, err := range map[string]error{
			"no device":      h.SetIPv4("hnet9", IPv4Spec{Address: ok}),
			"not ours":       h.SetIPv4("v0", IPv4Spec{Address: ok}),
			"bad name":       h.SetIPv4("", IPv4Spec{Address: ok}),
			"public":         h.SetIPv4("hnet0", IPv4Spec{Address: prefix("8.8.8.8/16")}),
			"loopback":       h.SetIPv4("hnet0", IPv4Spec{Address: prefix("127.0.0.2/8")}),
			"all":            h.SetIPv4("hnet0", IPv4Spec{Address: prefix("10.1.1.1/0")}),
			"IPv6":           h.SetIPv4("hnet0", IPv4Spec{Address: prefix("fc94::1/16")}),
			"peer public":    h.SetIPv4("hnet0", with("8.8.8.8", 0)),
			"peer multicast": h.SetIPv4("hnet0", with("239.255.0.1", 0)),
			"peer broadcast": h.SetIPv4("hnet0", with("255.255.255.255", 0)),
			"peer zero":      h.SetIPv4("hnet0", with("0.0.0.0", 0)),
			"peer loopback":  h.SetIPv4("hnet0", with("127.0.0.1", 0)),
			"peer is own":    h.SetIPv4("hnet0", with("198.19.7.8", 0)),
			"mtu small":      h.SetIPv4("hnet0", with("198.19.1.1", 1279)),
			"mtu large":      h.SetIPv4("hnet0", with("198.19.1.1", 1421)),
		} {
			if err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", name, err)
			}
		}
		expect4(t)
	})
}
