package path

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unsafe"
)

// settled returns two public hosts with relays that have talked directly for a while.
func settled(t *testing.T, relays int) (w *world, x, y *host, on *bool) {
	t.Helper()
	w = newWorld(t, 1)
	x, y = w.pair(nil, nil, relays)
	on = new(bool)
	*on = true
	w.meet(x, y, on)
	if !w.run(3*time.Second, func() bool { return x.kindNow() == Direct && y.kindNow() == Direct }) {
		t.Fatal("never direct")
	}
	w.run(20*time.Second, nil)
	x.gap, y.gap = 0, 0
	x.sent, y.sent = nil, nil
	return w, x, y, on
}

// block drops all datagrams that pass the internet and all relays named.
func block(w *world, relays ...*simRelay) {
	w.drop = func(*datagram) bool { return true }
	for _, r := range relays {
		r.down = true
	}
}

func TestFailover(t *testing.T) {
	for _, c := range []struct {
		name  string
		delay time.Duration
		cut   func(w *world, x *host)
		kind  Kind
		limit time.Duration
	}{
		{"direct dies", 20 * time.Millisecond, func(w *world, x *host) { block(w) }, RelayUDP, 1700 * time.Millisecond},
		{"slow direct dies", 240 * time.Millisecond, func(w *world, x *host) { block(w) }, RelayUDP, 2500 * time.Millisecond},
		{"direct and a relay die", 20 * time.Millisecond, func(w *world, x *host) { block(w, x.relays[0]) }, RelayUDP, 2500 * time.Millisecond},
		{"one way only", 20 * time.Millisecond, func(w *world, x *host) {
			w.drop = func(p *datagram) bool { return p.src.Addr() == x.inside }
		}, RelayUDP, 2500 * time.Millisecond},
	} {
		for step := range 10 {
			w, x, y, _ := settled(t, 2)
			w.delay = c.delay
			w.run(20*time.Second+time.Duration(step)*97*time.Millisecond, nil)
			if x.kindNow() != Direct {
				t.Fatalf("%s: %v before the cut", c.name, x.kindNow())
			}
			x.gap, y.gap = 0, 0
			c.cut(w, x)
			w.run(10*time.Second, nil)
			if x.kindNow() != c.kind || y.kindNow() != c.kind && c.name != "one way only" {
				t.Errorf("%s: on %v and %v", c.name, x.kindNow(), y.kindNow())
			}
			if gap := max(x.gap, y.gap); gap > c.limit+c.delay {
				t.Errorf("%s (%d): traffic stopped for %v", c.name, step, gap)
			}
			w.drop = nil
			w.run(35*time.Second, nil)
			if x.kindNow() != Direct || y.kindNow() != Direct {
				t.Errorf("%s: on %v and %v when it works again", c.name, x.kindNow(), y.kindNow())
			}
		}
	}
}

// TestRelayFailover has the Base in use die, with no direct path.
func TestRelayFailover(t *testing.T) {
	for step := range 10 {
		w := newWorld(t, 2)
		x, y := w.pair(&symmetric, &symmetric, 2)
		on := true
		w.meet(x, y, &on)
		w.run(30*time.Second+time.Duration(step)*97*time.Millisecond, nil)
		key, _, _, _ := x.m.Best()
		x.gap, y.gap = 0, 0
		key.Carrier.(*simRelay).down = true
		w.run(10*time.Second, nil)
		if gap := max(x.gap, y.gap); gap > 2*time.Second {
			t.Errorf("traffic stopped for %v", gap)
		}
		x.gap, y.gap = 0, 0
		now, _, _, _ := x.m.Best()
		x.m.Withdraw(w.time(), now.Carrier)
		if got, _, _, _ := x.m.Best(); got == now || x.m.find(now) != nil {
			t.Error("a withdrawn relay is still there")
		}
	}
}

