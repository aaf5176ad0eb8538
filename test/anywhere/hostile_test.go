package anywhere

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

const (
	floodRate = 100_000 // datagrams a second, if the machine can
	floodFor  = 3 * time.Second
	maxGrowth = 48 << 10 // kB that a flood may make a process grow
)

// besieged is two pairs of robots, one with a direct and one with a relayed path, and a stranger with a good connection.
type besieged struct {
	*world
	a, b, c, d     *fleet.Robot // a is the one with a public address
	stranger, sink *internet.Host
	random         *rand.Rand
	own            *net.UDPConn   // the stranger's socket
	behind         netip.AddrPort // where robot2 is found from outside
}

func newBesieged(t *testing.T) *besieged {
	t.Helper()
	w := newWorld(t, "base1")
	v := &besieged{world: w, random: rand.New(rand.NewPCG(1, 2))}
	v.a, _ = w.robot(w.net.Site("datacentre", internet.Public, internet.Families(internet.IPv4)), "robot1")
	home := w.net.Site("home", internet.PortRestricted)
	v.b, _ = w.robot(home, "robot2")
	v.behind = netip.AddrPortFrom(home.Router.Addr4("lan0"), 5582) // such a NAT keeps the port
	v.c, _ = w.robot(w.net.Site("field", internet.Symmetric), "robot3")
	v.d, _ = w.robot(w.net.Site("plant", internet.Symmetric), "robot4")
	v.stranger = w.net.Site("nowhere", internet.Public, internet.Families(internet.IPv4)).Host("stranger")
	v.sink = newSink(w.net)
	v.own = listenUDP(t, v.stranger.Host, netip.AddrPortFrom(v.stranger.Addrs()[0], 0))
	fleet.Trust(v.a, v.b)
	fleet.Trust(v.c, v.d)
	v.a.Hnet("ping", v.b.Address.String(), "-c", "1")
	v.c.Hnet("ping", v.d.Address.String(), "-c", "1")
	pathWithin(t, v.a, v.b, 10*time.Second, api.PathDirect)
	pathWithin(t, v.c, v.d, 10*time.Second, api.PathRelayUDP)
	return v
}

func (v *besieged) pairs() [][2]*fleet.Robot { return [][2]*fleet.Robot{{v.a, v.b}, {v.c, v.d}} }

func (v *besieged) base() netip.AddrPort {
	return netip.AddrPortFrom(v.bases[0].Addr4("lan0"), 5582)
}

func (v *besieged) alternate() netip.AddrPort { return netip.AddrPortFrom(v.base().Addr(), 3478) }

func (v *besieged) robot1() netip.AddrPort { return netip.AddrPortFrom(v.a.Addr4("lan0"), 5582) }

func (v *besieged) ownEndpoint() netip.AddrPort {
	return v.own.LocalAddr().(*net.UDPAddr).AddrPort()
}

// attack is datagrams of one kind, and to whom they go.
type attack struct {
	kind string
	to   netip.AddrPort
	all  [][]byte
	// stun marks what may be answered with more bytes than it has, 44 at the most.
	stun bool
	// from is the source that is forged; if it is not valid, half are sent with the stranger's own and half with any.
	from netip.AddrPort
}

