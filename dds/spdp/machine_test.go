package spdp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// TestFleet is 30 hosts with 20 participants each that start within half a second, the daemons too: two seconds later all
// know all. (50 are measured by test/ddsscale.)
func TestFleet(t *testing.T) {
	type result struct{ first, steady float64 }
	measure := func(hosts, each int) result {
		w := newWorld(t, hosts)
		w.quick = true
		w.whitelist()
		var list []*program
		for _, h := range w.hosts {
			w.after(time.Duration(w.rng.IntN(500))*time.Millisecond, h.start)
			for range each {
				w.after(time.Duration(w.rng.IntN(500))*time.Millisecond, func() { list = append(list, h.program(0)) })
			}
		}
		w.run(2500 * time.Millisecond)
		w.must(list, all, "after 2 s")
		for _, p := range list {
			for _, d := range p.known {
				if len(d.MetatrafficMulticast) != 0 && d.GUID.Prefix[3] != p.prefix[3] {
					t.Fatalf("%v was told of %+v", p.prefix, d)
				}
			}
		}
		first := w.datagrams
		var sum Stats
		for _, h := range w.hosts {
			s := h.m.Stats()
			sum.Announces += s.Announces
			sum.Digests += s.Digests
			sum.Wants += s.Wants
			sum.PeerBytes += s.PeerBytes
			sum.Injected += s.Injected
		}
		w.run(6 * time.Second)
		before := w.bytes
		w.run(10 * time.Second)
		t.Logf("%d x %d: %d announcements, %d digests, %d requests, %d kB; %d injected", hosts, each, sum.Announces, sum.Digests, sum.Wants, sum.PeerBytes/1000, sum.Injected)
		return result{float64(first), float64(w.bytes-before) / 10}
	}
	hosts := 30
	if testing.Short() {
		hosts = 10
	}
	few, many := measure(hosts, 5), measure(hosts, 20)
	t.Logf("%d hosts: 5 participants each: %.0f datagrams until all know all, then %.0f B/s; 20 each: %.0f, %.0f B/s (%.0f B/s per host)",
		hosts, few.first, few.steady, many.first, many.steady, many.steady/float64(hosts))
	if many.first > 4.2*few.first || many.steady > few.steady {
		t.Errorf("traffic grows faster than participants: %+v, %+v", few, many)
	}
	if perPair := many.first / float64(hosts*(hosts-1)); perPair > 2.5*20 {
		t.Errorf("%.0f datagrams from each host to each other for 20 participants", perPair)
	}
}

func TestLoss(t *testing.T) {
	w := newWorld(t, 5)
	w.loss = 0.05
	w.whitelist()
	var list []*program
	for _, h := range w.hosts {
		h.start()
		for range 10 {
			list = append(list, h.program(3))
		}
	}
	w.run(2 * time.Second)
	w.must(list, all, "with every twentieth datagram lost")
	for _, p := range list[:25] {
		p.leave()
	}
	w.run(3 * time.Second)
	w.must(list, all, "after half of them left")
}

func TestDomains(t *testing.T) {
	w := newWorld(t, 3)
	w.whitelist()
	var list []*program
	for i, h := range w.hosts {
		h.start()
		for d := range uint16(3) {
			list = append(list, h.program(d*uint16(100-i)))
		}
	}
	w.run(time.Second)
	w.must(list, all, "in their domains")
}

// TestRunning: participants that nobody announces to the daemon, and that ran before it, are found by asking.
func TestRunning(t *testing.T) {
	w := newWorld(t, 2)
	w.whitelist()
	a, b := w.hosts[0], w.hosts[1]
	list := []*program{a.newProgram(0), a.newProgram(0), b.newProgram(0), b.newProgram(7), a.newProgram(7)}
	w.run(time.Minute)
	a.start()
	b.start()
	w.run(time.Second)
	w.must(list, all, "a second after the daemons")
	late := a.newProgram(0)
	w.run(2 * time.Second)
	w.must(append(list, late), all, "with a late one")
	w.run(10 * time.Minute)
	w.must(append(list, late), all, "much later")
	if n := a.m.Stats().Probes; n > 200 {
		t.Errorf("%d probes in ten minutes", n)
	}
}

func TestEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(w *world, p *program)
		within time.Duration
	}{
		"left":   {func(_ *world, p *program) { p.leave() }, 200 * time.Millisecond},
		"killed": {func(_ *world, p *program) { p.kill() }, scanBusy + scanSoon + 200*time.Millisecond},
		"killed, and another at its port": {func(w *world, p *program) {
			w.after(scanBusy, func() {})
			p.kill()
			p.host.program(p.domain)
		}, 200 * time.Millisecond},
		"killed, sockets unknown": {func(w *world, p *program) { p.host.sockets = false; p.kill() }, localSilence + 2*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			w.whitelist()
			a, b := w.hosts[0], w.hosts[1]
			a.start()
			b.start()
			list := []*program{a.program(0), a.program(0), b.program(0)}
			w.run(5 * time.Second)
			w.must(list, all, "at first")
			c.end(w, list[0])
			w.run(c.within)
			w.must(list, all, "after the end")
			w.run(2 * time.Minute)
			w.must(list, all, "later")
		})
	}
}

