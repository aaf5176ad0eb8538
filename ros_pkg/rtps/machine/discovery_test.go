package machine

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// complete reports whether all living participants know each other and their endpoints.
func (s *simulation) complete(endpoints int) func() bool {
	return func() bool {
		living := 0
		for _, n := range s.nodes {
			if !n.dead {
				living++
			}
		}
		for _, n := range s.nodes {
			if !n.dead && (len(n.m.participants) != living-1 || n.m.endpoints != (living-1)*endpoints) {
				return false
			}
		}
		return true
	}
}

func TestMany(t *testing.T) {
	for _, loss := range []float64{0, 0.1} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			s := newSimulation(t)
			s.loss = loss
			const count = 50
			var writers []*spring
			var readers []*sink
			for i := range count {
				n := s.startOn(1+i/5, i%5)
				writers = append(writers, n.writer("rt/x", transient(1)))
				readers = append(readers, n.reader("rt/x", transient(1)))
				s.run(time.Duration(s.random.IntN(10)) * time.Millisecond)
			}
			took := s.until(30*time.Second, "discovery", s.complete(2))
			for i, w := range writers {
				w.write(i, 100)
			}
			more := s.until(30*time.Second, "samples", func() bool {
				for _, r := range readers {
					if len(r.samples) < count {
						return false
					}
				}
				return true
			})
			datagrams := 0
			for _, n := range s.nodes {
				datagrams += n.sent
			}
			t.Logf("discovery took %v after the last start, samples %v; %d datagrams per participant", took, more, datagrams/count)
			idle := 0
			for _, n := range s.nodes {
				n.sent = 0
			}
			s.run(30 * time.Second)
			for _, n := range s.nodes {
				idle += n.sent
			}
			t.Logf("%.1f datagrams per second and participant when idle", float64(idle)/count/30)
		})
	}
}

// A program that ends with a word is gone at once, one that is killed when its lease ends, and one that comes again is
// another.
func TestGoneAndBack(t *testing.T) {
	s := newSimulation(t)
	w, r := pair(t, s, reliableQoS(), reliableQoS())
	a := w.node
	var events []GraphEvent
	a.m.Subscribe(func(e GraphEvent) { events = append(events, e) })
	r.node.leave()
	s.run(10 * time.Millisecond)
	if w.matches != 0 || len(a.m.participants) != 0 || len(events) != 2 || events[0].Kind != EndpointLost || events[1].Kind != ParticipantLost || events[1].Expired {
		t.Fatalf("%d matches, %d participants, %+v", w.matches, len(a.m.participants), events)
	}
	again := s.startOn(2, 0)
	k := again.reader("rt/x", reliableQoS())
	s.until(2*time.Second, "match", func() bool { return w.matches == 1 && k.matches == 1 })
	w.write(7, 50)
	s.run(time.Second)
	k.expect(7, 7, 50)
	again.kill()
	w.write(8, 50)
	if took := s.until(30*time.Second, "the lease's end", func() bool { return w.matches == 0 }); took < 15*time.Second {
		t.Errorf("gone after %v", took)
	}
	if a.m.counters.Expired != 1 || !w.Acked(w.Last()) || w.history.count != 0 {
		t.Errorf("%+v", a.m.counters)
	}
	if n := len(a.m.timers); n > 4 {
		t.Errorf("%d timers are left", n)
	}
	third := s.startOn(2, 0)
	k = third.reader("rt/x", reliableQoS())
	s.until(2*time.Second, "match", func() bool { return w.matches == 1 && k.matches == 1 })
}