// attacks are all kinds that a stranger can think of.
func (v *besieged) attacks(t *testing.T) (list []attack) {
	t.Helper()
	r := v.random
	typed := func(kind wire.Type, n int) []byte {
		b := randomBytes(r, n)
		b[0], b[1] = byte(kind), wire.Version
		return b
	}
	some := func(n int, f func() []byte) (all [][]byte) {
		for range n {
			all = append(all, f())
		}
		return all
	}
	hello := func() []byte { return wire.Hello{Nonce: [16]byte(randomBytes(r, 16))}.Append(nil) }
	control := func() []byte { return typed(wire.TypeControl, wire.MinControlLen+r.IntN(200)) }
	// The numbers of sessions are small or they are not: both are guessed.
	guessed := func() []byte {
		b := control()
		binary.BigEndian.PutUint32(b[4:], uint32(r.IntN(64)))
		return b
	}
	relay := func() []byte {
		b := randomBytes(r, 200)
		wire.PutRelay(b, uint32(r.IntN(64)), r.Uint32(), 1)
		return b
	}
	binding := func() []byte { return stun.AppendRequest(nil, [12]byte(randomBytes(r, 12))) }
	list = []attack{
		{kind: "hello", to: v.base(), all: some(200, hello)},
		{kind: "register", to: v.base(), all: some(200, func() []byte { return typed(wire.TypeRegister, wire.MinRegisterLen+r.IntN(100)) })},
		{kind: "control", to: v.base(), all: some(200, control)},
		{kind: "control of guessed sessions", to: v.base(), all: some(200, guessed)},
		{kind: "relay", to: v.base(), all: some(200, relay)},
		{kind: "STUN", to: v.base(), all: some(200, binding), stun: true},
		{kind: "STUN, second port", to: v.alternate(), all: some(200, binding), stun: true},
		{kind: "garbage, second port", to: v.alternate(), all: some(50, func() []byte { return randomBytes(r, 1+r.IntN(200)) })},
	}
	for _, to := range []netip.AddrPort{v.base(), v.robot1()} {
		name := "Base"
		if to == v.robot1() {
			name = "robot"
		}
		list = append(list,
			attack{kind: "own types to the " + name, to: to, all: some(500, func() []byte { return typed(wire.Type(0x40+r.IntN(16)), 16)[:1+r.IntN(16)] })},
			attack{kind: "own types of any length to the " + name, to: to, all: some(500, func() []byte { return typed(wire.Type(0x40+r.IntN(16)), 2+r.IntN(600)) })},
			attack{kind: "garbage to the " + name, to: to, all: some(200, func() []byte { return randomBytes(r, 1+r.IntN(400)) })},
		)
	}
	transport := func() []byte {
		b := randomBytes(r, 32+16*r.IntN(20))
		binary.LittleEndian.PutUint32(b, 4)
		return b
	}
	success := func() []byte {
		return stun.AppendSuccess(nil, [12]byte(randomBytes(r, 12)), v.base())
	}
	list = append(list,
		attack{kind: "handshakes", to: v.robot1(), all: v.initiations(t, v.a, 200)},
		attack{kind: "transport", to: v.robot1(), all: some(200, transport)},
		attack{kind: "STUN answers", to: v.robot1(), all: some(100, success)},
		attack{kind: "STUN to the robot", to: v.robot1(), all: some(100, binding)},
	)
	return list
}

// inNameOf are what a Base and a peer might say, and what passes the NAT that lets them through.
func (v *besieged) inNameOf() (list []attack) {
	for _, to := range []netip.AddrPort{v.robot1(), v.behind} {
		var all [][]byte
		for i := range 500 {
			kind := []wire.Type{wire.TypeCookie, wire.TypeWelcome, wire.TypeBaseControl, wire.TypeRelayed, wire.TypeFilterProbe, wire.TypeUnknown}[i%6]
			n := map[wire.Type]int{wire.TypeCookie: wire.CookieLen, wire.TypeWelcome: wire.WelcomeLen, wire.TypeFilterProbe: wire.FilterProbeLen, wire.TypeUnknown: wire.UnknownLen}[kind]
			if n == 0 {
				n = wire.MinControlLen + v.random.IntN(200)
			}
			b := randomBytes(v.random, n)
			b[0], b[1] = byte(kind), wire.Version
			if i%2 == 0 {
				binary.BigEndian.PutUint32(b[4:], uint32(v.random.IntN(64)))
			}
			all = append(all, b)
		}
		list = append(list, attack{kind: "as the Base", to: to, from: v.base(), all: all})
	}
	var all [][]byte
	for range 500 {
		b := randomBytes(v.random, 32+16*v.random.IntN(20))
		binary.LittleEndian.PutUint32(b, 4)
		all = append(all, b)
	}
	return append(list, attack{kind: "as the peer", to: v.behind, from: v.robot1(), all: all}, attack{kind: "as the peer", to: v.robot1(), from: v.behind, all: all})
}

