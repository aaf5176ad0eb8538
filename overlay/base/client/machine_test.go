package client

import (
	"testing"
	"time"
)

func TestTheTwoNearestAreRegistered(t *testing.T) {
	s := newSimulation(t)
	far, near, mid := s.base(1, 80*time.Millisecond), s.base(2, 5*time.Millisecond), s.base(3, 20*time.Millisecond)
	d := s.node(1, false)
	d.servers(far, near, mid)
	took := s.until(time.Second, "registered", func() bool { return d.at(near, mid) })
	if took > 100*time.Millisecond {
		t.Errorf("registered with the two nearest after %v", took)
	}
	s.run(5 * time.Minute)
	if !d.at(near, mid) {
		t.Errorf("registered with %d", len(d.registered()))
	}
	if home := d.m.home(); len(home) != 2 || home[0] != near.id.Address() || home[1] != mid.id.Address() {
		t.Errorf("home is %v", home)
	}
	for i, st := range d.m.status() {
		if st.RTT == 0 || st.RTT > 170*time.Millisecond {
			t.Errorf("Base %d has RTT %v", i, st.RTT)
		}
	}
	if n := d.told(Registered, nil, nil); n != 2 {
		t.Errorf("%d registrations", n)
	}
	for _, e := range d.events {
		if e.Type == Registered && (e.Observed != d.addr || e.Hops != 3 || e.AlternatePort != 3478 || e.Transport != UDP) {
			t.Errorf("%+v", e)
		}
	}
}

func TestPeersMeet(t *testing.T) {
	s := newSimulation(t)
	x, y := s.base(1, 5*time.Millisecond), s.base(2, 10*time.Millisecond)
	a, b := s.node(1, false), s.node(2, false)
	a.interests(b)
	a.servers(x, y)
	s.run(time.Second)
	b.interests(a)
	b.servers(x, y)
	took := s.until(time.Second, "both there", func() bool { return len(a.relays(b)) == 2 && len(b.relays(a)) == 2 })
	if took > 150*time.Millisecond {
		t.Errorf("met after %v", took)
	}
	r := a.relays(b)[0]
	if r.Base() != x.id.Address() || !r.Live() || r.TCP() || r.Endpoint() != x.addr {
		t.Errorf("the best relay is %+v", r)
	}
	if err := a.say(r, "hello"); err != nil {
		t.Error(err)
	}
	s.run(100 * time.Millisecond)
	if len(b.relayd) != 1 || string(b.relayd[0].Buf) != "hello" {
		t.Errorf("relayed %v", b.relayd)
	}
	e := a.events[len(a.events)-1]
	if e.Type != PeerHere || e.Peer != b.id.Address() || e.Observed != b.addr || e.Record.Address() != b.id.Address() || e.Relay == nil {
		t.Errorf("%+v", e)
	}

	b.interests()
	s.until(time.Second, "gone", func() bool { return a.told(PeerGone, nil, b) == 2 && len(a.relays(b)) == 0 && len(b.relays(a)) == 0 })
	if r.Live() || a.say(r, "x") == nil {
		t.Error("the relay lives on")
	}
}

// The idle traffic of a node that is registered with two Bases (one with low data) and has peers there that never change.
func TestIdleTraffic(t *testing.T) {
	for _, test := range []struct {
		name  string
		low   bool
		limit int
	}{{"default", false, 2_000_000}, {"low data", true, 400_000}} {
		t.Run(test.name, func(t *testing.T) {
			s := newSimulation(t)
			x, y, z := s.base(1, 5*time.Millisecond), s.base(2, 10*time.Millisecond), s.base(3, 15*time.Millisecond)
			d, peer := s.node(1, test.low), s.node(2, test.low)
			d.interests(peer)
			peer.interests(d)
			d.servers(x, y, z)
			peer.servers(x, y, z)
			s.run(24 * time.Hour)
			t.Logf("%d bytes in %d datagrams", d.bytes, d.count)
			d.calm(0, 2*d.count+1000)
			if d.bytes > test.limit {
				t.Errorf("%d bytes a day, %d at most", d.bytes, test.limit)
			}
			if len(d.relays(peer)) == 0 || d.told(Lost, nil, nil) > 0 {
				t.Error("the peer is not there, or a Base was lost")
			}
		})
	}
}
