package engine

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// manyIdentity is the identity of one of many peers.
func manyIdentity(i int) *identity.Identity {
	seed := [32]byte{200, 7}
	binary.BigEndian.PutUint32(seed[4:], uint32(i))
	return identity.FromSeed(seed)
}

// TestWantedWithoutAWay: peers of which nothing but the key is known cost no handshakes however long they are wanted, and are reached
// at once when it is learned where they are.
func TestWantedWithoutAWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 1000
		stamps := 0
		n := newNetwork()
		a := newNode(t, n, 1, "192.0.2.1:5582", func(c *Config) {
			stamp := c.Stamp
			c.Stamp = func() time.Time { stamps++; return stamp() }
		})
		b := newNode(t, n, 2, "192.0.2.2:5582")
		a.knows(b)
		b.knows(a)
		wanted := []netip.Addr{b.id.Address()}
		for i := range many {
			id := manyIdentity(i)
			a.known.put(Contact{Address: id.Address(), Key: id.PublicKey(), Native: i%2 == 0})
			wanted = append(wanted, id.Address())
		}
		ask := func() {
			for i, to := range wanted {
				a.send(udpPacket(a.id.Address(), to, uint32(i), 100))
			}
		}
		states := func() (count map[State]int) {
			synctest.Wait()
			count = make(map[State]int)
			a.States(func(_ netip.Addr, s State) { count[s]++ })
			return count
		}
		ask()
		time.Sleep(time.Second)
		if got := states(); got[Connecting] != many+1 {
			t.Errorf("states while wanted: %v", got)
		}
		time.Sleep(2 * time.Minute)
		if got := states(); got[Unreachable] != many+1 {
			t.Errorf("states after giving up: %v", got)
		}
		if s, _ := a.Peer(wanted[1]); !s.GivenUp {
			t.Error("it is not said that a peer was given up")
		}
		if len(n.sightings()) != 0 || stamps != 0 {
			t.Errorf("%d datagrams sent, %d initiations made", len(n.sightings()), stamps)
		}
		if a.happened(ContactWanted) < many {
			t.Errorf("only %d times was it told that a peer is wanted", a.happened(ContactWanted))
		}
		ask()
		time.Sleep(time.Second)
		a.knows(b, "192.0.2.2:5582")
		a.Refresh(b.id.Address())
		time.Sleep(time.Millisecond)
		if got := len(b.received()); got != 1 {
			t.Errorf("%d packets arrived once it was known where to, want the one that waited", got)
		}
		if got := states(); got[Connected] != 1 || stamps != 1 {
			t.Errorf("states in the end: %v; %d initiations", got, stamps)
		}
	})
}

// TestTimersOfManyPeersAreBatched: sessions that are probed every second wake the node at the moments of one grid, and none is probed less for it.
func TestTimersOfManyPeersAreBatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 60
		n := newNetwork()
		hub := newNode(t, n, 1, "192.0.2.1:5582")
		time.Sleep(7 * time.Millisecond) // the grids of others lie elsewhere
		var peers []*node
		for i := range many {
			p := newNode(t, n, byte(2+i), fmt.Sprintf("192.0.2.%d:5582", 2+i))
			p.knows(hub, "192.0.2.1:5582")
			hub.knows(p)
			peers = append(peers, p)
		}
		talk := func() {
			for i, p := range peers {
				p.send(udpPacket(p.id.Address(), hub.id.Address(), uint32(i), 100))
				time.Sleep(3 * time.Millisecond)
			}
		}
		talk()
		time.Sleep(5 * time.Second) // the probes of the beginning are over
		talk()
		begin := time.Now()
		since := len(n.sightings())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		wakes := make(map[time.Duration]bool)       // at which the hub sent something of its own accord
		heard := make(map[netip.AddrPort]time.Time) // when a peer's probe or answer came
		sent := make(map[netip.AddrPort]int)        // probes and answers to a peer
		for _, x := range n.sightings()[since:] {
			switch {
			case x.from != hub.port.addr:
				heard[x.from] = x.at
				continue
			case len(x.b) == probeSize:
				sent[x.to]++
			}
			if !heard[x.to].Equal(x.at) {
				wakes[x.at.Sub(hub.timers.epoch)] = true
			}
		}
		for at := range wakes {
			if at%grain != 0 {
				t.Errorf("something left %v off the grid", at%grain)
			}
		}
		if most := int(time.Since(begin) / grain); len(wakes) > most || len(wakes) < most/5 {
			t.Errorf("awake at %d moments, %d at most, and spread over those", len(wakes), most)
		}
		if len(sent) != many {
			t.Fatalf("%d peers were probed", len(sent))
		}
		for to, count := range sent {
			if count < 18 || count > 26 { // ten of each, and those that seek the MTU
				t.Errorf("%d probes and answers to %v in ten seconds", count, to)
			}
		}
	})
}