// TestRoam moves a host to another network: it follows, and so does its peer.
func TestRoam(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after *natKind
	}{{"public", nil, nil}, {"NATs", &portRestricted, &linuxOpen}, {"to symmetric", &linuxFilter, &symmetric}} {
		w := newWorld(t, 3)
		x, y := w.pair(c.before, &restrictedCone, 1)
		on := true
		w.meet(x, y, &on)
		direct := func() bool { return x.kindNow() == Direct && y.kindNow() == Direct }
		w.run(20*time.Second, nil)
		if !direct() {
			t.Fatalf("%s: never direct", c.name)
		}
		x.gap, y.gap = 0, 0
		x.attach(7, c.after)
		old := x.main
		x.m.LinksChanged(w.time(), func(k Key) bool { return k.Carrier == old })
		if k := x.kindNow(); k != RelayUDP {
			t.Errorf("%s: on %v after the address went", c.name, k)
		}
		x.pump()
		// The peer learns the new endpoint by a Base a moment later.
		w.after(100*time.Millisecond, func() { y.offer() })
		start := w.now
		if !w.run(3*time.Second, direct) {
			t.Fatalf("%s: %v and %v 3 s after roaming", c.name, x.kindNow(), y.kindNow())
		}
		t.Logf("%s: direct again after %v", c.name, w.now-start)
		w.run(3*time.Second, nil)
		if gap := max(x.gap, y.gap); gap > 500*time.Millisecond {
			t.Errorf("%s: traffic stopped for %v", c.name, gap)
		}
		w.run(20*time.Second, nil)
		if !direct() {
			t.Errorf("%s: fell back", c.name)
		}
	}
}

// TestFollow has the peer choose another path than ours, because ours died in a way only it noticed.
func TestFollow(t *testing.T) {
	w, x, y, _ := settled(t, 1)
	block(w)
	relay := Key{Carrier: x.relays[0]}
	at := w.now
	y.m.die(y.m.at(w.time()), y.m.best)
	y.pump()
	if !w.run(time.Second, func() bool { key, _, _, _ := x.m.Best(); return key == relay }) {
		t.Fatal("never followed")
	}
	if took := w.now - at; took > 300*time.Millisecond {
		t.Errorf("followed after %v", took)
	}
}

// TestIdle: 30 s after the last traffic there is silence, and traffic begins anew without loss.
func TestIdle(t *testing.T) {
	w, x, y, on := settled(t, 2)
	*on = false
	w.run(31*time.Second, nil)
	x.sent, y.sent = nil, nil
	w.run(10*time.Minute, nil)
	for _, h := range []*host{x, y} {
		if len(h.sent) > 0 {
			t.Errorf("%s sent %d probes while idle", h.name, len(h.sent))
		}
		if !h.m.Next().IsZero() || h.m.work != nil {
			t.Errorf("%s is not asleep", h.name)
		}
	}
	x.gap, y.gap, x.received, y.received = 0, 0, 0, 0
	*on = true
	x.talk(20*time.Millisecond, on)
	y.talk(20*time.Millisecond, on)
	w.run(5*time.Second, nil)
	if x.kindNow() != Direct || max(x.gap, y.gap) > 100*time.Millisecond {
		t.Errorf("on %v with a gap of %v", x.kindNow(), max(x.gap, y.gap))
	}
}

// TestSettle: a handshake settles the path once, without traffic.
func TestSettle(t *testing.T) {
	w := newWorld(t, 1)
	x, y := w.pair(&linuxOpen, &portRestricted, 1)
	for _, h := range []*host{x, y} {
		h.m.SetCandidates(w.time(), h.candidates())
		h.m.Proved(w.time(), Key{Carrier: h.relays[0]}, RelayUDP, 60*time.Millisecond)
		h.m.Enable(w.time(), true)
		h.pump()
	}
	w.run(10*time.Second, nil)
	if x.kindNow() != Direct || y.kindNow() != Direct {
		t.Errorf("on %v and %v", x.kindNow(), y.kindNow())
	}
	x.sent, y.sent = nil, nil
	// The next handshake changes nothing, and costs nothing.
	key, kind, _, _ := x.m.Best()
	x.m.Proved(w.time(), key, kind, 0)
	x.pump()
	w.run(10*time.Minute, nil)
	if n := len(x.sent) + len(y.sent); n > 0 {
		t.Errorf("%d probes while idle", n)
	}
}

