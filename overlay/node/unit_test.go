package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/doctor"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/hostnames"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/lan"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/overlay/whitelist"
)

var (
	robot = netip.MustParseAddr("fc94::1")
	noon  = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
)

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func texts[T fmt.Stringer](list []T) (all []string) {
	for _, x := range list {
		all = append(all, x.String())
	}
	return all
}

func TestEndpoints(t *testing.T) {
	up := func(name string, addresses ...string) netwatch.Interface {
		return netwatch.Interface{Name: name, Up: true, Addrs: prefixes(addresses...)}
	}
	many, links := up("many"), up("links")
	for i := range 20 {
		many.Addrs = append(many.Addrs, prefixes(fmt.Sprintf("10.0.0.%d/24", i))...)
		links.Addrs = append(links.Addrs, prefixes(fmt.Sprintf("fe80::%x/64", i+1))...)
	}
	for name, test := range map[string]struct {
		interfaces []netwatch.Interface
		want       []string
	}{
		"no interface":     {nil, nil},
		"link-local last":  {[]netwatch.Interface{up("a", "fe80::1/64", "192.0.2.1/24"), up("b", "2001:db8::1/64")}, []string{"192.0.2.1:7", "[2001:db8::1]:7", "[fe80::1]:7"}},
		"down":             {[]netwatch.Interface{{Name: "a", Addrs: prefixes("192.0.2.1/24")}}, nil},
		"loopback":         {[]netwatch.Interface{{Name: "lo", Up: true, Loopback: true, Addrs: prefixes("192.0.2.1/32")}}, nil},
		"the overlay":      {[]netwatch.Interface{up("hnet0", "192.0.2.1/24"), up("x", "fc94::7/16")}, nil},
		"twice":            {[]netwatch.Interface{up("a", "192.0.2.1/24", "fe80::1/64"), up("b", "192.0.2.1/24", "fe80::1/64")}, []string{"192.0.2.1:7", "[fe80::1]:7"}},
		"many, and a link": {[]netwatch.Interface{many, up("b", "fe80::1/64")}, nil},
		"many of both":     {[]netwatch.Interface{many, links}, nil},
		"many links":       {[]netwatch.Interface{links, up("b", "192.0.2.1/24")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := texts(endpoints(test.interfaces, "hnet0", 7))
			if !strings.HasPrefix(name, "many") {
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				return
			}
			local := 0
			for _, e := range got {
				if strings.HasPrefix(e, "[fe80") {
					local++
				}
			}
			want := map[string]int{"many, and a link": 1, "many of both": record.MaxEndpoints / 2, "many links": record.MaxEndpoints - 1}[name]
			if len(got) != record.MaxEndpoints || local != want {
				t.Errorf("%d endpoints, %d of them link-local, want %d and %d: %v", len(got), local, record.MaxEndpoints, want, got)
			}
		})
	}
}

func TestPathsThatChanged(t *testing.T) {
	eth := netwatch.Interface{Index: 2, Up: true, Addrs: prefixes("192.0.2.1/24", "fe80::1/64")}
	wifi := netwatch.Interface{Index: 3, Up: true, Addrs: prefixes("198.51.100.1/24")}
	down, moved := eth, eth
	down.Up = false
	moved.Addrs = prefixes("192.0.2.9/24", "fe80::1/64")
	path := func(address string, index uint32) engine.Path {
		a, _ := netip.ParseAddr(address)
		return engine.Path{Local: underlay.Source{Addr: a, Interface: index}}
	}
	for name, test := range map[string]struct {
		now        []netwatch.Interface
		path       engine.Path
		stands     bool
		sameRoute  bool
		unaffected bool // nothing that matters differs
	}{
		"nothing changed":       {[]netwatch.Interface{eth, wifi}, path("192.0.2.1", 2), true, true, true},
		"link-local with zone":  {[]netwatch.Interface{eth, wifi}, path("fe80::1%2", 2), true, true, true},
		"another one went":      {[]netwatch.Interface{eth}, path("192.0.2.1", 2), true, true, false},
		"its interface went":    {[]netwatch.Interface{wifi}, path("192.0.2.1", 2), false, false, false},
		"its interface is down": {[]netwatch.Interface{down, wifi}, path("192.0.2.1", 2), false, false, false},
		"its address went":      {[]netwatch.Interface{moved, wifi}, path("192.0.2.1", 2), false, true, false},
		"address known alone":   {[]netwatch.Interface{eth}, path("198.51.100.1", 0), false, true, false},
		"interface known alone": {[]netwatch.Interface{wifi}, path("", 2), true, false, false},
		"nothing known":         {[]netwatch.Interface{}, path("", 0), true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := []netwatch.Interface{eth, wifi}
			if got := stands(test.now, test.path); got != test.stands {
				t.Errorf("stands: %v", got)
			}
			if got := sameRoute(before, test.now, test.path); got != test.sameRoute {
				t.Errorf("same route: %v", got)
			}
			if got := slices.EqualFunc(before, test.now, same); got != test.unaffected {
				t.Errorf("unaffected: %v", got)
			}
		})
	}
}

