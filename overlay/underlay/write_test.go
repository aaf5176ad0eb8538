package underlay

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The ways tried for one message, as long as all fail alike.
func TestRetry(t *testing.T) {
	type way struct{ Train, Source, Again bool }
	for name, test := range map[string]struct {
		errno  syscall.Errno
		train  bool
		source bool
		want   []way
	}{
		"no offload":              {syscall.EIO, true, false, []way{{true, false, false}, {false, false, false}}},
		"no offload, source kept": {syscall.EIO, true, true, []way{{true, true, false}, {false, true, false}}},
		"larger than the MTU": {syscall.EMSGSIZE, true, true, []way{
			{true, true, false}, {false, true, false}, {false, true, true}}},
		"larger than any datagram": {syscall.EMSGSIZE, false, false, []way{{false, false, false}, {false, false, true}}},
		"EINVAL tells nothing": {syscall.EINVAL, true, true, []way{
			{true, true, false}, {true, false, false}, {false, true, false}, {false, false, false}}},
		"EINVAL of a train":    {syscall.EINVAL, true, false, []way{{true, false, false}, {false, false, false}}},
		"EINVAL of a datagram": {syscall.EINVAL, false, false, []way{{false, false, false}}},
		"interface gone":       {syscall.ENODEV, false, true, []way{{false, true, false}, {false, false, false}}},
		"ICMP of before": {syscall.ECONNREFUSED, true, true, []way{
			{true, true, false}, {true, true, true}}},
		"no route": {syscall.ENETUNREACH, true, true, []way{
			{true, true, false}, {true, true, true}, {true, false, true}}},
		"socket broken": {syscall.EBADF, true, true, []way{{true, true, false}}},
	} {
		t.Run(name, func(t *testing.T) {
			var ways []way
			c, ok := cursor{}, true
			for ok && len(ways) < 10 {
				w := way{test.train && !c.single, test.source && !c.bare, c.again}
				ways = append(ways, w)
				c, ok = c.retry(test.errno, w.Source, w.Train)
			}
			if diff := cmp.Diff(test.want, ways); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// After a device without checksum offload, datagrams are sent one by one for a
// minute, and trains after that.
func TestDistrust(t *testing.T) {
	for _, test := range []struct {
		name   string
		until  time.Time
		trains bool
	}{
		{"never refused", time.Time{}, true},
		{"refused", time.Now().Add(time.Hour), false},
		{"refused long ago", time.Now().Add(-time.Second), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := listen(t, "udp4"), listen(t, "udp4")
			a.writer.noTrains = test.until
			sent := []Message{{Buf: randomBytes(4000), Segment: 100, Remote: b.at("udp4")}}
			if n, err := a.WriteBatch(sent); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			_, messages := check(t, b, sent)
			if trains := messages == 1; trains != test.trains {
				t.Errorf("40 datagrams came in %d messages", messages)
			}
		})
	}
}

func TestEncodeEndpoint(t *testing.T) {
	const fallback = 7
	for remote, want := range map[string]struct {
		length uint32
		scope  uint32
	}{
		"[fe80::1]:9":        {unix.SizeofSockaddrInet6, fallback},
		"[fe80::1%3]:9":      {unix.SizeofSockaddrInet6, 3},
		"[ff02::1]:9":        {unix.SizeofSockaddrInet6, fallback},
		"[2001:db8::1]:9":    {unix.SizeofSockaddrInet6, 0},
		"[fe80::1%eth0]:9":   {},
		"[::ffff:1.2.3.4]:9": {},
		"1.2.3.4:9":          {},
		"[2001:db8::1]:0":    {},
	} {
		var sa sockaddr
		length := encodeEndpoint(&sa, netip.MustParseAddrPort(remote), true, fallback)
		if length != want.length || sa.Scope_id != want.scope {
			t.Errorf("%s: length %d, scope %d, want %d", remote, length, sa.Scope_id, want)
		}
	}
	for remote, want := range map[string]uint32{
		"1.2.3.4:9": unix.SizeofSockaddrInet4, "[::ffff:1.2.3.4]:9": unix.SizeofSockaddrInet4, "[2001:db8::1]:9": 0, "1.2.3.4:0": 0,
	} {
		var sa sockaddr
		if length := encodeEndpoint(&sa, netip.MustParseAddrPort(remote), false, fallback); length != want {
			t.Errorf("%s: length %d, want %d", remote, length, want)
		}
	}
}

func TestParseZone(t *testing.T) {
	for zone, want := range map[string]uint32{"": 0, "1": 1, "43210": 43210, "4294967295": 1<<32 - 1} {
		if got, ok := parseZone(zone); !ok || got != want {
			t.Errorf("%q: %d, %v", zone, got, ok)
		}
	}
	for _, zone := range []string{"eth0", "4294967296", "99999999999", "1 ", "-1", "+1", "٣"} {
		if got, ok := parseZone(zone); ok {
			t.Errorf("%q was taken for %d", zone, got)
		}
	}
}

// The names of interfaces that come and go are not kept for ever.
func TestZonesAreBounded(t *testing.T) {
	z := zones{}
	addr := netip.MustParseAddr("fe80::1")
	for i := range uint32(10 * maxZones) {
		if got, ok := parseZone(z.scope(addr, i+1).Zone()); !ok || got != i+1 {
			t.Fatalf("interface %d became %d", i+1, got)
		}
	}
	if len(z) > maxZones {
		t.Errorf("%d names kept", len(z))
	}
}

// Control messages of any content are read without a panic.
func FuzzControl(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		var c control
		n := copy(c.bytes()[:], b)
		var m Message
		c.decode(&m, n, 0)
		if m.Local.Addr.IsMulticast() && m.Local.Addr.Is6() {
			t.Errorf("source %v", m.Local)
		}
	})
}