// A partition shorter than the lease loses nothing; after one that is longer all meet again.
func TestPartition(t *testing.T) {
	for _, length := range []time.Duration{5 * time.Second, 60 * time.Second} {
		t.Run(length.String(), func(t *testing.T) {
			s := newSimulation(t)
			w, r := pair(t, s, QoS{Reliability: Reliable, Durability: TransientLocal, History: KeepAll}, transient(100))
			w.write(0, 50)
			s.run(time.Second)
			s.cut = func(from, to *simNode) bool { return true }
			for i := 1; i <= 20; i++ {
				w.write(i, 50)
				s.run(length / 20)
			}
			s.cut = nil
			s.until(10*time.Second, "match", func() bool { return w.matches == 1 && r.matches == 1 })
			s.until(10*time.Second, "acknowledgement", func() bool { return w.Acked(w.Last()) })
			if length < 20*time.Second {
				r.expect(0, 20, 50)
			} else if last := r.samples[len(r.samples)-1]; last.Payload[4] != 20 {
				t.Errorf("the last sample is %d", last.Payload[4])
			}
		})
	}
	// One side forgot the other, which did not.
	t.Run("one_side", func(t *testing.T) {
		s := newSimulation(t)
		a := s.start(func(c *Config) { c.Lease = 120 * time.Second })
		b := s.start(func(c *Config) { c.Lease = 5 * time.Second })
		w, r := a.writer("rt/x", transient(5)), b.reader("rt/x", transient(5))
		s.until(5*time.Second, "match", func() bool { return w.matches == 1 && r.matches == 1 })
		w.write(0, 50)
		s.run(time.Second)
		s.cut = func(from, to *simNode) bool { return from == b }
		s.until(20*time.Second, "the lease's end", func() bool { return w.matches == 0 })
		w.write(1, 50)
		s.cut = nil
		s.until(10*time.Second, "match", func() bool { return w.matches == 1 })
		s.until(10*time.Second, "acknowledgement", func() bool { return w.Acked(w.Last()) })
		r.expect(0, 1, 50)
	})
}

func TestEndpointsComeAndGo(t *testing.T) {
	s := newSimulation(t)
	s.loss = 0.1
	w, r := pair(t, s, reliableQoS(), reliableQoS())
	for i := range 20 {
		r.node.do(func() { r.Close(s.now) })
		s.until(10*time.Second, "parting", func() bool { return w.matches == 0 })
		r = r.node.reader("rt/x", reliableQoS())
		s.until(10*time.Second, "match", func() bool { return w.matches == 1 && r.matches == 1 })
		w.write(i, 50)
		s.until(10*time.Second, "sample", func() bool { return len(r.samples) == 1 })
	}
	w.node.do(func() { w.Close(s.now) })
	s.until(10*time.Second, "parting", func() bool { return r.matches == 0 })
	s.run(5 * time.Second)
	if n := r.node.m.builtin.subscriptions.history.count; n != 1 {
		t.Errorf("%d announcements are kept of one reader", n)
	}
	if _, err := w.Write(s.now, nil, &WriteOptions{}); err != ErrClosed {
		t.Error(err)
	}
}

func TestIncompatible(t *testing.T) {
	s := newSimulation(t)
	a, b := s.start(), s.start()
	for i, test := range []struct {
		w, r   QoS
		policy string
		match  bool
	}{
		{QoS{}, QoS{Reliability: Reliable}, "RELIABILITY", false},
		{QoS{Reliability: Reliable}, transient(1), "DURABILITY", false},
		{QoS{}, QoS{Deadline: time.Second}, "DEADLINE", false},
		{QoS{Deadline: time.Second}, QoS{Deadline: 2 * time.Second}, "", true},
		{QoS{}, QoS{Liveliness: ManualByTopic}, "LIVELINESS", false},
		{QoS{LivelinessLease: time.Second}, QoS{LivelinessLease: time.Millisecond}, "LIVELINESS", false},
		{QoS{Exclusive: true}, QoS{}, "OWNERSHIP", false},
		{QoS{Partition: []string{"a*"}}, QoS{}, "", false},
		{QoS{Partition: []string{"a*"}}, QoS{Partition: []string{"abc"}}, "", true},
		{transient(5), QoS{}, "", true},
	} {
		for _, reader := range []*simNode{a, b} {
			topic := fmt.Sprint("rt/", i, reader.name)
			w, r := a.writer(topic, test.w), reader.reader(topic, test.r)
			s.run(2 * time.Second)
			if w.refusal != test.policy || r.refusal != test.policy || (w.matches == 1) != test.match || (r.matches == 1) != test.match {
				t.Errorf("%d on %s: %q and %q, matches %d and %d", i, reader.name, w.refusal, r.refusal, w.matches, r.matches)
			}
		}
	}
	w := &spring{node: a}
	a.do(func() {
		w.Writer, _ = a.m.NewWriter(s.now, WriterConfig{Topic: "rt/type", Type: "U", Incompatible: func(_ Endpoint, p string) { w.refusal = p }})
	})
	r := b.reader("rt/type", QoS{})
	s.run(time.Second)
	if w.refusal != PolicyType || r.refusal != PolicyType {
		t.Errorf("%q, %q", w.refusal, r.refusal)
	}
}