// TestMissed: one list of sockets that lacks one ends nobody.
func TestMissed(t *testing.T) {
	w := newWorld(t, 2)
	w.whitelist()
	a, b := w.hosts[0], w.hosts[1]
	a.start()
	b.start()
	list := []*program{a.program(0), b.program(0)}
	w.run(5500 * time.Millisecond)
	a.m.Sockets(w.now, nil)
	a.flush()
	if !a.m.Unseen() {
		t.Error("another list is not wanted")
	}
	w.run(time.Minute)
	w.must(list, all, "with a gap in one list")
	if n := len(list[1].forgot); n != 0 {
		t.Errorf("%d were ended", n)
	}
}

// TestBriefly: one that was asked, answers and is killed before the sockets are listed again.
func TestBriefly(t *testing.T) {
	w := newWorld(t, 2)
	w.whitelist()
	a, b := w.hosts[0], w.hosts[1]
	p := a.newProgram(0)
	a.start()
	b.start()
	list := []*program{p, b.program(0), a.program(0)}
	if w.run(300 * time.Millisecond); !a.m.Unseen() {
		t.Error("the socket of the one that announced itself is known")
	}
	w.must(list, all, "at first")
	p.kill()
	w.run(settle)
	w.must(list, all, "after the end")
	if a.m.Unseen() {
		t.Error("a socket is not known")
	}
}

// TestSamePort: a program that starts anew between two lists of sockets, at the port that it had, is not taken for the one that ended:
// nobody is told that it ended too, and it misses nothing.
func TestSamePort(t *testing.T) {
	for name, end := range map[string]func(*program){"with a word": (*program).leave, "without a word": (*program).kill} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			w.whitelist()
			a, b := w.hosts[0], w.hosts[1]
			a.start()
			b.start()
			before, other := a.program(0), b.program(0)
			w.run(5 * time.Second)
			end(before)
			w.run(20 * time.Millisecond)
			after := a.program(0)
			if after.port != before.port {
				t.Fatalf("at port %d after %d", after.port, before.port)
			}
			w.run(4 * time.Second)
			w.must([]*program{before, after, other}, all, "at the same port")
			if at, ok := other.forgot[after.prefix]; ok {
				t.Errorf("the other was told %v after the start that the new one had ended", at.Sub(other.learned[after.prefix]))
			}
		})
	}
}

func TestPeers(t *testing.T) {
	w := newWorld(t, 3)
	list := w.populate(2)
	w.run(5 * time.Second)
	w.must(list, all, "at first")
	a, b := w.hosts[0], w.hosts[1]
	// Off the whitelist of one, gone at once there; the other, who hears nothing of it, keeps what it had until its leases.
	a.peers = a.peers[1:]
	a.setPeers()
	w.run(100 * time.Millisecond)
	w.must(list, func(p, q *program) bool { return p.host != a || q.host != b }, "off the whitelist")
	if n := len(a.m.peers); n != 1 {
		t.Errorf("%d peers left", n)
	}
	// On it again, both have forgotten before they meet.
	again := w.now
	w.whitelist()
	w.run(500 * time.Millisecond)
	w.must(list, all, "on it again")
	for _, p := range list {
		for _, q := range list {
			if p.host == a && q.host == b && (q.forgot[p.prefix].Before(again) || p.learned[q.prefix].Before(q.forgot[p.prefix])) {
				t.Errorf("%v learned of %v at %v, who forgot it at %v", p.prefix, q.prefix, p.learned[q.prefix], q.forgot[p.prefix])
			}
		}
	}

	// Out of reach for less than a lease: nothing happens. For longer: gone, and back at once.
	a.off = true
	for _, h := range w.hosts {
		for i := range h.peers {
			h.peers[i].Connected = h != a && h.peers[i].Address != a.addr
		}
		h.setPeers()
	}
	w.run(5 * time.Second)
	w.must(list, all, "out of reach for a moment")
	w.run(peerSilence)
	w.must(list, func(p, q *program) bool { return p.host == q.host || p.host != a && q.host != a }, "out of reach")
	a.off = false
	w.whitelist()
	w.run(500 * time.Millisecond)
	w.must(list, all, "back")
}