// TestScheduleGrid: a deadline waits for the grid, what is paced does not, and no deadline comes early.
func TestScheduleGrid(t *testing.T) {
	var s schedule
	s.init()
	at := s.epoch.Add(3 * grain)
	for _, test := range []struct {
		name         string
		next, resume time.Duration // after at; 0 = no resume
		want         time.Duration
	}{
		{"on the grid", 0, 0, 0},
		{"just after it", 1, 0, grain},
		{"just before it", grain - 1, 0, grain},
		{"paced", 1, 1, 1},
		{"paced, and it is the first", 1, grain / 2, grain / 2},
		{"paced later", 1, 5 * grain, grain},
	} {
		p := &peer{}
		if test.resume != 0 {
			p.resume = at.Add(test.resume)
		}
		s.arm(p, at.Add(test.next))
		if got := p.armed.Sub(at); got != test.want {
			t.Errorf("%s: armed %v after, want %v", test.name, got, test.want)
		}
		s.cancel(p)
	}
	if len(s.heap) != 0 {
		t.Errorf("%d left", len(s.heap))
	}
}

// TestScheduleDue: all whose time has come are found, however many, and nobody else.
func TestScheduleDue(t *testing.T) {
	var s schedule
	s.init()
	const many = 500
	for i := range many {
		s.arm(&peer{heapIndex: -1}, s.epoch.Add(time.Duration(i*37%many)*grain))
	}
	room := make([]*peer, 0, duePeers)
	found := 0
	now := s.epoch.Add(many / 2 * grain)
	for {
		due, next := s.due(now, room)
		if len(due) == 0 {
			if want := now.Add(grain); !next.Equal(want) {
				t.Errorf("the next is due at %v, want %v", next.Sub(s.epoch), want.Sub(s.epoch))
			}
			break
		}
		if !next.IsZero() || len(due) > duePeers {
			t.Fatalf("%d due at once, next %v", len(due), next)
		}
		for _, p := range due {
			if p.armed.After(now) {
				t.Fatalf("%v too early", p.armed.Sub(now))
			}
			s.cancel(p)
			found++
		}
	}
	if found != many/2+1 {
		t.Errorf("%d were due, want %d", found, many/2+1)
	}
}

// BenchmarkTimers is what a probed peer's timer costs, of a thousand that are due at different moments: a look at the schedule, and arming it again.
func BenchmarkTimers(b *testing.B) {
	var s schedule
	s.init()
	const many = 1000
	now := s.epoch
	for i := range many {
		s.arm(&peer{heapIndex: -1}, now.Add(time.Duration(i)*time.Second/many))
	}
	room := make([]*peer, 0, duePeers)
	b.ReportAllocs()
	for done := 0; done < b.N; {
		due, next := s.due(now, room)
		if len(due) == 0 {
			now = next
		}
		for _, p := range due {
			s.cancel(p)
			s.arm(p, now.Add(time.Second))
			done++
		}
	}
}