func TestOnLink(t *testing.T) {
	interfaces := []netwatch.Interface{{Index: 2, Up: true}, {Index: 3}}
	for address, want := range map[string]bool{
		"192.0.2.1": true, "169.254.1.1": true, "2001:db8::1": true, "fe80::1%2": true, "fe80::1%3": false, "fe80::1%4": false, "fe80::1": false, "fe80::1%eth0": false,
	} {
		if got := onLink(interfaces, netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

func newKey(n byte) identity.PublicKey { return identity.FromSeed([32]byte{n}).PublicKey() }

func TestDirectory(t *testing.T) {
	known, learned, stranger := newKey(1), newKey(2), newKey(3)
	n := openNode(t, nil)
	d := directory{n}
	psk := [32]byte{9}
	for _, e := range []whitelist.Entry{{Key: known, PSK: &psk}, {Address: learned.Address()}} {
		if _, err := n.whitelist.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	n.contacts.Resolved(known.Address(), []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:5582"), netip.MustParseAddrPort("[fe80::1%99999]:5582")})
	own := n.identity

	check := func(name string, got engine.Contact, gotOK bool, want engine.Contact, wantOK bool) {
		t.Helper()
		if gotOK != wantOK {
			t.Errorf("%s: let in is %v", name, gotOK)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}), cmpopts.EquateEmpty()); wantOK && diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	// The endpoint on a link that is not there is not tried.
	knownContact := engine.Contact{Address: known.Address(), Key: known, PSK: psk, Listed: true, Candidates: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:5582")}}
	for _, enabled := range []bool{true, false} {
		if err := n.whitelist.SetEnabled(enabled); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("whitelist %v, ", enabled)
		c, ok := d.ByAddress(known.Address())
		check(name+"a known address", c, ok, knownContact, true)
		c, ok = d.ByKey(known)
		check(name+"a known key", c, ok, knownContact, true)
		c, ok = d.ByAddress(learned.Address())
		check(name+"an address without key", c, ok, engine.Contact{Address: learned.Address(), Listed: true}, true)
		c, ok = d.ByKey(learned)
		check(name+"the key of that address", c, ok, engine.Contact{Address: learned.Address(), Key: learned, Listed: true}, true)
		c, ok = d.ByAddress(stranger.Address())
		check(name+"a stranger's address", c, ok, engine.Contact{Address: stranger.Address()}, !enabled)
		c, ok = d.ByKey(stranger)
		check(name+"a stranger's key", c, ok, engine.Contact{Address: stranger.Address(), Key: stranger}, !enabled)
		c, ok = d.ByAddress(netip.MustParseAddr("fd00::1"))
		check(name+"an address outside", c, ok, engine.Contact{}, false)
		c, ok = d.ByAddress(own.Address())
		check(name+"the own address", c, ok, engine.Contact{}, false)
		c, ok = d.ByKey(own.PublicKey())
		check(name+"the own key", c, ok, engine.Contact{}, false)
	}
}

func TestNames(t *testing.T) {
	n := openNode(t, nil)
	add := func(address, name string) error {
		_, err := n.WhitelistAdd(t.Context(), api.WhitelistAdd{Address: netip.MustParseAddr(address), Hostname: name})
		return err
	}
	give := func(name, address string) error {
		_, err := n.HostAdd(t.Context(), api.HostAdd{Name: name, Address: netip.MustParseAddr(address)})
		return err
	}
	own := ownName()
	for i, step := range []struct {
		err  error
		code string // "" = no error
		word string
	}{
		{add("fc94::1", "robot1"), "", ""},
		{add("fc94::1", "ROBOT1"), "", ""},
		{add("fc94::2", "Robot1"), api.CodeConflict, "fc94::1"},
		{add("fc94::2", own), api.CodeConflict, "own name"},
		{add("fc94::2", strings.ToUpper(own)), api.CodeConflict, "own name"},
		{add("fc94::2", "no_name"), api.CodeBadRequest, "hyphen"},
		{add(n.identity.Address().String(), "me"), api.CodeConflict, "this node itself"},
		{give("arm", "fc94::1"), "", ""},
		{give("Arm", "fc94::1"), "", ""},
		{give("arm", "fc94::2"), api.CodeConflict, "fc94::1"},
		{give("robot1", "fc94::2"), api.CodeConflict, "whitelisted peer fc94::1"},
		{give("robot1", "fc94::1"), "", ""},
		{give(own, "fc94::3"), api.CodeBadRequest, "own name"},
		{give("localhost", "fc94::3"), api.CodeBadRequest, "localhost"},
		{add("fc94::2", "ARM"), api.CodeConflict, "hnet host rm arm"},
		{add("fc94::2", "robot2"), "", ""},
	} {
		if step.code == "" && step.err != nil || step.code != "" && (!api.IsCode(step.err, step.code) || !strings.Contains(step.err.Error(), step.word)) {
			t.Errorf("step %d: %v, want %s with %q", i, step.err, step.code, step.word)
		}
	}
	names := make(map[string]string)
	for _, x := range n.allNames() {
		names[x.Name] = x.Address.String()
	}
	if diff := cmp.Diff(map[string]string{"robot1": "fc94::1", "arm": "fc94::1", "robot2": "fc94::2"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	for address, want := range map[string]string{"fc94::1": "robot1", "fc94::2": "robot2", "fc94::3": "fc94::3"} {
		if got := n.nameOf(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is called %s, want %s", address, got, want)
		}
	}
	for asked, want := range map[string]string{"robot2": "fc94::2", "ARM": "fc94::1", "fc94::2": "fc94::2", own: n.identity.Address().String()} {
		if e, err := n.Resolve(t.Context(), asked); err != nil || e.Address.String() != want {
			t.Errorf("%s is %v (%v), want %s", asked, e, err, want)
		}
	}
	if _, err := n.Resolve(t.Context(), "nobody"); !api.IsCode(err, api.CodeNotFound) {
		t.Errorf("an unknown name: %v", err)
	}
	if _, err := n.HostRemove(t.Context(), "nobody"); !api.IsCode(err, api.CodeNotFound) {
		t.Errorf("removing an unknown name: %v", err)
	}
	if _, err := n.WhitelistRemove(t.Context(), netip.MustParseAddr("fc94::9")); !api.IsCode(err, api.CodeNotFound) {
		t.Errorf("removing an unknown peer: %v", err)
	}
	if s, err := n.Status(t.Context()); err != nil || s.Hostname != own || s.Warnings == nil || s.Address != n.identity.Address() {
		t.Errorf("status: %+v, %v", s, err)
	}
}

func TestRefusal(t *testing.T) {
	full := fmt.Errorf("cannot write x: %w; free some space", syscall.ENOSPC)
	for _, test := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("x: %w", whitelist.ErrNotFound), api.CodeNotFound}, {fmt.Errorf("x: %w", hostnames.ErrNotFound), api.CodeNotFound},
		{fmt.Errorf("x: %w", whitelist.ErrKey), api.CodeConflict}, {fmt.Errorf("x: %w", whitelist.ErrStatic), api.CodeConflict},
		{fmt.Errorf("x: %w", hostnames.ErrTaken), api.CodeConflict}, {errors.New("bad name"), api.CodeBadRequest},
	} {
		if got := refusal(test.err, api.CodeBadRequest); !api.IsCode(got, test.want) || !strings.Contains(got.Error(), test.err.Error()) {
			t.Errorf("%v becomes %#v", test.err, got)
		}
	}
	if got := refusal(full, api.CodeBadRequest); got != full {
		t.Errorf("a full disk becomes %#v", got)
	}
}

func TestStaticEntries(t *testing.T) {
	psk := [32]byte{7}
	peers := []config.Peer{{Key: newKey(1), Endpoint: "192.0.2.1:5582", PSK: &psk, Relay: true}, {Key: newKey(2)}}
	got, err := staticEntries(peers, newKey(3))
	want := []whitelist.Entry{
		{Address: newKey(1).Address(), Key: newKey(1), Endpoint: "192.0.2.1:5582", PSK: &psk, Relay: true, Source: whitelist.SourceConfig},
		{Address: newKey(2).Address(), Key: newKey(2), Source: whitelist.SourceConfig},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := staticEntries(peers, newKey(2)); err == nil {
		t.Error("a node may be its own peer")
	}
}

func TestInbox(t *testing.T) {
	b := newInbox()
	from := netip.MustParseAddrPort("192.0.2.1:5582")
	b.put(robot, cameUp, netip.AddrPort{})
	b.put(robot, newPath, netip.AddrPort{})
	b.put(robot, wentDown, netip.AddrPort{})
	b.put(robot.Next(), wentDown, netip.AddrPort{})
	b.put(robot.Next(), cameUp, netip.AddrPort{})
	b.put(robot.Next(), refused, from)
	b.put(robot.Next(), contactWanted, netip.AddrPort{})
	if len(b.ready) != 1 {
		t.Fatal("nobody is woken")
	}
	want := map[netip.Addr]letter{robot: {news: wentDown | newPath}, robot.Next(): {news: cameUp | refused | contactWanted, from: from}}
	got := b.take()
	if len(got) != 2 || got[robot] != want[robot] || got[robot.Next()] != want[robot.Next()] {
		t.Errorf("%v, want %v", got, want)
	}
	if got := b.take(); len(got) != 0 {
		t.Errorf("taken twice: %v", got)
	}
	fill := func(what news) int {
		a := robot
		for range 2 * maxLetters {
			a = a.Next()
			b.put(a, what, from)
		}
		return len(b.letters)
	}
	for _, what := range []news{refused, contactWanted} {
		if n := fill(what); n != maxLetters/2 {
			t.Errorf("%d letters of what comes again, want %d", n, maxLetters/2)
		}
	}
	if n := fill(cameUp); n != maxLetters {
		t.Errorf("%d letters, want %d", n, maxLetters)
	}
	b.put(robot.Next(), wentDown, from)
	if l := b.take()[robot.Next()]; l.news&wentDown == 0 {
		t.Error("a full inbox forgets news of those that are in it")
	}
}

func TestRation(t *testing.T) {
	var r ration
	told := 0
	for i := range 600 { // a minute of ten events a second
		if _, ok := r.take(noon.Add(time.Duration(i) * 100 * time.Millisecond)); ok {
			told++
		}
	}
	if told != linesAtOnce {
		t.Errorf("%d lines in a minute", told)
	}
	if left, ok := r.take(noon.Add(linesPause)); !ok || left != 600-linesAtOnce {
		t.Errorf("in the next minute: %v, %d not told", ok, left)
	}
	if left, ok := r.take(noon.Add(linesPause)); !ok || left != 0 {
		t.Errorf("then: %v, %d not told", ok, left)
	}
}

func TestRefusals(t *testing.T) {
	var r refusals
	told := 0
	a := robot
	for range 100 {
		a = a.Next()
		for range 3 {
			if r.news(noon, a) {
				told++
			}
		}
	}
	if told != maxRefusals {
		t.Errorf("%d strangers are told of at once", told)
	}
	if r.news(noon.Add(refusalPause-1), robot) || !r.news(noon.Add(refusalPause), robot) {
		t.Error("the pause does not hold, or does not end")
	}
}

func TestClones(t *testing.T) {
	n := openNode(t, nil)
	if _, err := n.whitelist.Add(whitelist.Entry{Address: robot}); err != nil {
		t.Fatal(err)
	}
	source := netip.MustParseAddrPort("192.0.2.1:5583")
	n.cloned(lan.Clone{Address: n.identity.Address(), Own: true, Source: source})
	n.cloned(lan.Clone{Address: robot, Source: source})
	n.cloned(lan.Clone{Address: robot.Next(), Source: source})
	if got := n.warnings.List(); len(got) != 2 || got[0].Code != health.IdentityCopy || got[1].Subject != robot.String() {
		t.Errorf("warnings: %v", got)
	}
	var c clones
	c.see(noon, health.Warning{Code: health.IdentityCopy, Text: "here"})
	c.see(noon.Add(time.Minute), health.Warning{Code: health.IdentityCopy, Text: "there"})
	if got := c.over(noon.Add(time.Minute + cloneMemory - 1)); len(got) != 0 {
		t.Errorf("over too soon: %v", got)
	}
	if got := c.over(noon.Add(time.Minute + cloneMemory)); len(got) != 1 || got[0].Code != health.IdentityCopy {
		t.Errorf("over: %v", got)
	}
	if got := c.over(noon.Add(time.Hour)); len(got) != 0 {
		t.Errorf("over twice: %v", got)
	}
}

func TestLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLookups()
		defer l.close()
		begun := make(chan netip.Addr, 1000)
		begin := func(peer netip.Addr, f func() error) {
			l.start(time.Now(), peer, func(context.Context) error { begun <- peer; return f() })
		}
		check := func(what string, want int) {
			t.Helper()
			synctest.Wait()
			if len(begun) != want {
				t.Errorf("%s: %d look-ups, want %d", what, len(begun), want)
			}
			for len(begun) > 0 {
				<-begun
			}
		}
		done := func() error { return nil }
		fails := func() error { return errors.New("no DNS") }

		begin(robot, done)
		check("the first", 1)
		begin(robot, done)
		time.Sleep(lookupPause - time.Nanosecond)
		begin(robot, done)
		check("within the pause", 0)
		time.Sleep(time.Nanosecond)
		begin(robot, fails)
		check("after the pause", 1)
		time.Sleep(lookupRetry)
		begin(robot, fails)
		check("after a failure", 0)
		l.retry()
		begin(robot, done)
		check("after a failure and a change of the links", 1)
		l.retry()
		begin(robot, done)
		check("after a success and a change of the links", 0)
		l.forget(robot)
		begin(robot, done)
		check("with another hint", 1)

		// One at a time for each peer, and a bounded number in all.
		var release []chan struct{}
		slow := func() func() error {
			c := make(chan struct{})
			release = append(release, c)
			return func() error { <-c; return nil }
		}
		l.forget(robot)
		begin(robot, slow())
		l.forget(robot)
		time.Sleep(2 * lookupPause)
		begin(robot, done)
		check("while one is under way", 1)
		a := robot
		for range 100 {
			a = a.Next()
			begin(a, slow())
		}
		check("of a hundred peers", maxLookups-1)
		for _, c := range release {
			close(c) // some never began
		}
		synctest.Wait()
		begin(a, done)
		check("with room again", 1)
		l.forget(robot)
		begin(robot, slow())
		l.forget(robot)
		close(release[len(release)-1])
		synctest.Wait()
		if l.peers[robot] != nil {
			t.Error("a peer that was forgotten during a look-up is remembered")
		}
		check("of a forgotten peer", 1)

		ended := false
		l.start(time.Now(), a.Next(), func(ctx context.Context) error { <-ctx.Done(); ended = true; return ctx.Err() })
		l.close()
		if !ended {
			t.Error("close does not wait")
		}
		begin(a.Next().Next(), done)
		check("after the end", 0)
	})
}

func TestRuns(t *testing.T) {
	var r runs
	peer, other := netip.MustParseAddr("fc94::1"), netip.MustParseAddr("fc94::2")
	one, two := [8]byte{1}, [8]byte{2}
	for i, step := range []struct {
		peer     netip.Addr
		instance [8]byte
		want     bool
	}{{peer, one, true}, {peer, one, false}, {other, one, true}, {peer, two, true}, {peer, two, false}, {peer, one, true}} {
		if got := r.changed(step.peer, step.instance); got != step.want {
			t.Errorf("step %d: changed is %v", i, got)
		}
	}
	r.forget(peer)
	if len(r.last) != 1 || !r.changed(peer, one) {
		t.Error("a peer that is gone is remembered")
	}
}

// What holds for three checks in a row is warned of, and no longer when it has ended.
func TestSelfCheck(t *testing.T) {
	n := openNode(t, func(c *config.Config) {
		c.Bases = []config.Base{{Host: "192.0.2.1", Address: robot, UDP: 5582}}
	})
	now := time.Now()
	var held map[health.Warning]int
	for range checkHolds {
		held = n.checkSelf(now, held)
	}
	if len(held) != 0 {
		t.Errorf("an untried Base is held against the network: %v", held)
	}
	w := health.Warning{Code: doctor.PathMTU, Subject: robot.String()}
	n.warnings.Raise(health.Warning{Code: w.Code, Subject: w.Subject, Text: "small", Fix: "none"})
	n.checkSelf(now, map[health.Warning]int{w: checkHolds})
	if got := n.warnings.List(); len(got) != 0 {
		t.Errorf("still warned of: %v", got)
	}
}