// TestRestart: a daemon that starts anew ends nobody, and learns everything.
func TestRestart(t *testing.T) {
	w := newWorld(t, 3)
	w.whitelist()
	var list []*program
	for _, h := range w.hosts {
		h.start()
		list = append(list, h.program(0), h.newProgram(0))
	}
	w.run(10 * time.Second)
	w.must(list, all, "at first")
	a := w.hosts[0]
	a.stop()
	w.run(3 * time.Second)
	w.must(list, all, "without a daemon")
	a.start()
	for range 50 {
		w.run(100 * time.Millisecond)
		w.must(list, all, "with a new one")
	}
	// Nobody needed to be told: now one that has forgotten everything is.
	forgetful := a.program(0)
	w.run(500 * time.Millisecond)
	w.must(append(list, forgetful), all, "with a newcomer")
	// Gone while the daemon was away.
	a.stop()
	list[1].kill()
	a.start()
	w.run(settle + time.Second)
	for _, p := range []*program{list[0], forgetful} {
		delete(p.known, list[1].prefix) // on the same host it is for their leases to tell
	}
	w.must(append(list, forgetful), all, "after an end unseen")
}

func TestReleases(t *testing.T) {
	w := newWorld(t, 3)
	w.hosts[0].release, w.hosts[1].release = Humble, Iron
	list := w.populate(1)
	hashed := w.hosts[0].newProgram(0)
	hashed.user = "typehash=RIHS01_00;"
	hashed.announceAlways()
	list = append(list, hashed)
	of := func(p *program) Release {
		if p == hashed {
			return Iron
		}
		return p.host.release
	}
	w.run(5 * time.Second)
	w.must(list, func(a, b *program) bool { return meet(of(a), of(b)) }, "kept apart")
	for _, h := range w.hosts {
		h.stop()
		h.mixed = true
		h.start()
	}
	w.run(5 * time.Second)
	w.must(list, all, "mixed")
}

// TestIdle: without participants nothing is sent and nothing wakes the daemon.
func TestIdle(t *testing.T) {
	w := newWorld(t, 2)
	w.populate(0)
	w.run(time.Minute)
	before := w.datagrams
	w.run(time.Hour)
	if w.datagrams != before || before > 20 {
		t.Errorf("%d datagrams in the first minute, then %d", before, w.datagrams-before)
	}
	if next := w.hosts[0].m.Next(w.now); !next.IsZero() {
		t.Errorf("wants to be called in %v", next.Sub(w.now))
	}
	p := w.hosts[0].program(0)
	before = w.bytes
	w.run(time.Hour)
	if rate := float64(w.bytes-before) / 3600; rate > 20 {
		t.Errorf("%.1f B/s for one participant", rate)
	}
	if p.heard > 10 {
		t.Errorf("a lonely participant heard %d messages", p.heard)
	}
}

// TestChange: what a participant says of itself anew is passed on.
func TestChange(t *testing.T) {
	w := newWorld(t, 2)
	list := w.populate(2)
	w.run(3 * time.Second)
	list[0].user, list[0].sn = "changed", 2
	list[0].announce()
	w.run(200 * time.Millisecond)
	for _, p := range list[1:] {
		if d := p.known[list[0].prefix]; string(d.UserData) != "enclave=/;changed" {
			t.Errorf("%v knows %q", p.prefix, d.UserData)
		}
	}
}

// TestLocalBounds: what is no announcement of a participant here is passed over, and there is an end to their number.
func TestLocalBounds(t *testing.T) {
	w := newWorld(t, 1)
	h := w.hosts[0]
	h.start()
	p := h.newProgram(0)
	d := p.data()
	for name, change := range map[string]func(*wire.ParticipantData){
		"another's name":     func(d *wire.ParticipantData) { d.GUID.Prefix[0]++ },
		"no overlay address": func(d *wire.ParticipantData) { d.MetatrafficUnicast = d.MetatrafficUnicast[:1] },
		"a system port":      func(d *wire.ParticipantData) { d.MetatrafficUnicast[2].Port = 53 },
		"no such domain":     func(d *wire.ParticipantData) { d.DomainID = 233 },
	} {
		d := p.data()
		change(&d)
		p.tell(spdpMessage(p.prefix, 1, d.Append(nil)))
		if h.m.Locals() != 0 {
			t.Errorf("%s: accepted", name)
		}
	}
	b := spdpMessage(p.prefix, 1, d.Append(nil))
	h.m.Local(w.now, netip.AddrPortFrom(overlayAddr(9), p.port), b)
	h.m.Local(w.now, netip.AddrPortFrom(h.addr, p.port), b[:30])
	if h.m.Locals() != 0 {
		t.Error("accepted from elsewhere, or cut off")
	}
	for range MaxLocal + 10 {
		h.program(0)
	}
	if h.m.Locals() != MaxLocal {
		t.Errorf("%d local participants", h.m.Locals())
	}
}
