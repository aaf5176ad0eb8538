package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/lan"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// Bounds of what hostile traffic may cost a daemon.
const (
	maxGrowth   = 24 << 10 // kB resident
	maxLogLines = 40
)

// victims are two robots that trust each other and a stranger on their LAN. All are reached by IPv4 and IPv6.
type victims struct {
	a, b     *fleet.Robot
	stranger *lab.Host
	random   *rand.Rand
}

func newVictims(t *testing.T) *victims {
	t.Helper()
	l := lab.New(t)
	ha, hb, stranger := l.Host("robot1"), l.Host("robot2"), l.Host("stranger")
	l.LAN(lab.Link{}, ha, hb, stranger)
	v := &victims{a: fleet.Start(t, ha, ""), b: fleet.Start(t, hb, ""), stranger: stranger, random: rand.New(rand.NewPCG(1, 2))}
	fleet.Trust(v.a, v.b)
	mustPing(t, v.a, v.b.Address)
	return v
}

func (v *victims) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(v.random.Uint32())
	}
	return b
}

// targets are the sockets of robot1, by unicast and by the groups of LAN discovery.
func (v *victims) targets() (list []netip.AddrPort) {
	linkLocal := v.a.LinkLocal("lan0").WithZone("lan0")
	for _, addr := range []netip.Addr{v.a.Addr4("lan0"), v.a.Addr6("lan0"), linkLocal} {
		list = append(list, netip.AddrPortFrom(addr, 5582), netip.AddrPortFrom(addr, lan.Port))
	}
	return append(list, netip.AddrPortFrom(lan.GroupIPv4, lan.Port), netip.AddrPortFrom(lan.GroupIPv6.WithZone("lan0"), lan.Port))
}

// garbage is what makes no sense at all, by kind.
func (v *victims) garbage() map[string][][]byte {
	kinds := make(map[string][][]byte)
	for n := range 201 {
		kinds["garbage"] = append(kinds["garbage"], v.bytes(n))
		for messageType := range uint32(6) {
			b := v.bytes(max(n, 4))
			binary.LittleEndian.PutUint32(b, messageType)
			kinds["typed"] = append(kinds["typed"], b[:n])
		}
	}
	for n := range 256 {
		b := v.bytes(64)
		b[0] = byte(n)
		kinds["first bytes"] = append(kinds["first bytes"], b)
	}
	for _, n := range []int{1191, 1192, 1193, 1472, 9000, 65507} {
		for _, first := range []byte{1, 4, 0x4c, 0xff} {
			b := v.bytes(n)
			copy(b, []byte{first, 0, 0, 0})
			if first == 0x4c {
				b[1] = 1
			}
			kinds["oversized"] = append(kinds["oversized"], b)
		}
	}
	return kinds
}

// variants are captured payloads as they are, cut short, lengthened, and with a bit turned.
func (v *victims) variants(captured [][]byte) (all [][]byte) {
	for _, b := range captured {
		all = append(all, b, b[:len(b)-1], b[:len(b)/2], append(slices.Clone(b), 0))
		for range 8 {
			flipped := slices.Clone(b)
			flipped[v.random.IntN(len(b))] ^= 1 << v.random.IntN(8)
			all = append(all, flipped)
		}
	}
	return all
}

// captureTraffic returns real payloads that robot1 sent and received: handshakes, data and announcements.
func (v *victims) captureTraffic(t *testing.T) (payloads [][]byte) {
	t.Helper()
	capture := v.a.Capture(t, "lan0")
	for _, r := range []*fleet.Robot{v.a, v.b} {
		r.Daemon.Kill9()
		r.Restart() // announces itself, and either side handshakes
		v.a.Hnet("wait", "peer", "robot2", "--timeout", "5s")
		mustPing(t, v.b, v.a.Address)
		mustPing(t, v.a, v.b.Address)
	}
	seen := make(map[string]bool)
	for _, f := range capture.Stop() {
		p := f.Decode()
		if p.Kind == lab.UDP && len(p.Payload) == p.PayloadLen && (p.DstPort == 5582 || p.DstPort == lan.Port) {
			payloads = append(payloads, p.Payload)
			seen[fmt.Sprintf("%x", p.Payload[0])] = true
		}
	}
	for _, first := range []string{"1", "4", "4c"} {
		if !seen[first] {
			t.Fatalf("no real datagram that begins with %s was captured: %v", first, seen)
		}
	}
	return payloads
}