// initiations are authentic, from keys that nobody whitelisted.
func (v *besieged) initiations(t *testing.T, to *fleet.Robot, n int) (all [][]byte) {
	t.Helper()
	for i := range n {
		m := newMallory(t, to, identity.FromSeed([32]byte{1, byte(i), byte(i >> 8)}))
		b, err := m.machine.Initiation(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// registers are authentic registers of strangers, with cookies for the stranger's own socket.
func (v *besieged) registers(t *testing.T, n int) (all [][]byte) {
	t.Helper()
	b := make([]byte, 2000)
	for i := range n {
		id := identity.FromSeed([32]byte{2, byte(i)})
		c, err := session.NewClient(session.ClientConfig{Identity: id, Base: v.bases[0].Address, Index: uint32(i)})
		if err != nil {
			t.Fatal(err)
		}
		signed := signedRecord(t, id, v.ownEndpoint())
		for try := 0; ; try++ {
			if _, err := v.own.WriteToUDPAddrPort(c.Hello(time.Now()), v.base()); err != nil {
				t.Fatal(err)
			}
			v.own.SetReadDeadline(time.Now().Add(time.Second))
			length, err := v.own.Read(b)
			if err == nil {
				if register, _, err := c.HandleCookie(time.Now(), b[:length], signed); err == nil {
					all = append(all, register)
					break
				}
			}
			if try == 20 {
				t.Fatal("the Base gives no cookie")
			}
		}
	}
	v.own.SetReadDeadline(time.Time{})
	return all
}

func signedRecord(t testing.TB, id *identity.Identity, endpoints ...netip.AddrPort) []byte {
	t.Helper()
	r := record.Record{Key: id.SigningKey(), Sequence: uint64(time.Now().UnixNano()), Lifetime: time.Hour, Endpoints: endpoints}
	signed, err := r.Sign(id)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// flood sends all attacks mixed for a while, half from the stranger's own address and half from forged ones, each time to where at says.
func (v *besieged) flood(t *testing.T, f *forger, list []attack, d time.Duration, at func(attack) netip.AddrPort) {
	t.Helper()
	start := time.Now()
	own := v.ownEndpoint()
	sent := 0
	for time.Since(start) < d {
		// As many as are due by now, and no more.
		due := min(int(time.Since(start).Seconds()*floodRate), sent+10*forgedBatch)
		for ; sent < due; sent++ {
			x := &list[sent%len(list)]
			from := own
			switch {
			case x.from.IsValid():
				from = x.from
			case sent/len(list)%2 == 1:
				from = v.forged()
			}
			f.add(from, at(*x), x.all[(sent/len(list))%len(x.all)])
		}
		f.flush()
		time.Sleep(200 * time.Microsecond)
	}
	t.Logf("%d datagrams in %v, %.0f a second", sent, time.Since(start).Round(time.Millisecond), float64(sent)/time.Since(start).Seconds())
	if sent < 5000 {
		t.Errorf("only %d datagrams could be sent", sent)
	}
}

func (v *besieged) forged() netip.AddrPort {
	a := elsewhere.Addr().As4()
	binary.BigEndian.PutUint16(a[2:], uint16(v.random.Uint32()))
	return netip.AddrPortFrom(netip.AddrFrom4(a), uint16(1024+v.random.IntN(60000)))
}

// TestFloodFromStrangers floods a Base and a robot with everything at once. The same flood at somebody else shows what the machine itself loses.
func TestFloodFromStrangers(t *testing.T) {
	v := newBesieged(t)
	list := append(v.attacks(t), v.inNameOf()...)
	list = append(list, attack{kind: "registers", to: v.base(), from: v.ownEndpoint(), all: v.registers(t, 32)})
	f := newForger(t, v.stranger.Host)
	bystander := netip.AddrPortFrom(v.sink.Addrs()[0], 9)
	control := loss(t, v.pairs(), func() { v.flood(t, f, list, floodFor/2, func(attack) netip.AddrPort { return bystander }) })

	robot, base := resident(t, v.a.Daemon), resident(t, v.bases[0].Daemon)
	lost := loss(t, v.pairs(), func() { v.flood(t, f, list, floodFor, func(x attack) netip.AddrPort { return x.to }) })
	for i, name := range []string{"direct", "relayed"} {
		t.Logf("%s: %.2f %% lost, %.2f %% with the flood elsewhere", name, 100*lost[i], 100*control[i])
		if lost[i] >= 0.01+control[i] {
			t.Errorf("the %s tunnel lost %.2f %%; with the same flood at somebody else %.2f %%", name, 100*lost[i], 100*control[i])
		}
	}
	for _, p := range []struct {
		name    string
		before  int
		process *lab.Process
	}{{"robot1", robot, v.a.Daemon}, {"base1", base, v.bases[0].Daemon}} {
		after := resident(t, p.process)
		t.Logf("%s: %d kB resident before, %d after", p.name, p.before, after)
		if after-p.before > maxGrowth {
			t.Errorf("the flood made %s grow from %d to %d kB", p.name, p.before, after)
		}
	}
	// Everybody is served again at once.
	newcomer, _ := v.robot(v.net.Site("elsewhere", internet.FullCone), "robot5")
	fleet.Trust(v.a, newcomer)
	newcomer.Hnet("ping", v.a.Address.String(), "-c", "1", "-W", "5s")
}

// TestNoAmplification compares what each source sent, forged or not, with what it was answered.
func TestNoAmplification(t *testing.T) {
	v := newBesieged(t)
	f := newForger(t, v.stranger.Host)
	sink, stranger := v.sink.Capture(t, "lan0"), v.stranger.Capture(t, "lan0")
	type source struct {
		attack  attack
		in, out int // bytes of IP that it sent and got
		n       int // answers
		asked   int
		longest int
	}
	sources := make(map[netip.Addr]*source)
	list := v.attacks(t)
	next := elsewhere.Addr().As4()
	for i, x := range list {
		// Each kind has a network of its own; of the first addresses each sends a hundred, and one sends them all.
		next[1], next[2], next[3] = byte(i), 1, 0
		for j, b := range x.all {
			if j%100 == 0 {
				next[3]++
			}
			from := netip.AddrFrom4(next)
			s := sources[from]
			if s == nil {
				s = &source{attack: x}
				sources[from] = s
			}
			s.in += ipUDP + len(b)
			s.asked++
			f.add(netip.AddrPortFrom(from, 4000), x.to, b)
		}
		f.flush()
		// In order, and not faster than the robot reads: what is dropped proves nothing.
		v.c.Hnet("ping", v.d.Address.String(), "-c", "1")
	}
	own := &source{}
	sources[v.ownEndpoint().Addr()] = own
	for _, x := range list {
		if x.stun {
			continue
		}
		for _, b := range x.all {
			own.in += ipUDP + len(b)
			f.add(v.ownEndpoint(), x.to, b)
		}
		f.flush()
		v.a.Hnet("ping", v.b.Address.String(), "-c", "1")
	}
	// From one /24 far more requests than are answered.
	const asked = 3000
	began := time.Now()
	many := netip.MustParseAddr("44.200.1.1")
	for range asked {
		f.add(netip.AddrPortFrom(many, uint16(1024+v.random.IntN(60000))), v.base(), stun.AppendRequest(nil, [12]byte(randomBytes(v.random, 12))))
	}
	f.flush()
	v.c.Hnet("ping", v.d.Address.String(), "-c", "1")
	took := time.Since(began)

	answered := 0
	for _, frames := range [][]lab.Frame{sink.Stop(), stranger.Stop()} {
		for _, frame := range frames {
			p := frame.Decode()
			if frame.Out || (p.Src != v.base().Addr() && p.Src != v.robot1().Addr()) {
				continue
			}
			if p.Dst == many {
				answered++
				continue
			}
			s := sources[p.Dst]
			if s == nil {
				t.Errorf("nobody asked for %v", p)
				continue
			}
			s.n++
			s.out += frame.Len - 14
			s.longest = max(s.longest, p.PayloadLen)
		}
	}
	if own.out > own.in {
		t.Errorf("%d bytes from the stranger's own address were answered with %d", own.in, own.out)
	}
	totals := make(map[string][3]int)
	for from, s := range sources {
		if s == own {
			continue
		}
		totals[s.attack.kind] = [3]int{totals[s.attack.kind][0] + s.in, totals[s.attack.kind][1] + s.out, totals[s.attack.kind][2] + s.n}
		if s.attack.stun {
			if s.longest > stun.SuccessLen6 || s.n > s.asked {
				t.Errorf("%s: %d answers of at most %d bytes to %d requests", s.attack.kind, s.n, s.longest, s.asked)
			}
		} else if s.out > s.in {
			t.Errorf("%s: %d bytes from %v were answered with %d", s.attack.kind, s.in, from, s.out)
		}
	}
	for kind, n := range totals {
		t.Logf("%-40s %7d bytes in, %7d out in %d answers", kind, n[0], n[1], n[2])
	}
	if n := totals["hello"][2]; n == 0 {
		t.Error("no hello was answered: nothing is proved")
	}
	// 200 at once and 50 a second; the rate is that of the prefix, whatever the port.
	if most := 200 + int(took.Seconds()*50) + 50; answered == 0 || answered > most {
		t.Errorf("%d of %d STUN requests of one network were answered in %v, %d at most", answered, asked, took, most)
	}
	t.Logf("%d of %d STUN requests of one network were answered", answered, asked)
}
