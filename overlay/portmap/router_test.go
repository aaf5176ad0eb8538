package portmap

import (
	"context"
	"encoding/binary"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var none netip.AddrPort

// results are what find says of the three protocols.
func results(outcomes []outcome) [3]Result {
	return [3]Result{outcomes[0].result, outcomes[1].result, outcomes[2].result}
}

// hurried is a real router's hands, for where nothing answers a search.
func hurried(g Gateway) *router {
	r := newRouter(g).(*router)
	r.igd.gap = 50 * time.Millisecond
	return r
}

func TestPCP(t *testing.T) {
	t.Parallel()
	g := loopback(t)
	f := &fakePCP{epoch: 100, outer: address("20.0.0.1"), deaf: 1}
	serve(t, g, serverPort, f.reply)
	r := hurried(g)
	ctx := t.Context()
	got, outcomes, err := r.find(ctx, 5582, none)
	want := grant{protocol: PCP, internal: 5582, external: outer, lifetime: asked, epoch: 100, timed: true}
	if err != nil || got != want || results(outcomes) != [3]Result{Found, NotAsked, NotAsked} {
		t.Fatalf("%+v, %+v, %v; want %+v", got, outcomes, err, want)
	}
	f.set(func() { f.taken, f.epoch = 5582, 101 })
	if got, err = r.renew(ctx, got); err != nil || got.external != netip.MustParseAddrPort("20.0.0.1:40000") || got.epoch != 101 {
		t.Errorf("the port taken: %+v, %v", got, err)
	}
	if epoch, timed, err := r.check(ctx, got); err != nil || !timed || epoch != 101 {
		t.Errorf("check: %d, %v, %v", epoch, timed, err)
	}
	r.clear(ctx)
	r.clear(ctx)
	f.set(func() {
		if len(f.mapped) != 0 || !slices.Equal(f.asked, []string{"map", "map", "announce", "delete"}) {
			t.Errorf("asked %v, left %v", f.asked, f.mapped)
		}
		f.asked = nil
	})
	for result, why := range map[byte]string{2: "allow", 12: "NAT", 77: "77"} {
		f.set(func() { f.result = result })
		if _, older, err := r.findPCP(ctx, 5582, none); older || !isRefusal(err) || !strings.Contains(err.Error(), why) {
			t.Errorf("result %d: %v, %v", result, older, err)
		}
		if _, err := r.renew(ctx, got); !isRefusal(err) {
			t.Errorf("renewal refused: %v", err)
		}
	}
	// Refused by PCP, NAT-PMP is not asked; nothing speaks UPnP there.
	_, outcomes, err = r.find(ctx, 5582, none)
	if err == nil || results(outcomes) != [3]Result{Refused, NotAsked, NoAnswer} || outcomes[0].why == "" {
		t.Errorf("%+v, %v", outcomes, err)
	}
}

// TestPCPForged: answers that are not to our question, or from elsewhere, do not count.
func TestPCPForged(t *testing.T) {
	t.Parallel()
	g := loopback(t)
	f := &fakePCP{outer: address("20.0.0.1")}
	f.forge = func(answer []byte) [][]byte {
		var all [][]byte
		for _, at := range []int{1, 24, 35, 36, 41} { // operation, nonce, protocol, port
			forged := slices.Clone(answer)
			forged[at] ^= 1
			copy(forged[44:], make([]byte, 16))
			all = append(all, forged)
		}
		return append(all, answer[:20], nil)
	}
	serve(t, g, serverPort, f.reply)
	r := hurried(g)
	got, _, err := r.find(t.Context(), 5582, none)
	if err != nil || got.external != outer {
		t.Errorf("%+v, %v", got, err)
	}
	// A flood of them ends the question.
	f.set(func() {
		f.forge = func(answer []byte) [][]byte { return slices.Repeat([][]byte{answer[:20]}, maxStray+1) }
	})
	if got, err := r.renew(t.Context(), got); err == nil || isRefusal(err) {
		t.Errorf("in a flood: %+v, %v", got, err)
	}
}

func TestNATPMP(t *testing.T) {
	t.Parallel()
	for name, silent := range map[string]bool{"refuses PCP": false, "is silent to PCP": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := loopback(t)
			f := &fakePMP{outer: address("20.0.0.1"), epoch: 7, silent: silent}
			serve(t, g, serverPort, f.reply)
			r := hurried(g)
			ctx := t.Context()
			got, outcomes, err := r.find(ctx, 5582, none)
			want := grant{protocol: NATPMP, internal: 5582, external: outer, lifetime: asked, epoch: 7, timed: true}
			if err != nil || got != want || results(outcomes) != [3]Result{Refused, Found, NotAsked} {
				t.Fatalf("%+v, %+v, %v; want %+v", got, outcomes, err, want)
			}
			if epoch, timed, err := r.check(ctx, got); err != nil || !timed || epoch != 7 {
				t.Errorf("check: %d, %v, %v", epoch, timed, err)
			}
			f.set(func() { f.outer, f.taken = address("100.64.3.4"), 5582 })
			if _, _, err := r.check(ctx, got); !isRefusal(err) {
				t.Errorf("another outer address: %v", err)
			}
			if got, err = r.renew(ctx, got); err != nil || got.external != netip.MustParseAddrPort("100.64.3.4:40000") {
				t.Errorf("renewed: %+v, %v", got, err)
			}
			r.clear(ctx)
			f.set(func() {
				if len(f.mapped) != 0 {
					t.Errorf("left %v", f.mapped)
				}
				f.result = 2
			})
			if _, err := r.renew(ctx, got); !isRefusal(err) {
				t.Errorf("not authorised: %v", err)
			}
		})
	}
}

