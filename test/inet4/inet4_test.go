// The tests are of the IPv4 addresses inside the overlay between real daemons in a lab: behind two NATs, with clashes, with a LAN in the same
// range, switched off.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	oi "github.com/hnet-robotics/hnet_bridge/overlay/inet4"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

const auto = "ipv4: auto\n"

// own is a robot's own IPv4 address in the overlay.
func own(r *fleet.Robot) netip.Addr {
	var s api.Status
	r.JSON(&s, "status")
	return s.IPv4
}

// agree waits until two robots use each other's IPv4 address, and returns both.
func agree(t *testing.T, a, b *fleet.Robot) (ofA, ofB netip.Addr) {
	t.Helper()
	lab.Eventually(t, patience, "IPv4 between "+a.Name()+" and "+b.Name(), func() error {
		ofA, ofB = own(a), own(b)
		for _, x := range []struct {
			at, of *fleet.Robot
			want   netip.Addr
		}{{a, b, ofB}, {b, a, ofA}} {
			p, _ := x.at.Peer(x.of.Address)
			if !x.want.IsValid() || p.IPv4 != x.want {
				return fmt.Errorf("%s has %v for %s, which has %v", x.at.Name(), p.IPv4, x.of.Name(), x.want)
			}
		}
		return nil
	})
	return ofA, ofB
}

func connect(a, b *fleet.Robot) {
	a.Hnet("wait", "peer", b.Name(), "--timeout", patience.String())
}

// ping sends ICMP echoes of a size and wants all back.
func ping(t *testing.T, from *fleet.Robot, to netip.Addr, size int) {
	t.Helper()
	out := from.Run(t, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "10", "-s", fmt.Sprint(size), to.String())
	if !strings.Contains(out, " 0% packet loss") {
		t.Errorf("ping from %s to %v with %d B:\n%s", from.Name(), to, size, out)
	}
}

