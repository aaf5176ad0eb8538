package lan

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

// longRecord is the record of a host with some addresses and two Bases.
func longRecord(t *testing.T, n int, id *identity.Identity) []byte {
	t.Helper()
	r := record.Record{
		Sequence: 5, Lifetime: time.Hour,
		Endpoints: append(endpointsOf(n), netip.MustParseAddrPort("[2001:db8::5]:5582"), netip.MustParseAddrPort("[2001:db8::6]:5582"),
			netip.MustParseAddrPort("203.0.113.5:40000")),
		Bases: []netip.Addr{identity.FromSeed(seed(90_001)).Address(), identity.FromSeed(seed(90_002)).Address()},
	}
	b, err := r.Sign(id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What an idle link costs each host in a day, by both address families, sent and received, starting included; and nobody
// is forgotten.
func TestIdleTraffic(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		hosts   int
		lowData bool
		most    int // bytes
	}{
		{1, false, 300_000},
		{2, false, 600_000},
		{6, false, 900_000},
		{12, false, 1_300_000},
		{20, false, 2_000_000},
		{1, true, 10_000},
		{6, true, 150_000},
	} {
		t.Run(fmt.Sprintf("%d hosts, low data %v", c.hosts, c.lowData), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && c.hosts > 6 {
				t.Skip("so many hosts take long, and the machine runs in one goroutine: there is no race to find")
			}
			s := newSimulation(t)
			s.lowData = c.lowData
			s.startMany(1, c.hosts)
			for i, h := range s.hosts {
				if err := h.machine.SetRecord(s.now, longRecord(t, i+1, h.id)); err != nil {
					t.Fatal(err)
				}
			}
			s.run(time.Minute)
			before := make([]int, c.hosts)
			most, start := 0, 0
			for i, h := range s.hosts {
				before[i] = h.bytes
				start = max(start, h.bytes)
			}
			watched := day
			if c.hosts > 6 {
				watched /= 6 // one hour is like another, and many hosts take long to simulate
			}
			s.run(watched)
			for i, h := range s.hosts {
				most = max(most, (h.bytes-before[i])*int(day/watched))
			}
			t.Logf("%d bytes in the first minute, %d in the day after it", start, most)
			if start+most > c.most {
				t.Errorf("%d bytes, want at most %d", start+most, c.most)
			}
			if c.lowData {
				return
			}
			for _, h := range s.hosts {
				for _, o := range s.hosts {
					if o != h && len(h.machine.Lookup(s.now, o.id.Address())) != 2 {
						t.Errorf("%s has forgotten %s", h.name, o.name)
					}
				}
				if c.hosts <= MaxEchoes {
					for _, p := range h.machine.peers {
						if silent := s.now.Sub(p.heard); silent > longest {
							t.Errorf("%s has no fresh announcement of %v for %v", h.name, p.address, silent)
						}
					}
				}
			}
			s.check()
		})
	}
}

// After hours of silence, who wants to find somebody does so at once, whoever forgot whom.
func TestWantedAfterSilence(t *testing.T) {
	for _, silence := range []time.Duration{time.Minute, 10 * time.Minute, voiceEchoed - time.Second, voiceEchoed + time.Second, voiceLife + time.Minute, 5 * time.Hour} {
		for _, lowData := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v, low data %v", silence, lowData), func(t *testing.T) {
				s := newSimulation(t)
				s.lowData = lowData
				s.startMany(1, 5)
				s.until(time.Second, s.complete(true))
				s.run(time.Minute)
				third := s.hosts[2]
				third.machine.Announce(s.now) // the others hear of it later than it of them
				third.arm()
				s.run(silence)
				for _, h := range []*simHost{s.hosts[0], third} {
					h.machine.Announce(s.now)
					h.arm()
					s.run(100 * time.Millisecond)
					for _, o := range s.hosts {
						if o != h && len(h.machine.Lookup(s.now, o.id.Address())) != 2 {
							t.Errorf("%s does not find %s", h.name, o.name)
						}
					}
				}
			})
		}
	}
}

// A cable that was drawn and put back brings everybody back at once, though the others never noticed.
func TestCableDrawn(t *testing.T) {
	s := newSimulation(t)
	s.startMany(1, 6)
	s.until(time.Second, s.complete(true))
	s.run(10 * time.Second)
	h := s.hosts[0]
	h.machine.SetInterfaces(s.now, nil)
	s.run(3 * time.Second)
	h.sightings = nil
	h.machine.SetInterfaces(s.now, testInterfaces())
	h.arm()
	if took := s.until(time.Second, func() bool { return h.seen(true) == 5 }); took > 100*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

// Nobody answers a notice, even one of a stranger; two hosts find each other by notices alone all the same.
func TestNotices(t *testing.T) {
	s := newSimulation(t)
	h := s.start(1, 1, 1, map[int]string{1: "lan"})
	s.run(time.Minute)
	before := h.sent
	f := newForger(t, 2)
	f.notice = true
	for range 20 {
		h.receive(1, from4(2), f.announce())
		s.run(time.Second)
	}
	if h.sent != before || len(h.sightings) != 0 {
		t.Errorf("%d announcements, %d sightings", h.sent-before, len(h.sightings))
	}
	if sighting, _ := h.machine.HandleDatagram(s.now, 1, from4(2), f.announce(challengeOf(h))); sighting == nil {
		t.Error("a fresh notice is no sighting")
	}
	if h.machine.links[1].due().Sub(s.now) < time.Minute {
		t.Error("a fresh notice is answered")
	}

	s = newSimulation(t)
	s.startMany(1, 2)
	s.loss = 1
	s.run(time.Minute)
	s.loss = 0
	s.run(2*minInterval + 2*minInterval/intervalSpread)
	if !s.complete(true)() {
		t.Error("notices alone do not bring two together")
	}
}

// With low data, a clone still makes both say so again and again, for as long as both run.
func TestCloneWithLowData(t *testing.T) {
	s := newSimulation(t)
	s.lowData = true
	a := s.start(1, 9, 1, map[int]string{1: "lan"})
	s.run(time.Hour)
	b := s.start(2, 9, 2, map[int]string{1: "lan"})
	s.run(time.Second)
	for range 5 {
		for _, h := range []*simHost{a, b} {
			if len(h.clones) == 0 {
				t.Fatalf("%s raised no alarm", h.name)
			}
			h.clones = nil
		}
		s.run(CloneMemory)
	}
	b.dead = true
	s.run(longest)
	a.clones = nil
	s.run(2 * CloneMemory)
	before := a.sent
	s.run(12 * time.Hour)
	if len(a.clones) > 0 || a.sent > before {
		t.Errorf("%d alarms and %d announcements after the clone has ended", len(a.clones), a.sent-before)
	}
}