// TestUpgrade: a better kind is taken at once, a worse one never, whatever its RTT.
func TestUpgrade(t *testing.T) {
	w, x, y, _ := settled(t, 1)
	x.lanMTU, y.lanMTU = 1500, 1500
	x.local = []Candidate{{Key: Key{y.main, netip.AddrPortFrom(x.inside, 5582)}, Kind: LAN, Bound: 1500}}
	y.local = []Candidate{{Key: Key{x.main, netip.AddrPortFrom(y.inside, 5582)}, Kind: LAN, Bound: 1500}}
	at := w.now
	x.offer()
	y.offer()
	if !w.run(time.Second, func() bool { return x.kindNow() == LAN && y.kindNow() == LAN }) {
		t.Fatalf("on %v and %v", x.kindNow(), y.kindNow())
	}
	t.Log("LAN after", w.now-at)
}

// lab is a machine without a peer, to be fed by hand.
type lab struct {
	t   *testing.T
	m   *Machine
	now time.Time
	out []Probe
	sig []Signal
}

func newLab(t *testing.T, cs ...Candidate) *lab {
	l := &lab{t: t, m: New(rand.NewPCG(1, 2)), now: epoch}
	l.m.SetCandidates(l.now, cs)
	l.m.Enable(l.now, true)
	l.m.Traffic(l.now)
	l.poll()
	return l
}

func (l *lab) poll() {
	l.m.Tick(l.now)
	for {
		o, ok := l.m.Poll(l.now)
		if !ok {
			checkBest(l.t, l.m)
			return
		}
		if o.Signal != NoSignal {
			l.sig = append(l.sig, o.Signal)
		} else {
			l.out = append(l.out, o.Probe)
		}
	}
}

// pass lets time pass with traffic; reply says after what time a probe is answered, 0 = never.
func (l *lab) pass(d time.Duration, reply func(Probe) time.Duration) {
	type answer struct {
		at time.Time
		p  Probe
	}
	var answers []answer
	for end := l.now.Add(d); l.now.Before(end); l.now = l.now.Add(time.Millisecond) {
		l.m.Traffic(l.now)
		for i := 0; i < len(answers); i++ {
			if a := answers[i]; !a.at.After(l.now) {
				l.m.Reply(l.now, a.p.Key, a.p.Kind, a.p.Sequence)
				answers = slices.Delete(answers, i, i+1)
				i--
			}
		}
		n := len(l.out)
		l.poll()
		for _, p := range l.out[n:] {
			if reply != nil {
				if d := reply(p); d > 0 {
					answers = append(answers, answer{l.now.Add(d), p})
				}
			}
		}
	}
}

func (l *lab) best() Key { key, _, _, _ := l.m.Best(); return key }

type carrier struct{ name string }

var socket = &carrier{"socket"}

func direct(address string) Candidate {
	return Candidate{Key: Key{socket, netip.MustParseAddrPort(address)}, Kind: Direct}
}

func relayBy(name string) Candidate {
	return Candidate{Key: Key{Carrier: &carrier{name}}, Kind: RelayUDP}
}

// TestPreference has paths of one kind differ in RTT.
func TestPreference(t *testing.T) {
	a, b := direct("192.0.2.1:1"), direct("192.0.2.2:2")
	for _, c := range []struct {
		name string
		a, b time.Duration // RTT; a comes first
		take bool          // b is taken
	}{
		{"much faster", 50 * time.Millisecond, 20 * time.Millisecond, true},
		{"little faster", 50 * time.Millisecond, 42 * time.Millisecond, false},
		{"by less than 2 ms", 3 * time.Millisecond, 2 * time.Millisecond, false},
		{"slower", 20 * time.Millisecond, 50 * time.Millisecond, false},
	} {
		l := newLab(t, a)
		l.pass(5*time.Second, func(Probe) time.Duration { return c.a })
		l.m.SetCandidates(l.now, []Candidate{a, b})
		l.pass(40*time.Second, func(p Probe) time.Duration {
			if p.Key == a.Key {
				return c.a
			}
			return c.b
		})
		if (l.best() == b.Key) != c.take {
			t.Errorf("%s: on %v", c.name, l.best())
		}
	}
}

