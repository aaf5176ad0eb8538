package rtps

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// TestGuard sends with the source address of the host that it is sent to: from there it arrives, from elsewhere it does not.
func TestGuard(t *testing.T) {
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	l.LAN(lab.Link{}, a, b, lab.IPv6Only)
	own, other := a.Addr6("lan0"), b.Addr6("lan0")
	const port = 7411
	var d *direct
	if err := a.Do(func() (err error) {
		d, err = openDirect(true, port, false, false)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer d.close()
	many := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.IPv6Loopback()}
	for i := range 100 {
		many = append(many, netip.MustParseAddr(fmt.Sprintf("fd77::%d", i+1)))
	}
	send := func(h *lab.Host, from netip.Addr, text string) {
		t.Helper()
		if err := h.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1); err != nil {
				return err
			}
			if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: from.As16()}); err != nil {
				return err
			}
			return unix.Sendto(fd, []byte(text), 0, &unix.SockaddrInet6{Addr: own.As16(), Port: port})
		}); err != nil {
			t.Fatal(err)
		}
	}
	in := newInbox()
	receive := func() string {
		t.Helper()
		n, err := d.read(in)
		if err != nil || n != 1 {
			t.Fatal(n, err)
		}
		text, _ := d.at(in, 0)
		return string(text)
	}
	expect := func(want string) {
		t.Helper()
		if got := receive(); got != want {
			t.Errorf("%q arrives, not %q", got, want)
		}
	}
	send(b, own, "forged")
	expect("forged") // so the test can forge
	for _, list := range [][]netip.Addr{{own}, append([]netip.Addr{own}, many...), append(many[:10:10], own)} {
		if err := guard(d.fd, list); err != nil {
			t.Fatal(err)
		}
		send(b, own, "forged")
		send(b, other, "of b")
		expect("of b")
		send(a, own, "of a")
		expect("of a")
	}
	if err := guard(d.fd, nil); err != nil {
		t.Fatal(err)
	}
	send(b, own, "forged")
	expect("forged")
}