// TestPCPOtherVersion: a server of an older draft of PCP, and nothing else.
func TestPCPOtherVersion(t *testing.T) {
	t.Parallel()
	g := loopback(t)
	f := &fakePCP{version: 1}
	serve(t, g, serverPort, f.reply)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := hurried(g)
	if _, older, err := r.findPCP(ctx, 5582, none); !older || !isRefusal(err) || r.port != 0 {
		t.Errorf("older %v, %v", older, err)
	}
}

func TestNothingThere(t *testing.T) {
	t.Parallel()
	g := loopback(t)
	r := hurried(g)
	_, outcomes, err := r.find(t.Context(), 5582, none)
	if err == nil || results(outcomes) != [3]Result{NoAnswer, NoAnswer, NoAnswer} || !strings.Contains(outcomes[0].why, "nothing listens") {
		t.Errorf("%+v, %v", outcomes, err)
	}
	// A question ends with its context.
	silent := loopback(t)
	serve(t, silent, serverPort, func([]byte) [][]byte { return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r = hurried(silent)
	if _, _, err := r.find(ctx, 5582, none); err == nil {
		t.Error("no error")
	}
}

func startIGD(t *testing.T) (*fakeIGD, *router) {
	t.Helper()
	f := newFakeIGD(t, loopback(t))
	f.announce(t, f.server.URL+"/rootDesc.xml")
	return f, newRouter(f.gateway).(*router)
}

func TestUPnP(t *testing.T) {
	t.Parallel()
	f, r := startIGD(t)
	ctx := t.Context()
	got, outcomes, err := r.find(ctx, 5582, none)
	want := grant{protocol: UPnP, internal: 5582, external: outer, lifetime: asked}
	if err != nil || got != want || results(outcomes) != [3]Result{NoAnswer, NoAnswer, Found} {
		t.Fatalf("%+v, %+v, %v; want %+v", got, outcomes, err, want)
	}
	f.set(func() {
		if f.entries["5582"] != (entry{"127.0.0.1", "5582", "7200"}) {
			t.Errorf("mapped %v", f.entries)
		}
	})
	if _, timed, err := r.check(ctx, got); err != nil || timed {
		t.Errorf("check: %v, %v", timed, err)
	}
	if again, err := r.renew(ctx, got); err != nil || again != got {
		t.Errorf("renewed: %+v, %v", again, err)
	}
	f.set(func() { f.outer = "10.0.0.1" })
	if _, _, err := r.check(ctx, got); !isRefusal(err) {
		t.Errorf("another outer address: %v", err)
	}
	f.set(func() { f.outer = "20.0.0.1"; clear(f.entries) })
	if _, _, err := r.check(ctx, got); !isRefusal(err) {
		t.Errorf("mapping lost: %v", err)
	}
	f.set(func() { f.entries["5582"] = entry{"127.0.0.9", "5582", "7200"} })
	if _, _, err := r.check(ctx, got); !isRefusal(err) {
		t.Errorf("mapping of another: %v", err)
	}
	got, err = r.renew(ctx, got)
	if err != nil || got.external.Port() == 5582 || got.external.Port() < 1024 {
		t.Errorf("the port taken: %+v, %v", got, err)
	}
	r.clear(ctx)
	f.set(func() {
		if len(f.entries) != 1 || f.entries["5582"].client != "127.0.0.9" {
			t.Errorf("left %v", f.entries)
		}
	})
}

func TestUPnPSpecial(t *testing.T) {
	t.Parallel()
	theirs, ours := entry{"127.0.0.9", "5582", "0"}, entry{"127.0.0.1", "5582", "0"}
	for name, c := range map[string]struct {
		prepare func(*fakeIGD)
		refused string        // or else:
		life    time.Duration // granted
	}{
		"permanent only":            {prepare: func(f *fakeIGD) { f.permanent = upnpOnlyPermanent }},
		"permanent only, unclearly": {prepare: func(f *fakeIGD) { f.permanent = upnpActionFailed }},
		"permanent, port taken":     {prepare: func(f *fakeIGD) { f.permanent = upnpOnlyPermanent; f.entries["5582"] = theirs }},
		"left from before":          {prepare: func(f *fakeIGD) { f.strict = true; f.entries["5582"] = ours }},
		"same port":                 {prepare: func(f *fakeIGD) { f.same = true }, life: asked},
		"same port, taken":          {prepare: func(f *fakeIGD) { f.same = true; f.entries["5582"] = theirs }, refused: "same port"},
		"not authorised":            {prepare: func(f *fakeIGD) { f.denied = 606 }, refused: "allow"},
		"always in conflict":        {prepare: func(f *fakeIGD) { f.denied = upnpConflict }, refused: "another host"},
		"another error":             {prepare: func(f *fakeIGD) { f.denied = 777 }, refused: "777"},
		"no outer address":          {prepare: func(f *fakeIGD) { f.outer = "" }, life: asked},
		"outer address is nonsense": {prepare: func(f *fakeIGD) { f.outer = "none" }, refused: "-"},
		"nothing to map ports by": {refused: "not for port mapping", prepare: func(f *fakeIGD) {
			f.hook = func(w http.ResponseWriter, r *http.Request) bool { w.Write([]byte("<root/>")); return true }
		}},
		"redirects": {refused: "-", prepare: func(f *fakeIGD) {
			f.hook = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, f.server.URL+"/more", http.StatusFound)
				return true
			}
		}},
		"endless": {refused: "-", prepare: func(f *fakeIGD) {
			f.hook = func(w http.ResponseWriter, r *http.Request) bool {
				w.Write([]byte("<root><x>" + strings.Repeat("x", 2*maxBody)))
				return true
			}
		}},
		"endless answers": {refused: "-", prepare: func(f *fakeIGD) {
			f.hook = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPost {
					w.Write([]byte("<root><x>" + strings.Repeat("x", 2*maxBody)))
				}
				return r.Method == http.MethodPost
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, r := startIGD(t)
			c.prepare(f)
			ctx := t.Context()
			got, outcomes, err := r.find(ctx, 5582, netip.AddrPort{})
			if c.refused != "" {
				if err == nil || c.refused != "-" && (outcomes[2].result != Refused || !strings.Contains(outcomes[2].why, c.refused)) {
					t.Errorf("%+v, %+v, %v", got, outcomes, err)
				}
				return
			}
			if err != nil || got.lifetime != c.life || got.internal != 5582 {
				t.Fatalf("%+v, %v", got, err)
			}
			if again, err := r.renew(ctx, got); err != nil || again != got {
				t.Errorf("renewed: %+v, %v; was %+v", again, err, got)
			}
			r.clear(ctx)
			f.set(func() {
				delete(f.entries, "5582") // perhaps another's
				if len(f.entries) != 0 {
					t.Errorf("left %v", f.entries)
				}
			})
		})
	}
}

