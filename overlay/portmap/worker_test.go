package portmap

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	home  = Gateway{Addr: netip.MustParseAddr("192.168.1.1"), Local: netip.MustParseAddr("192.168.1.7"), Interface: "eth0"}
	other = Gateway{Addr: netip.MustParseAddr("192.168.2.1"), Local: netip.MustParseAddr("192.168.2.7"), Interface: "wlan0"}
	outer = netip.MustParseAddrPort("20.0.0.1:5582")
)

// script is a router without a network: it does what it is told, and notes when it was asked what.
type script struct {
	started time.Time

	mu      sync.Mutex
	silent  bool
	refuses bool // to map
	lost    bool // check finds nothing
	life    time.Duration
	outer   netip.AddrPort
	booted  time.Time
	asked   []event
}

type event struct {
	what string
	at   time.Duration
}

func newScript() *script {
	return &script{started: time.Now(), life: asked, outer: outer, booted: time.Now()}
}

func (s *script) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// events returns what was asked since the last call.
func (s *script) events() []event {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.asked
	s.asked = nil
	return all
}

func (s *script) answer(what string) error {
	s.asked = append(s.asked, event{what, time.Since(s.started)})
	switch {
	case s.silent:
		return errSilent
	case s.refuses:
		return &refusal{"no"}
	}
	return nil
}

func (s *script) epoch() uint32 { return uint32(time.Since(s.booted) / time.Second) }

func (s *script) granted(port uint16) grant {
	return grant{protocol: PCP, internal: port, external: s.outer, lifetime: s.life, epoch: s.epoch(), timed: true}
}

func (s *script) find(_ context.Context, port uint16, _ netip.AddrPort) (grant, []outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.answer("find")
	o := outcome{protocol: PCP}
	o.note(err)
	return s.granted(port), []outcome{o, {protocol: NATPMP}, {protocol: UPnP}}, err
}

func (s *script) renew(_ context.Context, held grant) (grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.granted(held.internal), s.answer("renew")
}

func (s *script) check(context.Context, grant) (uint32, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.answer("check")
	if err == nil && s.lost {
		err = &refusal{"lost"}
	}
	return s.epoch(), true, err
}

func (s *script) clear(context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.answer("clear")
}

// bench is a Mapper with scripted routers.
type bench struct {
	*Mapper
	mu       sync.Mutex
	gateways []Gateway
	fail     error
	port     uint16
	told     [][]Mapping
	scripts  map[Gateway]*script
	stop     func() error
}

// simulate runs f in virtual time with a Mapper whose routers follow the scripts.
func simulate(t *testing.T, scripts func() map[Gateway]*script, f func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{port: 5582, gateways: []Gateway{home}, scripts: scripts()}
		b.Mapper = New(Config{
			Port: func() uint16 { b.mu.Lock(); defer b.mu.Unlock(); return b.port },
			Gateways: func() ([]Gateway, error) {
				b.mu.Lock()
				defer b.mu.Unlock()
				return slices.Clone(b.gateways), b.fail
			},
			Notify:   func(all []Mapping) { b.mu.Lock(); defer b.mu.Unlock(); b.told = append(b.told, all) },
			Log:      slog.New(slog.DiscardHandler),
			Excluded: "hnet0",
		})
		b.hands = func(g Gateway) hands {
			s := b.scripts[g]
			s.set(func() { s.started = time.Now() })
			return s
		}
		b.quiet = true
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx) }()
		b.stop = sync.OnceValue(func() error { cancel(); return <-ended })
		synctest.Wait()
		f(t, b)
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

func one() map[Gateway]*script { return map[Gateway]*script{home: newScript()} }

func (b *bench) set(f func()) {
	b.mu.Lock()
	f()
	b.mu.Unlock()
	b.LinksChanged()
	synctest.Wait()
}

// after lets time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// news returns what was told since the last call.
func (b *bench) news() [][]Mapping {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.told
	b.told = nil
	return all
}

func what(events []event) []string {
	var all []string
	for _, e := range events {
		all = append(all, e.what)
	}
	return all
}

func expect(t *testing.T, s *script, want ...string) []event {
	t.Helper()
	got := s.events()
	if !slices.Equal(what(got), want) {
		t.Fatalf("asked %v, want %v", got, want)
	}
	return got
}

// expectFirst leaves open how often the last was tried since.
func expectFirst(t *testing.T, s *script, want ...string) {
	t.Helper()
	got := what(s.events())
	if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Fatalf("asked %v, want %v first", got, want)
	}
}

