package internet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	natpmp "github.com/jackpal/go-nat-pmp"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// serve answers every TCP connection with the address it comes from and what is sent.
func serve(t *testing.T, on doer, at string) {
	t.Helper()
	var l net.Listener
	if err := on.Do(func() (err error) { l, err = net.Listen("tcp", at); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintln(c, c.RemoteAddr())
				io.Copy(c, c)
			}()
		}
	}()
}

// connect dials and returns the address that the other side sees.
func connect(on doer, to netip.AddrPort, timeout time.Duration) (seen string, err error) {
	var c net.Conn
	if err := on.Do(func() (err error) { c, err = net.DialTimeout("tcp", to.String(), timeout); return err }); err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	seen, err = bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(seen), err
}

// short is how long something is waited for that must not come: the packet is dropped at once or never.
const short = 50 * time.Millisecond

func TestTCPThroughEveryKind(t *testing.T) {
	w := newWorld(t)
	serve(t, w.base1, ":443")
	serve(t, w.base1, ":8443")
	for i, kind := range Kinds {
		t.Run(string(kind), func(t *testing.T) {
			s := w.Site(fmt.Sprintf("site%d", i), kind)
			h := s.Host(fmt.Sprintf("host%d", i))
			target := w.base1.Addr4("lan0")
			if kind == IPv6Only {
				target = w.base1.Addr6("lan0")
			}
			for _, port := range []uint16{443, 8443} {
				pass := kind != ProxyOnly && (kind != HTTPSOnly || port == 443)
				timeout := short
				if pass {
					timeout = patience
				}
				seen, err := connect(h, netip.AddrPortFrom(target, port), timeout)
				if !pass {
					if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
						t.Errorf("TCP to port %d: %v", port, err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("TCP to port %d: %v", port, err)
				}
				outside := kind == Public || kind == IPv4Only || kind == IPv6Only
				if from, err := netip.ParseAddrPort(seen); err != nil || from.Addr().IsPrivate() || outside != (from.Addr() == pick(h.Addrs(), target)) {
					t.Errorf("seen from %s (%v), it has %v", seen, err, h.Addrs())
				}
			}
			switch kind {
			case UDPBlocked, HTTPSOnly, ProxyOnly:
				c := listen(t, h, "0.0.0.0:5582")
				send(t, c, w.a11, "swallowed")
				c53 := listen(t, h, "0.0.0.0:5583")
				dns := listen(t, w.base2, fmt.Sprintf("0.0.0.0:%d", 53))
				defer dns.Close()
				if kind == HTTPSOnly {
					observed(t, c53, dns, at(w.base2, dns))
				}
				w.s11.SetReadDeadline(time.Now().Add(short))
				if _, from, err := w.s11.ReadFromUDPAddrPort(make([]byte, 10)); err == nil {
					t.Errorf("UDP passed from %v", from)
				}
			}
		})
	}
}

// pick returns the address of the same family.
func pick(addrs []netip.Addr, like netip.Addr) netip.Addr {
	for _, a := range addrs {
		if a.Is4() == like.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

func TestProxy(t *testing.T) {
	w := newWorld(t)
	serve(t, w.base1, ":443")
	s := w.Site("site", ProxyOnly)
	h := s.Host("host")
	ask := func(method, target string) (status int, answer string) {
		t.Helper()
		var c net.Conn
		err := h.Do(func() (err error) {
			c, err = net.DialTimeout("tcp", strings.TrimPrefix(s.Proxy.URL(), "http://"), patience)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: base1\r\n\r\nhello\n", method, target)
		b := bufio.NewReader(c)
		response, err := http.ReadResponse(b, &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusOK {
			return response.StatusCode, ""
		}
		b.ReadString('\n')
		answer, _ = b.ReadString('\n')
		return response.StatusCode, answer
	}
	base := w.base1.Addr4("lan0")
	for _, target := range []string{netip.AddrPortFrom(base, 443).String(), "base1:443"} {
		if status, answer := ask("CONNECT", target); status != http.StatusOK || answer != "hello\n" {
			t.Errorf("CONNECT %s: %d, %q", target, status, answer)
		}
	}
	if n := s.Proxy.Tunnels(); n != 2 {
		t.Errorf("%d tunnels", n)
	}
	for target, want := range map[string]int{"nowhere:443": http.StatusBadGateway, netip.AddrPortFrom(base, 444).String(): http.StatusBadGateway, "base1": http.StatusBadGateway} {
		if status, _ := ask("CONNECT", target); status != want {
			t.Errorf("CONNECT %s: %d, want %d", target, status, want)
		}
	}
	if status, _ := ask("GET", "http://base1/"); status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", status)
	}
}

func TestFirewalls(t *testing.T) {
	w := newWorld(t)
	for _, kind := range []Kind{IPv4Only, IPv6Only} {
		t.Run(string(kind), func(t *testing.T) {
			name := strings.ToLower(strings.ReplaceAll(string(kind), " ", "-"))
			h := w.Site(name, kind).Host(name + "-host")
			if a := h.Addrs(); len(a) != 1 || a[0].Is4() != (kind == IPv4Only) || a[0].IsPrivate() {
				t.Fatalf("addresses %v", a)
			}
			c, base := listen(t, h, ":5582"), listen(t, w.base1, ":0")
			inside := at(h, c)
			outside := netip.AddrPortFrom(pick(w.base1.Addrs(), inside.Addr()), at(w.base1, base).Port())
			send(t, base, inside, "unasked")
			if seen := observed(t, c, base, outside); seen != inside {
				t.Errorf("seen as %v, it is %v", seen, inside)
			}
			send(t, base, inside, "asked for")
			hears(t, c, "asked for", outside)
		})
	}
}

// TestUPnP maps a port by NAT-PMP through a NAT that is symmetric otherwise.
func TestUPnP(t *testing.T) {
	w := newWorld(t)
	s := w.Site("site", UPnP)
	h := s.Host("host")
	c := listen(t, h, "0.0.0.0:5582")
	first := observed(t, c, w.s11, w.a11)
	if second := observed(t, c, w.s12, w.a12); second == first {
		t.Errorf("mapping does not depend on the destination: %v twice", first)
	}
	var mapped *natpmp.AddPortMappingResult
	var external *natpmp.GetExternalAddressResult
	err := h.Do(func() (err error) {
		client := natpmp.NewClientWithTimeout(net.IP(s.Router.Addr4("lan1").AsSlice()), patience)
		if external, err = client.GetExternalAddress(); err != nil {
			return err
		}
		mapped, err = client.AddPortMapping("udp", 5582, 5582, 600)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	public := netip.AddrPortFrom(netip.AddrFrom4(external.ExternalIPAddress), mapped.MappedExternalPort)
	if public.Addr() != first.Addr() {
		t.Errorf("the router says it is %v, seen is %v", public.Addr(), first.Addr())
	}
	send(t, w.s21, public, "unasked")
	hears(t, c, "unasked", w.a21)
	send(t, c, w.a21, "answer")
	hears(t, w.s21, "answer", public)
}

func TestMoveAndUplinks(t *testing.T) {
	w := newWorld(t)
	wifi, office, lte := w.Site("wifi", LinuxNATFiltered), w.Site("office", PortRestricted), w.Site("lte", DoubleNAT)
	v6 := w.Site("v6", IPv6Only)
	h := wifi.Host("robot")
	h.Connect(lte)
	c := listen(t, h, "0.0.0.0:5582")
	via := func(s *Site, where string) {
		t.Helper()
		public := netip.Addr{}
		if s.Kind == DoubleNAT {
			public = first(s.place.access4)
		} else {
			public = second(s.place.access4)
		}
		if seen := observed(t, c, w.s11, w.a11); seen.Addr() != public {
			t.Errorf("%s: seen from %v, want %v", where, seen, public)
		}
	}
	via(wifi, "both uplinks")
	h.Unplug(wifi)
	via(lte, "Wi-Fi unplugged")
	h.Plug(wifi)
	via(wifi, "plugged again")
	dev := h.Device(wifi)
	h.Move(wifi, office)
	if h.Device(office) != dev {
		t.Errorf("the device was %s and is %s", dev, h.Device(office))
	}
	via(office, "moved")
	h.Move(office, v6)
	via(lte, "the first uplink has IPv6 alone")
	h.Cut(lte)
	send(t, c, w.a11, "swallowed")
	h.Restore(lte)
	via(lte, "restored")
}

func TestNamesOfBases(t *testing.T) {
	n := New(t, lab.New(t))
	h := n.Site("site", LinuxNATFiltered).Host("host")
	base := n.Base("base1")
	v4 := n.Base("base2", IPv4)
	if a := base.Addrs(); len(a) != 2 || !a[0].Is4() || a[1].Is4() {
		t.Errorf("base1 has %v", a)
	}
	if a := v4.Addrs(); len(a) != 1 || !a[0].Is4() {
		t.Errorf("base2 has %v", a)
	}
	for _, b := range []*Host{base, v4} {
		for _, from := range []*Host{h, base, v4} {
			out, err := from.Command(context.Background(), "getent", "ahosts", b.Name()).CombinedOutput()
			if err != nil || !strings.Contains(string(out), b.Addrs()[0].String()) {
				t.Errorf("%s is not found from %s: %v\n%s", b.Name(), from.Name(), err, out)
			}
		}
	}
}

// TestThroughput: the user-space NAT is not what a test waits for.
func TestThroughput(t *testing.T) {
	w := newWorld(t)
	h := w.Site("site", PortRestricted).Host("host")
	var l net.Listener
	if err := w.base1.Do(func() (err error) { l, err = net.Listen("tcp", ":443"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 16 << 20
	var c net.Conn
	if err := h.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", netip.AddrPortFrom(w.base1.Addr4("lan0"), 443).String(), patience)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	begin := time.Now()
	go c.Write(make([]byte, size))
	if _, err := io.CopyN(io.Discard, in, size); err != nil {
		t.Fatal(err)
	}
	t.Logf("%.0f Mbit/s", size*8/time.Since(begin).Seconds()/1e6)
}