// TestUPnPRemoval: the mapping is removed though port 5351 of the router is a hole.
func TestUPnPRemoval(t *testing.T) {
	t.Parallel()
	f, r := startIGD(t)
	serve(t, f.gateway, serverPort, func([]byte) [][]byte { return nil })
	if _, outcomes, err := r.find(t.Context(), 5582, none); err != nil || results(outcomes) != [3]Result{NoAnswer, NoAnswer, Found} {
		t.Fatalf("%+v, %v", outcomes, err)
	}
	r.clear(t.Context())
	f.set(func() {
		if len(f.entries) != 0 {
			t.Errorf("left %v", f.entries)
		}
	})
}

// TestEnd: a router that went silent does not hold up the end, and a question on its way when the end comes is undone.
func TestEnd(t *testing.T) {
	t.Parallel()
	for name, deaf := range map[string]int{"silent": 1 << 30, "asked just now": 0} {
		f := &fakePCP{outer: address("20.0.0.1")}
		if name == "asked just now" {
			f.lose = 1
		}
		g := loopback(t)
		heard := make(chan struct{}, 100)
		serve(t, g, serverPort, func(b []byte) [][]byte {
			all := f.reply(b)
			heard <- struct{}{}
			return all
		})
		m := New(Config{Port: func() uint16 { return 5582 }, Gateways: func() ([]Gateway, error) { return []Gateway{g}, nil }})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		<-heard
		f.set(func() { f.deaf = deaf })
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal(name, ": Run does not end")
		}
		f.set(func() {
			if deaf == 0 && len(f.mapped) != 0 {
				t.Errorf("%s: left %v", name, f.mapped)
			}
		})
	}
}