// TestLossy leaves a direct path for its loss, and takes it again later each time.
func TestLossy(t *testing.T) {
	relay, d := relayBy("base"), direct("192.0.2.1:1")
	l := newLab(t, relay, d)
	random := rand.New(rand.NewPCG(4, 4))
	bad := false
	reply := func(p Probe) time.Duration {
		if p.Key == d.Key && bad && random.IntN(10) < 4 {
			return 0
		}
		return 20 * time.Millisecond
	}
	l.m.Proved(l.now, d.Key, Direct, 0)
	l.pass(15*time.Second, reply)
	if l.best() != d.Key {
		t.Fatal("not direct")
	}
	bad = true
	l.pass(3*time.Minute, reply)
	on := 0
	for range 300 {
		l.pass(time.Second, reply)
		if l.best() == d.Key {
			on++
		}
	}
	if on > 60 {
		t.Errorf("on a path that loses 40 %% for %d of 300 s", on)
	}
	bad = false
	l.pass(35*time.Minute, reply)
	if l.best() != d.Key {
		t.Error("not taken again when it is good")
	}
}

// TestRate bounds the probes of a machine that has everything to do.
func TestRate(t *testing.T) {
	var cs []Candidate
	for i := range maxTracks {
		cs = append(cs, Candidate{Key: Key{socket, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 9)}, Kind: LAN})
	}
	l := newLab(t, cs...)
	first := len(l.out)
	l.pass(10*time.Second, nil)
	if first > probeBurst || len(l.out) > probeBurst+10*probeRate || len(l.out) < 150 {
		t.Errorf("%d probes at once, %d in 10 s", first, len(l.out))
	}
}

// TestCrowd: a peer that names more endpoints than there is room for does not push out the relays, nor the path in use.
func TestCrowd(t *testing.T) {
	d, relay := direct("192.0.2.1:1"), relayBy("base")
	l := newLab(t, relay, d)
	l.m.Proved(l.now, d.Key, Direct, 0)
	var cs []Candidate
	for i := range 60 {
		cs = append(cs, direct(netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 9).String()))
	}
	l.m.SetCandidates(l.now, append(cs, relay))
	l.poll()
	if l.best() != d.Key || l.m.find(relay.Key) == nil || len(l.m.tracks) > maxTracks {
		t.Errorf("on %v, %d tracks", l.best(), len(l.m.tracks))
	}
	for i := range 100 {
		l.m.Arrived(l.now, direct(netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 9).String()).Key, Direct)
		l.poll()
	}
	if l.best() != d.Key || l.m.find(relay.Key) == nil || len(l.m.tracks) > maxTracks {
		t.Errorf("on %v, %d tracks", l.best(), len(l.m.tracks))
	}
}

// TestVictim: a peer whose record names a stranger's address, under many ports and again and again, has few probes sent there.
func TestVictim(t *testing.T) {
	relay := relayBy("base")
	victim := netip.MustParseAddr("198.51.100.1")
	l := newLab(t, relay)
	var at []time.Time
	port := uint16(0)
	for range 600 {
		cs := []Candidate{relay}
		for range 8 {
			port++
			kind := Direct
			if port%2 == 0 {
				kind = LAN
			}
			cs = append(cs, Candidate{Key: Key{socket, netip.AddrPortFrom(victim, 1000+port)}, Kind: kind})
		}
		l.m.SetCandidates(l.now, cs)
		l.m.Signaled(l.now, SignalOffer)
		if port%3 == 0 {
			l.m.Enable(l.now, false)
			l.m.Enable(l.now, true)
		}
		l.m.Asked(l.now, Key{socket, netip.AddrPortFrom(victim, port)}, Direct, FlagSelected|FlagMoved)
		n := len(l.out)
		l.pass(100*time.Millisecond, func(p Probe) time.Duration {
			if p.Kind.Relayed() {
				return 10 * time.Millisecond
			}
			return 0
		})
		for _, p := range l.out[n:] {
			if p.Key.Remote.Addr() == victim {
				at = append(at, l.now)
			}
		}
	}
	for i := range at {
		inMinute := 0
		atOnce := 0
		for _, o := range at[i:] {
			if o.Sub(at[i]) < time.Minute {
				inMinute++
			}
			if o.Sub(at[i]) < 4*time.Second {
				atOnce++
			}
		}
		if inMinute > 2*quotaBurst || atOnce > quotaBurst+1 {
			t.Fatalf("%d probes to a victim in a minute, %d in 4 s", inMinute, atOnce)
		}
	}
	t.Log(len(at), "probes in a minute")
}