// Without multicast, participants find each other by address.
func TestStaticPeers(t *testing.T) {
	s := newSimulation(t)
	quiet := func(c *Config) { c.Multicast = false }
	a := s.startOn(1, 0, quiet)
	b := s.startOn(2, 3, quiet, func(c *Config) { c.StaticPeers = []netip.Addr{hostAddr(1)} })
	c := s.startOn(1, 12, quiet)
	s.run(30 * time.Second)
	if len(a.m.participants) != 1 || len(b.m.participants) != 1 || len(c.m.participants) != 0 {
		t.Errorf("%d, %d, %d participants are known", len(a.m.participants), len(b.m.participants), len(c.m.participants))
	}
	s.run(5 * time.Minute)
	if len(a.m.participants) != 1 || a.m.counters.Expired != 0 {
		t.Errorf("%d participants, %d expired", len(a.m.participants), a.m.counters.Expired)
	}
}

func TestLocalhost(t *testing.T) {
	s := newSimulation(t)
	local := func(c *Config) { c.Localhost, c.Multicast = true, false }
	a, b := s.startOn(1, 0, local), s.startOn(1, 1, local)
	far := s.startOn(2, 0)
	w, r := a.writer("rt/x", reliableQoS()), b.reader("rt/x", reliableQoS())
	s.tap = func(from *simNode, d Datagram) {
		if from != far && !d.To.Addr().IsLoopback() {
			t.Errorf("%s sends to %v", from.name, d.To)
		}
	}
	s.until(5*time.Second, "match", func() bool { return w.matches == 1 && r.matches == 1 })
	w.write(0, 100_000)
	s.run(time.Second)
	r.expect(0, 0, 100_000)
	if len(far.m.participants) != 0 {
		t.Error("another host knows of it")
	}
}

// Addresses that change are announced at once, and used.
func TestInterfacesChange(t *testing.T) {
	s := newSimulation(t)
	w, r := pair(t, s, reliableQoS(), reliableQoS())
	w.write(0, 50)
	s.run(3 * time.Second)
	b := r.node
	b.host = 77
	b.do(func() { b.m.SetInterfaces(s.now, simInterfaces(77)) })
	w.write(1, 50)
	took := s.until(20*time.Second, "the sample", func() bool { return len(r.samples) == 2 })
	t.Logf("%v after the change", took)
	info := w.node.m.participants[b.m.Prefix()].info
	if len(info.Unicast) != 1 || info.Unicast[0].Addr() != hostAddr(77) {
		t.Errorf("known at %v", info.Unicast)
	}
}

func TestGraph(t *testing.T) {
	s := newSimulation(t)
	a, b := s.start(func(c *Config) { c.UserData = []byte("enclave=/;") }), s.start()
	b.do(func() {
		if _, err := b.m.NewWriter(s.now, WriterConfig{Topic: "rt/x", Type: "T", UserData: []byte("typehash=RIHS01_0;")}); err != nil {
			t.Fatal(err)
		}
	})
	a.reader("rt/y", transient(3))
	s.run(3 * time.Second)
	for _, n := range []*simNode{a, b} {
		g := n.m.Graph()
		if len(g.Participants) != 2 || len(g.Writers) != 1 || len(g.Readers) != 1 {
			t.Fatalf("%s sees %+v", n.name, g)
		}
		if w, r := g.Writers[0], g.Readers[0]; string(w.UserData) != "typehash=RIHS01_0;" || w.Topic != "rt/x" || r.QoS.Durability != TransientLocal || r.QoS.Reliability != Reliable ||
			w.GUID.Entity.Kind() != wire.KindWriterNoKey || r.GUID.Entity.Kind() != wire.KindReaderNoKey {
			t.Errorf("%s sees %+v, %+v", n.name, w, r)
		}
		p := g.Participants[0]
		if p.Name != "node1" || string(p.UserData) != "enclave=/;" || p.Own != (n == a) {
			t.Errorf("%s sees %+v", n.name, p)
		}
	}
}