// TestUPnPMoves: a router that restarted describes itself elsewhere.
func TestUPnPMoves(t *testing.T) {
	t.Parallel()
	f, r := startIGD(t)
	ctx := t.Context()
	got, _, err := r.find(ctx, 5582, none)
	if err != nil {
		t.Fatal(err)
	}
	r.igd.service.control.Host = netip.AddrPortFrom(f.gateway.Addr, 1).String()
	if _, _, err := r.check(ctx, got); !isRefusal(err) {
		t.Errorf("check: %v", err)
	}
	if again, err := r.renew(ctx, got); err != nil || again != got {
		t.Errorf("renewed: %+v, %v", again, err)
	}
}

// TestOnlyTheGateway: the HTTP client goes nowhere else.
func TestOnlyTheGateway(t *testing.T) {
	t.Parallel()
	elsewhere := newFakeIGD(t, loopback(t))
	client := boundedClient(loopback(t))
	if response, err := client.Get(elsewhere.server.URL); err == nil {
		response.Body.Close()
		t.Error("another host is asked")
	}
	// A device of another host is not found.
	g := loopback(t)
	liar := &fakeIGD{gateway: g}
	liar.announce(t, elsewhere.server.URL+"/rootDesc.xml")
	if locations, err := search(t.Context(), g, 100*time.Millisecond); err == nil {
		t.Errorf("found %v", locations)
	}
}

// TestMapper: a Mapper on a router of each kind, over real sockets.
func TestMapper(t *testing.T) {
	t.Parallel()
	pcp, pmp, igd := loopback(t), loopback(t), newFakeIGD(t, loopback(t))
	f := &fakePCP{outer: address("20.0.0.1"), epoch: 1000}
	server := serve(t, pcp, serverPort, f.reply)
	p := &fakePMP{outer: address("10.0.0.1"), epoch: 1000}
	serve(t, pmp, serverPort, p.reply)
	igd.announce(t, igd.server.URL+"/rootDesc.xml")
	news := make(chan []Mapping, 16)
	m := New(Config{
		Port:     func() uint16 { return 5582 },
		Gateways: func() ([]Gateway, error) { return []Gateway{pcp, pmp, igd.gateway}, nil },
		Notify:   func(all []Mapping) { news <- all },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	// The server tells all hosts its time, again and again: when they begin to listen is not known.
	announcement := appendAnnounce(nil, netip.IPv6Unspecified())
	announcement[1] |= opAnswer
	announce := func() {
		f.set(func() { binary.BigEndian.PutUint32(announcement[8:], f.epoch) })
		_, _ = server.WriteToUDPAddrPort(announcement, netip.AddrPortFrom(address("127.0.0.1"), clientPort))
	}
	wait := func(what string, done func([]Mapping) bool) {
		t.Helper()
		timeout := time.After(30 * time.Second)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case all := <-news:
				if done(all) {
					return
				}
			case <-tick.C:
				announce()
			case <-timeout:
				t.Fatalf("%s: not in time: %+v", what, m.Status())
			}
		}
	}
	wait("three mappings", func(all []Mapping) bool { return len(all) == 3 })
	doubles := map[string]bool{}
	for _, mapping := range m.Status().Mappings {
		doubles[mapping.Protocol] = mapping.Double
	}
	if len(doubles) != 3 || doubles[PCP] || !doubles[NATPMP] || doubles[UPnP] {
		t.Errorf("double NAT: %v", doubles)
	}
	// The server starts anew.
	f.set(func() { f.epoch, f.taken, f.mapped = 0, 5582, nil })
	wait("mapped again", func(all []Mapping) bool {
		return slices.ContainsFunc(all, func(m Mapping) bool { return m.External == netip.MustParseAddrPort("20.0.0.1:40000") })
	})
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Run does not end")
	}
	wait("nothing left", func(all []Mapping) bool { return len(all) == 0 })
	f.set(func() {
		if len(f.mapped) != 0 {
			t.Errorf("left by PCP: %v", f.mapped)
		}
	})
	p.set(func() {
		if len(p.mapped) != 0 {
			t.Errorf("left by NAT-PMP: %v", p.mapped)
		}
	})
	igd.set(func() {
		if len(igd.entries) != 0 {
			t.Errorf("left by UPnP: %v", igd.entries)
		}
	})
}