func TestRenewal(t *testing.T) {
	simulate(t, one, func(t *testing.T, b *bench) {
		s := b.scripts[home]
		expect(t, s, "find")
		want := Mapping{Protocol: PCP, Internal: 5582, External: outer, Gateway: home.Addr, Local: home.Local, Lifetime: asked}
		if got := b.news(); len(got) != 1 || len(got[0]) != 1 || got[0][0] != want {
			t.Fatalf("told %+v, want %+v", got, want)
		}
		r := b.Status()
		if len(r.Mappings) != 1 || r.Mappings[0] != want || len(r.Answers) != 3 || r.Answers[0] != (Answer{Gateway: home, Protocol: PCP, Result: Found}) {
			t.Errorf("%+v", r)
		}
		after(59 * time.Minute)
		expect(t, s, "check", "check", "check")
		after(2 * time.Minute)
		e := expect(t, s, "renew")
		if e[0].at != time.Hour {
			t.Errorf("renewed after %v", e[0].at)
		}
		s.set(func() { s.life = 10 * time.Minute })
		after(time.Hour)
		s.events()
		after(10 * time.Minute)
		expect(t, s, "renew", "renew")
		s.set(func() { s.life = time.Second })
		after(5 * time.Minute)
		s.events()
		after(5 * time.Minute)
		if n := len(s.events()); n != 10 {
			t.Errorf("asked %d times in 5 minutes for mappings of a second", n)
		}
		s.set(func() { s.life = (1<<32 - 1) * time.Second })
		after(time.Minute)
		s.events()
		after(11 * time.Hour)
		if n := what(s.events()); slices.Contains(n, "renew") {
			t.Error("renewed early")
		}
		after(time.Hour)
		if n := what(s.events()); !slices.Contains(n, "renew") {
			t.Error("not renewed after 12 hours")
		}
		if got := b.news(); len(got) != 0 {
			t.Errorf("told %+v, where nothing changed", got)
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		expect(t, s, "clear")
		if got := b.news(); len(got) != 1 || len(got[0]) != 0 {
			t.Errorf("told at the end: %+v", got)
		}
	})
}

// TestBackoff: where nobody answers, questions come ever more rarely.
func TestBackoff(t *testing.T) {
	for name, prepare := range map[string]func(*script){
		"silent":  func(s *script) { s.silent = true },
		"refuses": func(s *script) { s.refuses = true },
	} {
		t.Run(name, func(t *testing.T) {
			scripts := func() map[Gateway]*script { all := one(); prepare(all[home]); return all }
			simulate(t, scripts, func(t *testing.T, b *bench) {
				s := b.scripts[home]
				after(24 * time.Hour)
				var before time.Duration
				for i, e := range s.events() {
					gap := e.at - before
					before = e.at
					limit := min(retryLast, retryFirst<<max(min(i, 10)-1, 0))
					if e.what != "find" || i > 0 && (gap > limit || gap < limit*9/10) {
						t.Fatalf("%s after %v, want %v", e.what, gap, limit)
					}
				}
				if r := b.Status(); len(r.Mappings) != 0 || len(r.Answers) != 3 || r.Answers[0].Result == Found || r.Answers[0].Why == "" {
					t.Errorf("%+v", r)
				}
				s.set(func() { s.silent, s.refuses = false, false })
				after(retryLast)
				expect(t, s, "find")
				if got := b.news(); len(got) != 1 {
					t.Errorf("told %+v", got)
				}
			})
		})
	}
}

// TestRestart: a router that lost its mappings is noticed by what it announces, and otherwise by the next check.
func TestRestart(t *testing.T) {
	for name, c := range map[string]struct {
		announced bool
		within    time.Duration
	}{
		"announced": {true, hintGap + time.Second},
		"silently":  {false, checkEvery},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, one, func(t *testing.T, b *bench) {
				s := b.scripts[home]
				after(20 * time.Minute)
				expect(t, s, "find", "check")
				s.set(func() { s.booted = time.Now(); s.outer = netip.MustParseAddrPort("20.0.0.1:40000") })
				if c.announced {
					b.heard(other.Addr, 0)
					after(10 * time.Second)
					expect(t, s)
					b.heard(home.Addr, 0)
				}
				after(c.within)
				expect(t, s, "check", "renew")
				if got := b.news(); len(got) != 2 || got[1][0].External != s.outer {
					t.Errorf("told %+v", got)
				}
			})
		})
	}
}

// TestForgedAnnouncements: they lead to a question every other second at most, and to nothing else.
func TestForgedAnnouncements(t *testing.T) {
	simulate(t, one, func(t *testing.T, b *bench) {
		s := b.scripts[home]
		for range 1000 {
			b.heard(home.Addr, 1<<31)
			after(10 * time.Millisecond)
		}
		events := s.events()
		if n := len(events); n > 6 || slices.Contains(what(events), "renew") {
			t.Errorf("asked %v", events)
		}
		s.set(func() { s.silent = true })
		after(time.Hour)
		s.events()
		for range 1000 {
			b.heard(home.Addr, 0)
			after(60 * time.Millisecond)
		}
		if n := len(s.events()); n > 2 {
			t.Errorf("asked %d times in a minute for a router that does not map", n)
		}
	})
}