// initiations are what a stranger can make who knows the robot's public key: authentic, from keys that nobody whitelisted.
func initiations(t *testing.T, to *fleet.Robot, n int) (all [][]byte) {
	t.Helper()
	var id struct{ WireGuard string }
	to.JSON(&id, "id")
	remote, err := identity.ParsePublicKey(id.WireGuard)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		var seed [32]byte
		binary.BigEndian.PutUint64(seed[:], uint64(i)+1)
		stranger := identity.FromSeed(seed)
		peer := wireguard.NewPeer(wireguard.PeerConfig{
			Local: wireguard.NewLocal(stranger.PrivateKey(), stranger.PublicKey(), false), Remote: remote, Indices: oneIndex{}, Stamp: time.Now,
		})
		b, err := peer.Initiation(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// oneIndex is enough for handshakes that are never finished.
type oneIndex struct{}

func (oneIndex) New() (uint32, bool)             { return 1, true }
func (oneIndex) Bind(uint32, *wireguard.Keypair) {}
func (oneIndex) Free(uint32)                     {}

func (v *victims) socket(t *testing.T) *net.UDPConn {
	return listenUDP(t, v.stranger, netip.AddrPortFrom(netip.IPv6Unspecified(), 0))
}

// send sends one datagram; those that the sender's own kernel refuses (too long for the group's way) do not count.
func send(c *net.UDPConn, b []byte, to netip.AddrPort) bool {
	_, err := c.WriteToUDPAddrPort(b, to)
	return err == nil
}

// whileAlive runs attack while robot1 and robot2 ping each other, and checks what it cost.
func (v *victims) whileAlive(t *testing.T, attack func(t *testing.T)) {
	t.Helper()
	before, lines := memory(t, v.a.Daemon, "VmRSS"), strings.Count(v.a.Daemon.Output(), "\n")
	during := v.b.Start(t, "ping", "-n", "-6", "-i0.02", v.a.Address.String())
	during.WaitLine("bytes from", 2*time.Second)
	attack(t)
	// The stream of pings is alive after the attack, and was during it.
	during.WaitLine("bytes from.*icmp_seq=", 2*time.Second)
	during.Signal(2)
	during.Wait(2 * time.Second)
	if m := regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`).FindStringSubmatch(during.Output()); m == nil {
		t.Errorf("ping says nothing:\n%s", during.Output())
	} else if sent, _ := strconv.Atoi(m[1]); sent > 0 {
		received, _ := strconv.Atoi(m[2])
		t.Logf("during the attack %d of %d pings were answered", received, sent)
		if received*2 < sent {
			t.Errorf("during the attack only %d of %d pings were answered", received, sent)
		}
	}
	mustPing(t, v.a, v.b.Address)
	mustPing(t, v.b, v.a.Address)
	if p, _ := v.a.Peer(v.b.Address); !slices.Contains([]netip.Addr{v.b.Addr4("lan0"), v.b.Addr6("lan0"), v.b.LinkLocal("lan0")}, p.Endpoint.Addr().WithZone("")) {
		t.Errorf("robot1 sends what is for robot2 to %s", p.Endpoint)
	}
	after := memory(t, v.a.Daemon, "VmRSS")
	t.Logf("robot1: %d kB resident before, %d after", before, after)
	if after-before > maxGrowth {
		t.Errorf("the attack made robot1 grow from %d to %d kB", before, after)
	}
	if new := strings.Count(v.a.Daemon.Output(), "\n") - lines; new > maxLogLines {
		t.Errorf("the attack made robot1 write %d lines of log:\n%s", new, v.a.Daemon.Output())
	}
}

// TestNoAnswerIsLarger sends everything that is wrong, once, each kind from a socket of its own, and compares what comes back.
func TestNoAnswerIsLarger(t *testing.T) {
	v := newVictims(t)
	captured := v.captureTraffic(t)
	kinds := v.garbage()
	kinds["captured"] = v.variants(captured)
	kinds["initiations"] = initiations(t, v.a, 20)
	v.whileAlive(t, func(t *testing.T) {
		capture := v.stranger.Capture(t, "lan0")
		kindOf := make(map[uint16]string)
		for kind, payloads := range kinds {
			c := v.socket(t)
			kindOf[uint16(c.LocalAddr().(*net.UDPAddr).Port)] = kind
			for _, b := range payloads {
				for _, to := range v.targets() {
					send(c, b, to)
				}
			}
		}
		// What is answered is answered in order: when this one is, all before it was.
		if out, code := finish(t, v.stranger, "ping", "-c1", "-W2", v.a.Addr4("lan0").String()); code != 0 {
			t.Fatalf("robot1 is not there:\n%s", out)
		}
		mustPing(t, v.a, v.b.Address)
		type flow struct {
			kind  string
			robot netip.Addr
		}
		sent, received := make(map[flow]int), make(map[flow]int)
		longest := make(map[flow]int)
		for _, f := range capture.Stop() {
			p := f.Decode()
			switch {
			case p.Kind == lab.UDP && f.Out && kindOf[p.SrcPort] != "":
				at := flow{kindOf[p.SrcPort], p.Dst}
				sent[at] += p.PayloadLen
				longest[at] = max(longest[at], p.PayloadLen)
			case p.Kind == lab.UDP && !f.Out && kindOf[p.DstPort] != "":
				at := flow{kindOf[p.DstPort], p.Src}
				received[at] += p.PayloadLen
				if p.PayloadLen > longest[at] {
					t.Errorf("%s of at most %d B were answered with %d B: %s", at.kind, longest[at], p.PayloadLen, p)
				}
			case p.Kind == lab.ICMP && !f.Out && p.ICMPType != 0:
				t.Errorf("an error came back: %s", p)
			}
		}
		for at, n := range received {
			t.Logf("%s: %d B to %s were answered with %d B", at.kind, sent[at], at.robot, n)
			if n > sent[at] {
				t.Errorf("%s: %d B to %s were answered with %d B", at.kind, sent[at], at.robot, n)
			}
			if at.kind != "captured" && at.kind != "initiations" {
				t.Errorf("%s were answered", at.kind)
			}
		}
	})
}

// TestFlood sends up to 200,000 datagrams of all kinds as fast as one host can.
func TestFlood(t *testing.T) {
	v := newVictims(t)
	pool := v.variants(v.captureTraffic(t))
	for _, payloads := range v.garbage() {
		pool = append(pool, payloads...)
	}
	pool = slices.DeleteFunc(pool, func(b []byte) bool { return len(b) > 1400 })
	v.whileAlive(t, func(t *testing.T) {
		c := v.socket(t)
		targets := v.targets()
		sent := 0
		start := time.Now()
		for sent < 200_000 && time.Since(start) < 3*time.Second {
			if send(c, pool[v.random.IntN(len(pool))], targets[v.random.IntN(len(targets))]) {
				sent++
			}
		}
		t.Logf("%d datagrams in %v", sent, time.Since(start))
		if sent < 20_000 {
			t.Errorf("only %d datagrams could be sent", sent)
		}
	})
}

// TestFloodOfInitiations is the dearest that a stranger can send: each costs robot1 two X25519 operations, if it is worked on.
func TestFloodOfInitiations(t *testing.T) {
	v := newVictims(t)
	pool := initiations(t, v.a, 300)
	v.whileAlive(t, func(t *testing.T) {
		c := v.socket(t)
		answers, longest := make(chan int), 0
		go func() {
			buffer, n := make([]byte, 2000), 0
			for {
				length, err := c.Read(buffer)
				if err != nil {
					answers <- n
					return
				}
				n++
				longest = max(longest, length)
			}
		}()
		targets := []netip.AddrPort{netip.AddrPortFrom(v.a.Addr4("lan0"), 5582), netip.AddrPortFrom(v.a.Addr6("lan0"), 5582)}
		for i := range 60_000 {
			send(c, pool[i%len(pool)], targets[i%2])
		}
		// A new contact is made in the middle of it.
		v.b.Daemon.Kill9()
		v.b.Restart()
		for i := range 20_000 {
			send(c, pool[i%len(pool)], targets[i%2])
		}
		mustPing(t, v.b, v.a.Address)
		c.Close()
		n := <-answers
		t.Logf("80000 initiations got %d answers of at most %d B", n, longest)
		if longest > wireguard.CookieReplySize {
			t.Errorf("a stranger was answered with %d B", longest)
		}
		if n == 0 {
			t.Error("nobody was challenged: every initiation was worked on, or none")
		}
	})
}

// TestHostileClients sends raw bytes to the API's socket.
func TestHostileClients(t *testing.T) {
	h := lab.New(t).Host("robot1")
	r := fleet.Start(t, h, "")
	socket := r.Path("/run/hnet/hnetd.sock")
	before := memory(t, r.Daemon, "VmRSS")
	random := rand.New(rand.NewPCG(1, 2))
	dial := func() net.Conn {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		return c
	}
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	huge := strings.Repeat("x", 8<<20)
	for name, request := range map[string]string{
		"nothing": "", "noise": string(noise), "zeros": strings.Repeat("\x00", 1<<20), "an endless line": "GET /" + huge,
		"an endless header": "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + huge + "\r\n\r\n",
		"an endless body":   "POST /v1/whitelist HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{\"address\":\"" + huge,
		"endless chunks":    "POST /v1/whitelist HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("ffff\r\n"+huge[:0xffff]+"\r\n", 100),
		"deep JSON":         "POST /v1/whitelist HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("[", 100000),
		"another protocol":  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"a bad length":      "POST /v1/whitelist HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"a proxy's request": "CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: 10.0.0.1:22\r\n\r\n",
		"a walk":            "GET /v1/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		c := dial()
		// The daemon may hang up in the middle, which is well.
		io.WriteString(c, request)
		c.(*net.UnixConn).CloseWrite()
		answer, _ := io.ReadAll(io.LimitReader(c, 1<<20))
		c.Close()
		if strings.HasPrefix(string(answer), "HTTP/1.1 2") || strings.Contains(string(answer), "root:") {
			t.Errorf("%s was answered with:\n%.300s", name, answer)
		}
	}
	// So many half-open requests that the daemon must turn some away; it serves again as soon as they are gone.
	var open []net.Conn
	for range 600 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			break
		}
		io.WriteString(c, "GET /v1/status HTTP/1.1\r\n")
		open = append(open, c)
	}
	out, code := r.TryHnet("status")
	t.Logf("with %d half requests open, status exits with %d: %.100s", len(open), code, out)
	for _, c := range open {
		c.Close()
	}
	lab.Eventually(t, 5*time.Second, "the API serves again", func() error {
		if out, code := r.TryHnet("status"); code != 0 {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	if out := r.Hnet("whitelist", "ls"); strings.Contains(out, "fc94") {
		t.Errorf("the whitelist changed:\n%s", out)
	}
	if after := memory(t, r.Daemon, "VmRSS"); after-before > 2*maxGrowth {
		t.Errorf("hostile clients made the daemon grow from %d to %d kB", before, after)
	}
	if n := strings.Count(r.Daemon.Output(), "\n"); n > maxLogLines {
		t.Errorf("hostile clients made the daemon write %d lines:\n%s", n, r.Daemon.Output())
	}
}
