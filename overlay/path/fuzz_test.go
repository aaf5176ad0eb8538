package path

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// FuzzMachine plays random events against a model that knows only what must always hold: no path that never answered carries traffic unless it is a
// relay; probes stay within the rate, and those to an address that never answered within its quota; what is due is done; silence when idle.
func FuzzMachine(f *testing.F) {
	f.Add(uint64(1), []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13})
	f.Add(uint64(2), []byte("\x00\x10\x20\x01\x05\x03\x44\x03\x44\x03\x99\x08\x01\x09\x02\x0a\x33"))
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 9))
		b := make([]byte, 500)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(seed, b)
	}
	f.Fuzz(func(t *testing.T, seed uint64, script []byte) {
		if len(script) > 512 {
			return
		}
		newModel(t, seed).play(script)
	})
}

type model struct {
	t       *testing.T
	m       *Machine
	now     time.Time
	keys    []Candidate
	proven  map[Key]bool // by a proof of any kind
	flying  []Probe
	at      []time.Time // probes
	silent  map[netip.Addr][]time.Time
	address map[netip.Addr]bool // answered
	traffic time.Time           // or what else may cause probes
	enabled bool
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		t: t, m: New(rand.NewPCG(seed, seed)), now: epoch, proven: map[Key]bool{}, silent: map[netip.Addr][]time.Time{}, address: map[netip.Addr]bool{},
	}
	for i := range 48 {
		c := Candidate{Key: Key{socket, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i / 3)}), uint16(1+i))}, Kind: Kind(i % 2), Bound: i % 7 * 1500}
		if i%6 == 5 {
			c = Candidate{Key: Key{Carrier: &carrier{"base"}}, Kind: RelayUDP + Kind(i/6%2), Bound: 1500}
		}
		m.keys = append(m.keys, c)
	}
	return m
}

func (m *model) play(script []byte) {
	next := func() byte {
		if len(script) == 0 {
			return 0
		}
		b := script[0]
		script = script[1:]
		return b
	}
	for len(script) > 0 {
		op, arg := next(), next()
		c := m.keys[int(arg)%len(m.keys)]
		switch op % 16 {
		case 0:
			m.enabled = arg%4 != 0
			m.m.Enable(m.now, m.enabled)
		case 1:
			var cs []Candidate
			for i := range arg % 40 {
				c := m.keys[int(next())%len(m.keys)]
				c.Spare, c.Uplink = op>>4&(1<<(i%4)) != 0, uint32(i%3)
				cs = append(cs, c)
			}
			m.m.SetCandidates(m.now, cs)
		case 2:
			m.m.Withdraw(m.now, c.Carrier)
		case 3:
			m.m.Arrived(m.now, c.Key, c.Kind)
			if !m.enabled {
				m.proven[c.Key] = true
				m.address[c.Remote.Addr()] = true
			}
		case 4:
			m.m.Proved(m.now, c.Key, c.Kind, time.Duration(arg)*time.Millisecond)
			m.proven[c.Key] = true
			m.address[c.Remote.Addr()] = true
			m.stir(settleFor)
		case 5, 6:
			if len(m.flying) > 0 {
				i := int(arg) % len(m.flying)
				p := m.flying[i]
				m.flying = append(m.flying[:i], m.flying[i+1:]...)
				m.proven[p.Key] = true // if it is not too late
				m.address[p.Key.Remote.Addr()] = true
				by := p.Key
				if op%3 == 0 {
					by = c.Key
				}
				if !m.enabled {
					m.proven[by] = true
					m.address[by.Remote.Addr()] = true
				}
				m.m.Reply(m.now, by, c.Kind, p.Sequence)
			}
		case 7:
			m.m.Asked(m.now, c.Key, c.Kind, op>>4)
			if !m.enabled {
				m.proven[c.Key] = true
				m.address[c.Remote.Addr()] = true
			}
		case 8, 9:
			m.m.Traffic(m.now)
			m.stir(probeAfter)
		case 10:
			m.m.LinksChanged(m.now, func(k Key) bool {
				lost := k.Carrier == c.Carrier && arg%2 == 0
				if lost && m.enabled {
					delete(m.proven, k)
				}
				return lost
			})
		case 11:
			m.m.Signaled(m.now, Signal(arg%5))
			m.stir(settleFor)
		case 13:
			switch op >> 4 % 4 {
			case 0:
				m.m.Copying(m.now)
			case 1:
				from := m.keys[int(next())%len(m.keys)].Key
				if m.m.find(from) != nil {
					for i := range m.flying {
						if m.flying[i].Key == from {
							m.flying[i].Key = c.Key
						}
					}
				}
				m.m.Rename(m.now, from, c.Key)
				m.proven[c.Key] = m.proven[c.Key] || m.proven[from]
				m.address[c.Remote.Addr()] = m.address[c.Remote.Addr()] || m.address[from.Remote.Addr()]
			case 2:
				m.m.Leaves(m.now, c.Key, uint32(arg%3), arg&64 != 0)
			default:
				m.m.Copied(m.now)
			}
		case 12:
			m.m.SetTTL(arg % 8)
			m.m.Suspect(m.now, int(arg)*8)
			m.m.Punch(m.now)
		default:
			m.pass(time.Duration(arg) * time.Duration(arg) * time.Millisecond)
		}
		m.poll()
	}
	m.pass(time.Minute)
	if m.m.work != nil || !m.m.Next().IsZero() {
		m.t.Fatal("awake a minute after the last event")
	}
	for _, h := range m.silent {
		m.within(h, quotaBurst, 12, "an address that never answered")
	}
	m.within(m.at, probeBurst, 60*probeRate, "the peer")
}