// TestLoss: what happens to a mapping whose router goes silent, refuses or forgets.
func TestLoss(t *testing.T) {
	simulate(t, one, func(t *testing.T, b *bench) {
		s := b.scripts[home]
		b.news()
		s.set(func() { s.silent = true })
		after(checkEvery + retryFirst)
		if len(b.news()) != 0 {
			t.Error("one silence ends a mapping")
		}
		s.set(func() { s.silent = false })
		after(time.Minute)
		expect(t, s, "find", "check", "check", "check")
		s.set(func() { s.silent = true })
		after(checkEvery + time.Minute)
		expectFirst(t, s, "check", "check", "check", "find")
		if got := b.news(); len(got) != 1 || len(got[0]) != 0 {
			t.Errorf("told %+v", got)
		}
		s.set(func() { s.silent = false })
		after(retryLast)
		expect(t, s, "find")
		s.set(func() { s.lost = true })
		after(checkEvery)
		expect(t, s, "check", "renew")
		s.set(func() { s.lost = false })
		b.news()
		s.set(func() { s.refuses = true })
		after(checkEvery)
		expectFirst(t, s, "check", "renew", "find")
		if got := b.news(); len(got) != 1 || len(got[0]) != 0 {
			t.Errorf("told %+v", got)
		}
	})
}

// TestExpiry: silence lasts until a short mapping has ended.
func TestExpiry(t *testing.T) {
	scripts := func() map[Gateway]*script { all := one(); all[home].life = time.Minute; return all }
	simulate(t, scripts, func(t *testing.T, b *bench) {
		s := b.scripts[home]
		s.set(func() { s.silent = true })
		b.news()
		after(time.Minute - time.Second)
		expect(t, s, "find", "renew", "renew")
		if len(b.news()) != 0 {
			t.Error("ended before its time")
		}
		after(2 * time.Second)
		expect(t, s, "renew", "find")
		if got := b.news(); len(got) != 1 || len(got[0]) != 0 {
			t.Errorf("told %+v", got)
		}
	})
}

func TestLinks(t *testing.T) {
	scripts := func() map[Gateway]*script { return map[Gateway]*script{home: newScript(), other: newScript()} }
	simulate(t, scripts, func(t *testing.T, b *bench) {
		h, o := b.scripts[home], b.scripts[other]
		expect(t, h, "find")
		// Devices of no interest come and go.
		for range 600 {
			b.set(func() {})
			after(100 * time.Millisecond)
		}
		expect(t, h, "check")
		b.set(func() { b.gateways = []Gateway{home, other, home} })
		expect(t, o, "find")
		if r := b.Status(); len(r.Mappings) != 2 || len(r.Answers) != 6 || r.Mappings[0].Gateway != home.Addr {
			t.Errorf("%+v", r)
		}
		b.news()
		b.set(func() { b.gateways = []Gateway{other} })
		expect(t, h, "clear")
		if got := b.news(); len(got) != 1 || len(got[0]) != 1 || got[0][0].Gateway != other.Addr {
			t.Errorf("told %+v", got)
		}
		b.set(func() { b.fail = errors.New("broken") })
		if got := b.news(); len(got) != 0 {
			t.Errorf("told %+v", got)
		}
		b.mu.Lock()
		b.fail, b.gateways = nil, nil
		b.mu.Unlock()
		after(time.Minute)
		if got := b.news(); len(got) != 1 || len(got[0]) != 0 {
			t.Errorf("told %+v, after the routes can be read again", got)
		}
	})
}

func TestPortChanges(t *testing.T) {
	simulate(t, one, func(t *testing.T, b *bench) {
		s := b.scripts[home]
		b.news()
		after(time.Second)
		b.set(func() { b.port = 6000 })
		expect(t, s, "find", "clear", "find")
		got := b.news()
		if len(got) != 2 || len(got[0]) != 0 || got[1][0].Internal != 6000 {
			t.Errorf("told %+v", got)
		}
		b.set(func() { b.port = 0 })
		expect(t, s, "clear")
		after(48 * time.Hour)
		expect(t, s)
		b.set(func() { b.port = 5582 })
		expect(t, s, "find")
	})
}

func TestUsable(t *testing.T) {
	m := New(Config{Excluded: "hnet0"})
	at := func(addr, local, device string) Gateway { return Gateway{address(addr), address(local), device} }
	good := at("192.168.1.1", "192.168.1.7", "eth0")
	six := at("fe80::1%eth0", "2001:db8::7", "eth0")
	got := m.usable([]Gateway{
		{}, good, good, six,
		at("::ffff:192.168.1.1", "::ffff:192.168.1.7", "eth0"),
		at("192.168.1.1", "2001:db8::7", "eth0"),
		at("0.0.0.0", "192.168.1.7", "eth0"),
		at("224.0.0.1", "192.168.1.7", "eth0"),
		at("192.168.1.7", "192.168.1.7", "eth0"),
		at("fc94::1", "fc94::2", "eth0"),
		at("fe80::1%eth0", "fc94::2", "eth0"),
		at("192.168.9.1", "192.168.9.7", "hnet0"),
	})
	if !slices.Equal(got, []Gateway{good, six}) {
		t.Errorf("%v", got)
	}
	var many []Gateway
	for i := range 100 {
		many = append(many, at(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String(), "10.1.0.1", "eth0"))
	}
	if n := len(m.usable(many)); n != maxGateways {
		t.Errorf("%d gateways", n)
	}
}