// TestForged: a reply that comes by another path than its probe proves the probed one only.
func TestForged(t *testing.T) {
	d := direct("192.0.2.1:1")
	l := newLab(t, relayBy("base"))
	l.m.Arrived(l.now, d.Key, Direct)
	l.poll()
	p := l.out[len(l.out)-1]
	if p.Key != d.Key {
		t.Fatal("an unknown endpoint was not probed at once")
	}
	forged := Key{socket, netip.MustParseAddrPort("198.51.100.1:1")}
	l.m.Reply(l.now, forged, Direct, p.Sequence)
	if l.best() != d.Key {
		t.Errorf("on %v", l.best())
	}
	l.m.Reply(l.now, forged, Direct, p.Sequence)
	l.m.Reply(l.now, forged, Direct, p.Sequence+1)
	if l.best() != d.Key {
		t.Errorf("on %v", l.best())
	}
}

// TestMoved: a peer that lost its path has our direct ones doubted, and what it came by used until they answer.
func TestMoved(t *testing.T) {
	d, relay, second := direct("192.0.2.1:1"), relayBy("base"), relayBy("other")
	alive := true
	reply := func(p Probe) time.Duration {
		if p.Key == d.Key && !alive {
			return 0
		}
		return 20 * time.Millisecond
	}
	for _, alive = range []bool{true, false} {
		answers := alive
		alive = true
		l := newLab(t, relay, second, d)
		l.m.Proved(l.now, d.Key, Direct, 0)
		l.pass(5*time.Second, reply)
		if l.best() != d.Key {
			t.Fatal("not direct")
		}
		alive = answers
		n := len(l.out)
		l.m.Asked(l.now, second.Key, RelayUDP, FlagSelected|FlagMoved)
		l.poll()
		if l.best() != second.Key {
			t.Error("not on the path that the peer came by")
		}
		if len(l.out) == n || l.out[n].Key != d.Key && l.out[n+1].Key != d.Key {
			t.Errorf("the doubtful path was not probed at once: %+v", l.out[n:])
		}
		l.pass(time.Second, reply)
		if (l.best() == d.Key) != answers {
			t.Errorf("answers %v, on %v", answers, l.best())
		}
	}
}

// TestFlags: probes say which path is selected, and that one was lost.
func TestFlags(t *testing.T) {
	d, relay := direct("192.0.2.1:1"), relayBy("base")
	reply := func(Probe) time.Duration { return 20 * time.Millisecond }
	l := newLab(t, relay, d)
	l.m.Proved(l.now, d.Key, Direct, 0)
	l.pass(2*time.Second, reply)
	l.out = nil
	l.pass(20*time.Second, reply)
	for _, p := range l.out {
		if want := p.Key == d.Key; (p.Flags&FlagSelected != 0) != want || p.Flags&FlagMoved != 0 {
			t.Errorf("flags %d of a %v probe", p.Flags, p.Kind)
		}
	}
	l.m.LinksChanged(l.now, func(k Key) bool { return k == d.Key })
	l.out = nil
	l.pass(time.Second, reply)
	for _, p := range l.out {
		if p.Flags&FlagMoved == 0 {
			t.Error("a probe does not tell that the path was lost")
		}
	}
	l.pass(4*time.Second, reply)
	l.out = nil
	l.pass(2*time.Second, reply)
	for _, p := range l.out {
		if p.Flags&FlagMoved != 0 {
			t.Error("tells it for ever")
		}
	}
}

