package underlay

import (
	"net/netip"
	"testing"
)

// What is bound to an address or interface that is gone is not sent at all; what comes after it is.
func TestBound(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		a, b := listen(t, network), listen(t, network)
		dead := map[string]netip.Addr{"udp4": netip.MustParseAddr("192.0.2.7"), "udp6": netip.MustParseAddr("2001:db8::7")}[network]
		for _, local := range []Source{{Addr: dead}, {Interface: 1 << 30}, {dead, 1}, {loopback[network], 1 << 30}} {
			for _, segment := range []int{0, 100} {
				bound := Message{Buf: randomBytes(1000), Segment: segment, Remote: b.at(network), Local: local, Bound: true}
				after := Message{Buf: randomBytes(10), Remote: b.at(network)}
				if n, err := a.WriteBatch([]Message{bound, after}); n != 0 || err == nil {
					t.Fatalf("%v: %d, %v", local, n, err)
				}
				send(t, a, after)
				check(t, b, []Message{after})
			}
		}
		live := Message{Buf: randomBytes(1000), Segment: 100, Remote: b.at(network), Local: Source{Addr: loopback[network], Interface: 1}, Bound: true}
		send(t, a, live)
		check(t, b, []Message{live})
	})
}
