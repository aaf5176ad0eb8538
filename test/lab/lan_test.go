package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// udp returns a UDP socket on a host's lan0.
func udp(t testing.TB, h *Host, addr netip.Addr) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := h.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadBuffer(8 << 20) // as far as the kernel allows; a reader runs all the time
	t.Cleanup(func() { c.Close() })
	return c
}

func local(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

type arrival struct {
	number int
	at     time.Time
}

// numbered sends count datagrams of n bytes with numbers from 0, in groups of at most group that the LAN has
// dealt with before the next goes out, and returns those that arrive, in their order.
func numbered(t *testing.T, lan *LAN, a, b *Host, count, n, group int) []arrival {
	t.Helper()
	from, to := udp(t, a, a.Addr4("lan0")), udp(t, b, b.Addr4("lan0"))
	const last = math.MaxUint32
	arrivals := make(chan []arrival, 1)
	go func() {
		var all []arrival
		buf := make([]byte, 65536)
		for {
			_, err := to.Read(buf)
			number := binary.BigEndian.Uint32(buf)
			if err != nil || number == last {
				arrivals <- all
				return
			}
			all = append(all, arrival{int(number), time.Now()})
		}
	}()
	// The neighbour is known, and counted, before the first.
	a.Run(t, "ip", "neigh", "replace", b.Addr4("lan0").String(), "lladdr", b.mac(t), "dev", "lan0")
	before := lan.Stats()
	dealt := func() int {
		s := lan.Stats()
		return s.Carried + s.Lost + s.QueueFull + s.TooLong + s.Missed + s.Cut -
			(before.Carried + before.Lost + before.QueueFull + before.TooLong + before.Missed + before.Cut)
	}
	msg := make([]byte, n)
	for i := range count {
		if i%group == 0 {
			Eventually(t, 10*time.Second, "the group has passed", func() error {
				if dealt() < i {
					return errors.New("frames are on their way")
				}
				return nil
			})
		}
		binary.BigEndian.PutUint32(msg, uint32(i))
		if _, err := from.WriteToUDPAddrPort(msg, local(to)); err != nil {
			t.Fatal(err)
		}
	}
	Eventually(t, 20*time.Second, "all frames have passed", func() error {
		if dealt() < count {
			return errors.New("frames are on their way")
		}
		return nil
	})
	// On the receiver itself, so that it comes last whatever the link does.
	binary.BigEndian.PutUint32(msg, last)
	if _, err := to.WriteToUDPAddrPort(msg[:4], local(to)); err != nil {
		t.Fatal(err)
	}
	return <-arrivals
}

func (h *Host) mac(t *testing.T) string {
	t.Helper()
	link, err := h.nl.LinkByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().HardwareAddr.String()
}

func TestLoss(t *testing.T) {
	const n, loss = 2000, 0.3
	_, lan, a, b := twoHosts(t, Link{Loss: loss})
	got := len(numbered(t, lan, a, b, n, 100, 100))
	mean, sd := n*(1-loss), math.Sqrt(n*loss*(1-loss))
	if math.Abs(float64(got)-mean) > 5*sd {
		t.Errorf("%d of %d arrived, want %.0f ± %.0f; %+v", got, n, mean, 5*sd, lan.Stats())
	}
	if s := lan.Stats(); s.Missed != 0 {
		t.Errorf("%+v", s)
	}
}

func TestDelay(t *testing.T) {
	const delay = 15 * time.Millisecond
	_, lan, a, b := twoHosts(t, Link{Delay: delay})
	from, to := udp(t, a, a.Addr6("lan0")), udp(t, b, b.Addr6("lan0"))
	go func() {
		buf := make([]byte, 100)
		for {
			n, who, err := to.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			to.WriteToUDPAddrPort(buf[:n], who)
		}
	}()
	trip := func() time.Duration {
		best := time.Hour
		for range 10 {
			start := time.Now()
			if _, err := from.WriteToUDPAddrPort(make([]byte, 50), local(to)); err != nil {
				t.Fatal(err)
			}
			from.SetReadDeadline(start.Add(10 * time.Second))
			if _, err := from.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			best = min(best, time.Since(start))
		}
		return best
	}
	if best := trip(); best < 2*delay {
		t.Errorf("there and back took %v, want at least %v", best, 2*delay)
	} else {
		t.Logf("there and back with a delay of %v: at best %v", delay, best)
	}
	lan.Set(Link{})
	if best := trip(); best >= 2*delay {
		t.Errorf("there and back took %v after the delay was taken away", best)
	}
}

func TestRate(t *testing.T) {
	// 1,250 bytes at 10 Mbit/s take 1 ms.
	const n, size = 200, 1250
	_, lan, a, b := twoHosts(t, Link{RateMbit: 10, Queue: time.Second})
	got := numbered(t, lan, a, b, n, size-etherHeader-28, n)
	if len(got) != n {
		t.Fatalf("%d of %d arrived: %+v", len(got), n, lan.Stats())
	}
	// Reading may lag behind the wire, at the beginning too: hence one queue's worth of grace below.
	took := got[n-1].at.Sub(got[0].at)
	t.Logf("%d ms worth of frames arrived over %v", n, took)
	if took < n*time.Millisecond/2 {
		t.Errorf("%d ms worth of frames arrived within %v", n, took)
	}
}

func TestQueueIsBounded(t *testing.T) {
	_, lan, a, b := twoHosts(t, Link{RateMbit: 1, Queue: 50 * time.Millisecond})
	got := numbered(t, lan, a, b, 200, 1208, 200)
	if s := lan.Stats(); s.QueueFull < 100 || len(got) == 0 {
		t.Errorf("%d of 200 arrived: %+v", len(got), s)
	}
}

func TestOrder(t *testing.T) {
	for _, test := range []struct {
		name   string
		link   Link
		expect func(late int) bool
	}{
		// Not zero: the kernel itself may swap packets that are sent from different processors.
		{"jitter keeps it", Link{Delay: time.Millisecond, Jitter: 3 * time.Millisecond}, func(late int) bool { return late <= 20 }},
		{"reorder does not", Link{Reorder: 0.1}, func(late int) bool { return late > 50 && late < 250 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			const n = 1000
			_, lan, a, b := twoHosts(t, test.link)
			got := numbered(t, lan, a, b, n, 100, 250)
			seen, late, highest := map[int]bool{}, 0, -1
			for _, g := range got {
				if g.number < highest {
					late++
				}
				highest = max(highest, g.number)
				seen[g.number] = true
			}
			if len(seen) != n || len(got) != n {
				t.Errorf("%d datagrams, %d different, of %d; %+v", len(got), len(seen), n, lan.Stats())
			}
			if !test.expect(late) {
				t.Errorf("%d of %d overtaken", late, n)
			}
			t.Logf("%d of %d overtaken", late, n)
		})
	}
}

func TestMTU(t *testing.T) {
	for name, link := range map[string]Link{"bridge": {MTU: 1400}, "wire": {MTU: 1400, PathMTU: 1300}} {
		t.Run(name, func(t *testing.T) {
			_, lan, a, b := twoHosts(t, link)
			from, to := udp(t, a, a.Addr4("lan0")), udp(t, b, b.Addr4("lan0"))
			raw, err := from.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
			})
			if err != nil {
				t.Fatal(err)
			}
			fits := 1400
			if link.PathMTU > 0 {
				fits = link.PathMTU
				// Taken by the device, and never seen again.
				if _, err := from.WriteToUDPAddrPort(make([]byte, fits+1-28), local(to)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := from.WriteToUDPAddrPort(make([]byte, 1401-28), local(to)); !errors.Is(err, unix.EMSGSIZE) {
				t.Errorf("1,401 bytes: %v, want %v", err, unix.EMSGSIZE)
			}
			if _, err := from.WriteToUDPAddrPort(make([]byte, fits-28), local(to)); err != nil {
				t.Fatal(err)
			}
			to.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := to.Read(make([]byte, 2000)); err != nil || n != fits-28 {
				t.Errorf("read %d bytes, %v; want %d", n, err, fits-28)
			}
			if s := lan.Stats(); link.PathMTU > 0 && s.TooLong != 1 {
				t.Errorf("%+v, want one frame too long", s)
			}
		})
	}
}

func TestMTUChanges(t *testing.T) {
	_, lan, a, b := twoHosts(t, Link{})
	ping := func(size int) error {
		return a.Command(t.Context(), "ping", "-c1", "-W5", "-Mdo", "-s", strconv.Itoa(size-28), b.Addr4("lan0").String()).Run()
	}
	for _, step := range []struct {
		link  Link
		size  int
		works bool
	}{
		{Link{}, 1500, true}, {Link{}, 1501, false},
		{Link{MTU: 9000}, 9000, true},
		{Link{MTU: 9000, Delay: time.Microsecond}, 9000, true},
		{Link{MTU: 1280, Delay: time.Microsecond}, 1280, true},
		{Link{MTU: 1280, Delay: time.Microsecond}, 1281, false},
	} {
		lan.Set(step.link)
		if err := ping(step.size); (err == nil) != step.works {
			t.Errorf("%d bytes on %+v: %v", step.size, step.link, err)
		}
	}
	if err := lan.set(Link{MTU: 9001}); err == nil {
		t.Error("the MTU of a degraded LAN grew")
	}
}

func canPing(h *Host, target netip.Addr, wait string) bool {
	return h.Command(context.Background(), "ping", "-c1", "-W", wait, target.String()).Run() == nil
}

func TestCutAndRestore(t *testing.T) {
	for name, link := range map[string]Link{"bridge": {}, "wire": barelyDegraded} {
		t.Run(name, func(t *testing.T) {
			l, lan, a, b := twoHosts(t, link)
			c := l.Host("c")
			lan.Attach(c)
			check := func(step string, ab, ac bool) {
				t.Helper()
				for _, x := range []struct {
					to   *Host
					want bool
				}{{b, ab}, {c, ac}} {
					wait := "5"
					if !x.want {
						wait = "0.2"
					}
					if got := canPing(a, x.to.Addr4("lan0"), wait); got != x.want {
						t.Errorf("%s: ping from a to %s: %v, want %v", step, x.to.Name(), got, x.want)
					}
				}
			}
			check("at first", true, true)
			lan.Cut()
			check("cut", false, false)
			if out := a.Run(t, "ip", "link", "show", "lan0"); !containsWord(out, "LOWER_UP") {
				t.Errorf("the device of a cut member has no carrier: %s", out)
			}
			lan.Restore()
			check("restored", true, true)
			lan.Cut(b)
			check("b cut", false, true)
			lan.Set(barelyDegraded)
			check("b cut, degraded", false, true)
			lan.Restore(b)
			check("b restored", true, true)
			lan.Unplug(c)
			if out := c.Run(t, "ip", "link", "show", "lan0"); !containsWord(out, "NO-CARRIER") {
				t.Errorf("the device of an unplugged member has a carrier: %s", out)
			}
			check("c unplugged", true, false)
			lan.Plug(c)
			check("c plugged in", true, true)
			lan.Detach(c)
			if canPing(c, a.Addr4("lan0"), "0.2") {
				t.Error("a detached member reaches the LAN")
			}
			if dev := lan.Attach(c); dev != "lan1" || !canPing(c, a.Addr4("lan0"), "5") {
				t.Errorf("a member that came back as %s does not reach the LAN", dev)
			}
		})
	}
}

func containsWord(s, word string) bool {
	for _, f := range splitWords(s) {
		if f == word {
			return true
		}
	}
	return false
}

// A link can be degraded while it is in use, and nothing is lost by that alone.
func TestDegradeInUse(t *testing.T) {
	_, lan, a, b := twoHosts(t, Link{})
	server := b.Start(t, "iperf3", "-s", "-1", "--forceflush")
	server.WaitLine("listening", 10*time.Second)
	capture := a.Capture(t, "lan0")
	client := a.Start(t, "iperf3", "-c", b.Addr4("lan0").String(), "-n", "20M", "-b", "200M")
	capture.Wait(10*time.Second, "data", func(f Frame) bool { return f.Out && f.Len > 1000 && f.Decode().Kind == TCP })
	lan.Set(Link{Delay: time.Millisecond})
	lan.Set(Link{RateMbit: 300})
	if code := client.Wait(30 * time.Second); code != 0 {
		t.Errorf("iperf3 ended with %d:\n%s", code, client.Output())
	}
	if lan.Stats().Carried < 1000 {
		t.Errorf("the degraded link carried nothing: %+v", lan.Stats())
	}
}

func TestRouter(t *testing.T) {
	l := New(t)
	a, b, r := l.Host("a"), l.Host("b"), l.Router("r")
	l.LAN(Link{}, a, r)
	l.LAN(Link{Delay: time.Microsecond}, b, r)
	for _, target := range []netip.Addr{b.Addr4("lan0"), b.Addr6("lan0")} {
		a.Run(t, "ping", "-c1", "-W5", target.String())
	}
	r.Rules(t, `
		table inet f {
			chain forward {
				type filter hook forward priority 0
				meta nfproto ipv4 drop
			}
		}`)
	if canPing(a, b.Addr4("lan0"), "0.2") || !canPing(a, b.Addr6("lan0"), "5") {
		t.Error("the rule does not drop IPv4 alone")
	}
	r.Rules(t, "")
	if !canPing(a, b.Addr4("lan0"), "5") {
		t.Error("a rule is left")
	}
	// A device that was down has its routes again, also after its address has changed.
	a.LinkDown("lan0")
	if canPing(a, b.Addr4("lan0"), "0.2") {
		t.Error("a device that is down works")
	}
	a.LinkUp("lan0")
	a.Run(t, "ping", "-c1", "-W5", b.Addr4("lan0").String())
	a.Run(t, "ping", "-c1", "-W5", b.Addr6("lan0").String())
	old := a.Addr4("lan0")
	a.SetAddr("lan0", netip.MustParsePrefix("10.0.1.77/24"))
	if now := a.Addr4("lan0"); now == old || now != netip.MustParseAddr("10.0.1.77") {
		t.Errorf("the address is %v", now)
	}
	a.Run(t, "ping", "-c1", "-W5", b.Addr4("lan0").String())
	// Two more hops need a route by hand.
	r2, c := l.Router("r2"), l.Host("c")
	l.LAN(Link{}, r, r2)
	l.LAN(Link{}, c, r2)
	r.Route(netip.MustParsePrefix("10.0.4.0/24"), r2.Addr4("lan0"))
	r2.Route(netip.MustParsePrefix("0.0.0.0/0"), r.Addr4("lan2"))
	a.Run(t, "ping", "-c1", "-W5", c.Addr4("lan0").String())
}

func splitWords(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == '<' || r == '>' || r == ',' || r == ' ' })
}

func BenchmarkTCP(b *testing.B) {
	for name, link := range map[string]Link{"bridge": {}, "wire": barelyDegraded} {
		b.Run(name, func(b *testing.B) {
			_, lan, from, to := twoHosts(b, link)
			to.Start(b, "iperf3", "-s", "--forceflush").WaitLine("listening", 10*time.Second)
			b.SetBytes(100 << 20)
			for b.Loop() {
				from.Run(b, "iperf3", "-c", to.Addr4("lan0").String(), "-n", "100M")
			}
			b.ReportMetric(float64(lan.Stats().Missed)/float64(b.N), "missed/op")
		})
	}
}