// within holds times to a token bucket.
func (m *model) within(at []time.Time, burst, perMinute int, to string) {
	level := float64(0)
	for i, t := range at {
		if i > 0 {
			level = max(0, level-t.Sub(at[i-1]).Minutes()*float64(perMinute))
		}
		if level++; level > float64(burst)+0.01 {
			m.t.Fatalf("%.1f probes at once to %s", level, to)
		}
	}
}

func (m *model) stir(d time.Duration) {
	if until := m.now.Add(d); until.After(m.traffic) {
		m.traffic = until
	}
}

// pass lets time pass the way the engine does: it wakes when Next says.
func (m *model) pass(d time.Duration) {
	end := m.now.Add(d)
	for range 100_000 {
		next := m.m.Next()
		if next.IsZero() || next.After(end) {
			m.now = end
			return
		}
		m.now = next
		m.poll()
	}
	m.t.Fatal("Next does not advance")
}

func (m *model) poll() {
	m.m.Tick(m.now)
	for n := 0; ; n++ {
		o, ok := m.m.Poll(m.now)
		if !ok {
			break
		}
		if n > 200 {
			m.t.Fatal("Poll does not end")
		}
		if !m.enabled {
			m.t.Fatal("sends while disabled")
		}
		if m.now.After(m.traffic) {
			m.t.Fatal("sends while idle")
		}
		if o.Signal != NoSignal {
			if _, _, _, ok := m.m.Best(); !ok {
				m.t.Fatal("a signal without a path")
			}
			continue
		}
		p := o.Probe
		m.at = append(m.at, m.now)
		if m.flying = append(m.flying, p); len(m.flying) > 40 {
			m.flying = m.flying[1:]
		}
		if tr := m.m.find(p.Key); tr == nil {
			m.t.Fatal("a probe to nobody")
		} else if addr := p.Key.Remote.Addr(); addr.IsValid() && !p.Kind.Relayed() && !m.address[addr] {
			m.silent[addr] = append(m.silent[addr], m.now)
		}
	}
	key, kind, _, ok := m.m.Best()
	if ok && !kind.Relayed() && !m.proven[key] {
		m.t.Fatalf("%v %v carries traffic and was never proved", kind, key)
	}
	if next := m.m.Next(); !next.IsZero() && !next.After(m.now) {
		m.t.Fatalf("Next is %v ago", m.now.Sub(next))
	}
	if len(m.m.tracks) > maxTracks || len(m.m.quotas) > maxQuotas || m.m.work != nil && len(m.m.work.flights) > maxFlights {
		m.t.Fatal("a table grew out of bounds")
	}
	m.m.Status()
	if second, kind, _, ok := m.m.Backup(); ok && (second == key || !kind.Relayed() && !m.proven[second]) {
		m.t.Fatalf("%v %v carries copies beside %v", kind, second, key)
	}
}