// talk exchanges TCP and UDP of all sorts of sizes.
func talk(t *testing.T, a, b *fleet.Robot, ofA, ofB netip.Addr) {
	t.Helper()
	for _, size := range []int{8, 1252, 1253, 8000, 60000} {
		ping(t, a, ofB, size)
	}
	// UDP.
	var here, there *net.UDPConn
	listen := func(r *fleet.Robot, at netip.Addr) (c *net.UDPConn) {
		if err := r.Do(func() (err error) {
			c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	here, there = listen(a, ofA), listen(b, ofB)
	target := there.LocalAddr().(*net.UDPAddr).AddrPort()
	go func() {
		buffer := make([]byte, 65535)
		for {
			n, from, err := there.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			there.WriteToUDPAddrPort(buffer[:n], from)
		}
	}()
	random := rand.NewChaCha8([32]byte{4})
	buffer := make([]byte, 65535)
	for _, size := range []int{0, 1, 500, 1232, 1252, 1253, 1400, 1472, 2000, 4000, 9000, 20000, 40000, 65507} {
		sent := make([]byte, size)
		random.Read(sent)
		back := false
		for range 5 { // a large one is many fragments
			if _, err := here.WriteToUDPAddrPort(sent, target); err != nil {
				t.Fatalf("UDP with %d B: %v", size, err)
			}
			here.SetReadDeadline(time.Now().Add(2 * time.Second))
			n, from, err := here.ReadFromUDPAddrPort(buffer)
			if err == nil && bytes.Equal(buffer[:n], sent) && from == target {
				back = true
				break
			}
		}
		if !back {
			t.Errorf("UDP with %d B did not come back", size)
		}
	}
	// TCP.
	var listener net.Listener
	if err := b.Do(func() (err error) {
		listener, err = net.Listen("tcp4", netip.AddrPortFrom(ofB, 0).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	sums := make(chan [32]byte, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		h := sha256.New()
		io.Copy(h, c)
		sums <- [32]byte(h.Sum(nil))
	}()
	data := make([]byte, 8<<20)
	random.Read(data)
	var c net.Conn
	if err := a.Do(func() (err error) {
		c, err = net.DialTimeout("tcp4", listener.Addr().String(), 5*time.Second)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	began := time.Now()
	if _, err := c.Write(data); err != nil {
		t.Fatalf("TCP: %v", err)
	}
	c.(*net.TCPConn).CloseWrite()
	select {
	case got := <-sums:
		if got != sha256.Sum256(data) {
			t.Error("TCP: other bytes arrived than were sent")
		}
		t.Logf("TCP over IPv4: %.0f Mbit/s", float64(len(data))*8/time.Since(began).Seconds()/1e6)
	case <-time.After(time.Minute):
		t.Fatal("TCP: not all arrived within a minute")
	}
}

// inet are the IPv4 addresses and routes of hnet0, without what says whether it has a carrier.
func inet(t *testing.T, r *fleet.Robot) string {
	t.Helper()
	_, addresses, _ := strings.Cut(r.Run(t, "ip", "-4", "addr", "show", "dev", "hnet0"), "\n")
	return addresses + strings.NewReplacer(" dead", "", " linkdown", "").Replace(r.Run(t, "ip", "-4", "route", "show", "dev", "hnet0"))
}

// refused wants a connection to be turned down at once.
func refused(t *testing.T, from *fleet.Robot, to netip.Addr) {
	t.Helper()
	began := time.Now()
	err := from.Do(func() error {
		c, err := net.DialTimeout("tcp4", netip.AddrPortFrom(to, 9).String(), 5*time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
	if timeout := net.Error(nil); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%s to %v: %v after %v, want a refusal at once", from.Name(), to, err, time.Since(began))
	}
}

// TestBehindTwoNATs is the main job.
func TestBehindTwoNATs(t *testing.T) {
	l := lab.New(t)
	n := internet.New(t, l)
	base := fleet.StartBase(t, n.Base("base1").Host)
	config := "bases:\n" + base.Entry("base1") + auto
	home, office := n.Site("home", internet.PortRestricted), n.Site("office", internet.Symmetric)
	a := fleet.Start(t, home.Host("robot1").Host, config)
	b := fleet.Start(t, office.Host("robot2").Host, config)
	fleet.Trust(a, b)
	connect(a, b)
	ofA, ofB := agree(t, a, b)
	if ofA == ofB || !oi.DefaultRanges[0].Contains(ofA) || !oi.DefaultRanges[0].Contains(ofB) {
		t.Errorf("addresses %v and %v", ofA, ofB)
	}
	if got := strings.TrimSpace(a.Hnet("ip", "robot2", "-4")); got != ofB.String() {
		t.Errorf("'hnet ip robot2 -4' says %s, want %v", got, ofB)
	}
	if got := strings.TrimSpace(a.Hnet("ip", "robot1", "-4")); got != ofA.String() {
		t.Errorf("'hnet ip' of the own name says %s, want %v", got, ofA)
	}
	talk(t, a, b, ofA, ofB)
	refused(t, a, netip.MustParseAddr("198.19.1.1"))
	hosts := a.Run(t, "cat", "/etc/hosts")
	if strings.Contains(hosts, ofB.String()) {
		t.Errorf("an address that may change is in the hosts file:\n%s", hosts)
	}

	// hnet0 keeps its addresses while the daemon is dead, and the same ones after that.
	before := inet(t, a)
	a.Daemon.Kill9()
	if after := inet(t, a); after != before {
		t.Errorf("without the daemon:\n%s\nbefore:\n%s", after, before)
	}
	a.Restart()
	// A packet to the peer's IPv4 address alone brings contact about: it is known from the last run.
	ping(t, a, ofB, 100)
	if x, y := agree(t, a, b); x != ofA || y != ofB {
		t.Errorf("after a restart %v and %v, before %v and %v", x, y, ofA, ofB)
	}

	// Off: nothing of it is left, on both sides.
	a.Daemon.Stop()
	a.Configure(strings.TrimSuffix(config, auto) + "ipv4: off\n")
	a.Restart()
	if got := strings.TrimSpace(a.Run(t, "ip", "-4", "addr", "show", "dev", "hnet0") + a.Run(t, "ip", "-4", "route", "show", "dev", "hnet0")); got != "" {
		t.Errorf("switched off, hnet0 has:\n%s", got)
	}
	connect(a, b)
	lab.Eventually(t, patience, "robot2 knows that robot1 has no IPv4", func() error {
		if p, _ := b.Peer(a.Address); p.IPv4.IsValid() {
			return fmt.Errorf("it still has %v", p.IPv4)
		}
		return nil
	})
	refused(t, b, ofA)
	a.Hnet("ping", "robot2", "-c", "1")
}

// warnings are the codes of a robot's warnings.
func warnings(r *fleet.Robot) (codes []string) {
	var s api.Status
	r.JSON(&s, "status")
	for _, w := range s.Warnings {
		codes = append(codes, w.Code)
	}
	return codes
}

// TestClash: three robots that were given one address by an earlier run agree anew, and the one with the lowest overlay address keeps it.
func TestClash(t *testing.T) {
	l := lab.New(t)
	hosts := []*lab.Host{l.Host("robot1"), l.Host("robot2"), l.Host("robot3")}
	l.LAN(lab.Link{}, hosts[0], hosts[1], hosts[2])
	var robots []*fleet.Robot
	taken := netip.MustParseAddr("198.19.66.6")
	for _, h := range hosts {
		r := fleet.Start(t, h, auto)
		r.Daemon.Stop()
		b, err := json.Marshal(map[string]any{"version": 1, "address": taken, "settled": true, "left": []string{}, "peers": []string{}})
		if err != nil {
			t.Fatal(err)
		}
		r.Write("/var/lib/hnet/inet4.json", string(b))
		r.Restart()
		if got := own(r); got != taken {
			t.Fatalf("%s has %v, and was to have %v", r.Name(), got, taken)
		}
		robots = append(robots, r)
	}
	fleet.Trust(robots...)
	slices.SortFunc(robots, func(a, b *fleet.Robot) int { return a.Address.Compare(b.Address) })
	for i, a := range robots {
		for _, b := range robots[:i] {
			connect(a, b)
		}
	}
	seen := make(map[netip.Addr]bool)
	for i, a := range robots {
		for _, b := range robots[:i] {
			ofA, ofB := agree(t, a, b)
			ping(t, a, ofB, 1000)
			seen[ofA], seen[ofB] = true, true
		}
	}
	if len(seen) != 3 || own(robots[0]) != taken {
		t.Errorf("addresses %v; the lowest has %v", seen, own(robots[0]))
	}
	for _, r := range robots {
		if got := strings.Count(r.Run(t, "ip", "-4", "-o", "addr", "show", "dev", "hnet0"), "inet "); got != 1 {
			t.Errorf("%s has %d IPv4 addresses on hnet0", r.Name(), got)
		}
		for _, code := range warnings(r) {
			if strings.HasPrefix(code, "ipv4") {
				t.Errorf("%s warns of %s", r.Name(), code)
			}
		}
	}
}

// TestLANInTheRange: a host whose LAN has the range takes another, never leads the LAN's traffic into the overlay, and is told why when there is none.
func TestLANInTheRange(t *testing.T) {
	l := lab.New(t)
	a, b, printer := l.Host("robot1"), l.Host("robot2"), l.Host("printer")
	lan := l.LAN(lab.Link{}, a, b)
	_ = lan
	office := l.LAN(lab.Link{}, lab.Prefixes{IPv4: netip.MustParsePrefix("198.19.0.0/16")}, a, printer)
	_ = office
	r1, r2 := fleet.Start(t, a, auto), fleet.Start(t, b, auto)
	fleet.Trust(r1, r2)
	connect(r1, r2)
	lab.Eventually(t, patience, "an address of another range", func() error {
		if x := own(r1); !oi.DefaultRanges[1].Contains(x) {
			return fmt.Errorf("robot1 has %v", x)
		}
		return nil
	})
	// robot2, which nobody used before, moves to where its only peer can use it.
	ofA, ofB := agree(t, r1, r2)
	if !oi.DefaultRanges[1].Contains(ofB) {
		t.Errorf("robot2 has %v", ofB)
	}
	talk(t, r1, r2, ofA, ofB)
	addr := printer.Addr4("lan0")
	ping(t, r1, addr, 100)
	if out := r1.Run(t, "ip", "route", "get", "198.19.55.5"); strings.Contains(out, "hnet0") {
		t.Errorf("the LAN's addresses lead into the overlay: %s", out)
	}

	// Robot2 comes to a network that has its address now, and both other ranges are taken: no address, a reason, and IPv6 works on.
	for _, cidr := range []string{"198.18.0.1/15", "250.0.0.1/8"} {
		r2.Run(t, "ip", "addr", "add", cidr, "dev", "lo")
	}
	lab.Eventually(t, patience, "the warning that no range is free", func() error {
		if x := own(r2); x.IsValid() || !slices.Contains(warnings(r2), "ipv4_range") {
			return fmt.Errorf("it has %v and warns of %v", x, warnings(r2))
		}
		return nil
	})
	if got := strings.TrimSpace(r2.Run(t, "ip", "-4", "route", "show", "dev", "hnet0")); got != "" {
		t.Errorf("routes of hnet0 that nothing should have: %s", got)
	}
	r2.Hnet("ping", "robot1", "-c", "1")
	for _, cidr := range []string{"198.18.0.1/15", "250.0.0.1/8"} {
		r2.Run(t, "ip", "addr", "del", cidr, "dev", "lo")
	}
	agree(t, r1, r2)
	if slices.Contains(warnings(r2), "ipv4_range") {
		t.Error("the warning stays though an address was found")
	}
}

// TestConfiguredRange: all hosts have the range that the configuration names; one that does not is told so on both sides.
func TestConfiguredRange(t *testing.T) {
	l := lab.New(t)
	a, b, c := l.Host("robot1"), l.Host("robot2"), l.Host("robot3")
	l.LAN(lab.Link{}, a, b, c)
	const config = "ipv4: 10.94.0.0/24\n"
	r1, r2, r3 := fleet.Start(t, a, config), fleet.Start(t, b, config), fleet.Start(t, c, auto)
	fleet.Trust(r1, r2, r3)
	connect(r1, r2)
	connect(r1, r3)
	ofA, ofB := agree(t, r1, r2)
	if r := netip.MustParsePrefix("10.94.0.0/24"); !r.Contains(ofA) || !r.Contains(ofB) {
		t.Errorf("addresses %v and %v", ofA, ofB)
	}
	ping(t, r1, ofB, 100)
	for _, r := range []*fleet.Robot{r1, r3} {
		lab.Eventually(t, patience, "the warning of different ranges", func() error {
			if w := warnings(r); !slices.Contains(w, "ipv4_peer") {
				return fmt.Errorf("%s warns of %v", r.Name(), w)
			}
			return nil
		})
	}
	r1.Hnet("down")
	if out, err := a.Command(context.Background(), "ip", "addr", "show", "dev", "hnet0").CombinedOutput(); err == nil {
		t.Errorf("hnet0 is still there: %s", out)
	}
}

// TestLastRange: class E, which old software shuns, works between Linux hosts.
func TestLastRange(t *testing.T) {
	l := lab.New(t)
	a, b := l.Host("robot1"), l.Host("robot2")
	l.LAN(lab.Link{}, a, b)
	config := "ipv4: " + oi.DefaultRanges[2].String() + "\n"
	r1, r2 := fleet.Start(t, a, config), fleet.Start(t, b, config)
	fleet.Trust(r1, r2)
	connect(r1, r2)
	ofA, ofB := agree(t, r1, r2)
	if !oi.DefaultRanges[2].Contains(ofA) {
		t.Errorf("robot1 has %v", ofA)
	}
	talk(t, r1, r2, ofA, ofB)
}