// TestStock: a peer that answers no probes is followed as WireGuard does, and never probed.
func TestStock(t *testing.T) {
	l := &lab{t: t, m: New(rand.NewPCG(1, 2)), now: epoch}
	a, b := direct("192.0.2.1:1"), direct("192.0.2.2:2")
	l.m.SetCandidates(l.now, []Candidate{a})
	if _, _, _, ok := l.m.Best(); ok {
		t.Error("an unproved path is taken")
	}
	l.m.Proved(l.now, a.Key, Direct, time.Millisecond)
	l.m.Traffic(l.now)
	if l.best() != a.Key {
		t.Error("not on the proved path")
	}
	l.m.Arrived(l.now, b.Key, Direct)
	if l.best() != b.Key {
		t.Error("did not roam")
	}
	l.pass(time.Minute, nil)
	if len(l.out)+len(l.sig) > 0 || !l.m.Next().IsZero() {
		t.Error("probed")
	}
}

// TestMemory holds the machine to its size, and the calls of the hot path to no allocation.
func TestMemory(t *testing.T) {
	if size := unsafe.Sizeof(Machine{}); size > 320 {
		t.Errorf("a Machine is %d bytes", size)
	}
	if size := unsafe.Sizeof(track{}); size > 136 {
		t.Errorf("a track is %d bytes", size)
	}
	d := direct("192.0.2.1:1")
	l := newLab(t, relayBy("base"), d)
	l.pass(time.Second, func(Probe) time.Duration { return time.Millisecond })
	now := l.now
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Microsecond)
		l.m.Traffic(now)
		l.m.Arrived(now, d.Key, Direct)
		l.m.Best()
		l.m.Next()
	}); n > 0 {
		t.Errorf("%v allocations per train", n)
	}
}

// TestWords holds the words that are told to users.
func TestWords(t *testing.T) {
	for got, want := range map[string]string{
		LAN.String(): "lan", Direct.String(): "direct", RelayUDP.String(): "relay_udp", RelayTCP.String(): "relay_tcp", Kind(9).String(): "kind 9",
		Untried.String(): "untried", Alive.String(): "alive", Doubtful.String(): "doubtful", Dead.String(): "dead", State(9).String(): "state 9",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestNumbers: the runtime's random numbers do as well.
func TestNumbers(t *testing.T) {
	m := New(nil)
	d := direct("192.0.2.1:1")
	m.SetCandidates(epoch, []Candidate{d})
	m.Enable(epoch, true)
	m.Traffic(epoch)
	o, ok := m.Poll(epoch)
	if !ok {
		t.Fatal("nothing was probed")
	}
	m.Reply(epoch.Add(time.Millisecond), d.Key, Direct, o.Probe.Sequence)
	if key, _, _, _ := m.Best(); key != d.Key {
		t.Error("not proved")
	}
}

// TestStatus measures RTT, jitter and loss.
func TestStatus(t *testing.T) {
	d := direct("192.0.2.1:1")
	l := newLab(t, d)
	n := 0
	l.pass(40*time.Second, func(Probe) time.Duration {
		if n++; n%8 == 0 {
			return 0
		}
		return 30 * time.Millisecond
	})
	s := l.m.Status()
	if len(s) != 1 || !s[0].Selected || !s[0].LossKnown {
		t.Fatalf("%+v", s)
	}
	if r := s[0].RTT; r < 29*time.Millisecond || r > 32*time.Millisecond {
		t.Errorf("RTT %v", r)
	}
	if s[0].Loss < 0.03 || s[0].Loss > 0.25 {
		t.Errorf("loss %v", s[0].Loss)
	}
}

func BenchmarkTrain(b *testing.B) {
	m := New(rand.NewPCG(1, 2))
	d := direct("192.0.2.1:1")
	m.SetCandidates(epoch, []Candidate{d})
	m.Enable(epoch, true)
	m.Proved(epoch, d.Key, Direct, 0)
	m.Traffic(epoch)
	now := epoch
	for b.Loop() {
		now = now.Add(10)
		m.Traffic(now)
		m.Arrived(now, d.Key, Direct)
		m.Best()
	}
}
