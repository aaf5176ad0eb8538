package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/contact"
)

func lines(log *lockedBuffer, text string) (n int) {
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// TestPeers follows two nodes from first contact to the end.
func TestPeers(t *testing.T) {
	mtu := func(c *config.Config) { c.MTU = 1400 }
	a, b := start(t, mtu), start(t, mtu)
	peerA, peerB := a.identity.Address(), b.identity.Address()
	trust(a, b)
	added := a.awaitPeer(api.EventPeerAdded, peerB)
	if !added.Peer.Whitelisted {
		t.Errorf("added: %+v", added.Peer)
	}
	up := a.awaitUp(peerB)
	if up.Peer.State != api.Connected || up.Peer.Path != api.PathLAN || up.Peer.Endpoint.String() != b.endpoint() {
		t.Errorf("up: %+v", up.Peer)
	}
	// The side that was called knows the key now, and can call back after a restart.
	b.await("key learned", func(e api.Event) bool { return e.Type == api.EventWhitelist && e.Detail == "key learned" })
	if w, _ := b.Whitelist(t.Context()); w.Entries[0].Key != a.identity.PublicKey().String() {
		t.Errorf("the key of the side that called is %q", w.Entries[0].Key)
	}
	b.awaitUp(peerA)
	// One event is one line, which names the path.
	for _, x := range []*running{a, b} {
		if n := lines(x.log, `msg="peer is up"`); n != 1 || lines(x.log, "path=lan endpoint=127.0.0.1:") != 1 || lines(x.log, "another path") != 0 {
			t.Errorf("one contact makes the log\n%s", x.log)
		}
	}
	if got := a.host.route(peerB); got != 1400 {
		t.Errorf("the peer's route has MTU %d", got)
	}
	if got := a.host.written(); got["robot-b"] != peerB {
		t.Errorf("names written: %v", got)
	}
	if err := a.Alive(t.Context()); err != nil {
		t.Errorf("alive: %v", err)
	}

	if _, err := a.WhitelistRemove(t.Context(), peerB); err != nil {
		t.Fatal(err)
	}
	a.awaitPeer(api.EventPeerRemoved, peerB)
	if got := a.host.route(peerB); got != 0 {
		t.Errorf("the route of a peer that was removed has MTU %d", got)
	}
	if got := a.host.written(); len(got) != 0 {
		t.Errorf("names of removed peers: %v", got)
	}
	if n := lines(a.log, `msg="peer is down"`); n != 1 {
		t.Errorf("%d lines tell that the peer is down:\n%s", n, a.log)
	}
	if got := a.contacts.Candidates(time.Now(), peerB); len(got) != 0 {
		t.Errorf("a removed peer is remembered at %v", got)
	}
	if peers, _ := a.Peers(t.Context()); len(peers) != 0 {
		t.Errorf("peers: %v", peers)
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	book, err := contact.Open(filepath.Join(b.opt.Paths.State, "contacts.json"))
	if err != nil || len(book.LastConnected()) != 1 || book.LastConnected()[0] != peerA {
		t.Errorf("for the next run is stored: %v, %v", book.LastConnected(), err)
	}
}

// TestFirstContactIsStoredAtOnce: a daemon that is killed right after it must know where to look.
func TestFirstContactIsStoredAtOnce(t *testing.T) {
	a, b := start(t, nil), start(t, nil)
	trust(a, b)
	b.awaitUp(a.identity.Address())
	path := filepath.Join(b.opt.Paths.State, "contacts.json")
	for late := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if content, _ := os.ReadFile(path); strings.Contains(string(content), a.endpoint()) {
			break
		}
		if time.Now().After(late) {
			t.Fatal("not stored")
		}
	}
}

// TestRestart: a node that comes back calls those it had a session with, without being asked.
func TestRestart(t *testing.T) {
	a, b := start(t, nil), start(t, nil)
	trust(a, b)
	b.await("key learned", func(e api.Event) bool { return e.Detail == "key learned" })
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	again := run(t, b.opt, b.host, &lockedBuffer{})
	again.awaitUp(a.identity.Address())
}

// TestHintChanges: a peer that is told to be elsewhere is looked for there and no longer where the old hint led.
func TestHintChanges(t *testing.T) {
	a, b := start(t, nil), start(t, nil)
	b.mustAdd(api.WhitelistAdd{Address: a.identity.Address()})
	key := b.identity.PublicKey().String()
	silent := "127.0.0.1:9" // discard
	a.mustAdd(api.WhitelistAdd{Key: key, Endpoint: silent})
	if diff := cmp.Diff([]string{silent}, candidates(a, b)); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
	// Nothing but the new hint brings this about: the attempt at the old one goes on.
	a.mustAdd(api.WhitelistAdd{Key: key, Endpoint: b.endpoint()})
	if diff := cmp.Diff([]string{b.endpoint()}, candidates(a, b)); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
	a.awaitUp(b.identity.Address())
	// A hint that is wrong does not disturb a session that answers.
	a.mustAdd(api.WhitelistAdd{Key: key, Endpoint: silent})
	if _, err := a.Connect(t.Context(), b.identity.Address()); err != nil {
		t.Error(err)
	}
	if p := a.apiPeer(b.identity.Address()); p.State != api.Connected || p.Endpoint.String() != b.endpoint() {
		t.Errorf("after a wrong hint: %+v", p)
	}
	// One that cannot be used is warned of until it is mended or its peer is gone.
	a.mustAdd(api.WhitelistAdd{Key: key, Endpoint: "[fe80::1%nosuch0]:5582"})
	if got := codes(a.Node); !got["endpoint_unknown"] {
		t.Errorf("warnings: %v", got)
	}
	if _, err := a.WhitelistRemove(t.Context(), b.identity.Address()); err != nil {
		t.Fatal(err)
	}
	if got := codes(a.Node); len(got) != 0 && !got["group_missing"] || got["endpoint_unknown"] {
		t.Errorf("warnings of a peer that was removed: %v", got)
	}
}

// TestHintIsAName: a hint may be a name, which is looked up in the background, and no answer that comes late counts.
func TestHintIsAName(t *testing.T) {
	a, b := start(t, nil), start(t, nil)
	b.mustAdd(api.WhitelistAdd{Address: a.identity.Address()})
	_, port, _ := net.SplitHostPort(b.endpoint())
	asked, answer := make(chan string), make(chan []netip.Addr)
	a.lookups.dns = func(ctx context.Context, _, host string) ([]netip.Addr, error) {
		select {
		case asked <- host:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		select {
		case addresses := <-answer:
			if addresses != nil {
				return addresses, nil
			}
			return nil, errors.New("no such host")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	key := b.identity.PublicKey().String()
	a.mustAdd(api.WhitelistAdd{Key: key, Endpoint: "127.0.0.1:9"})
	a.mustAdd(api.WhitelistAdd{Key: key, Endpoint: "old.example:" + port})
	if got := candidates(a, b); len(got) != 0 {
		t.Errorf("while the new hint is looked up, the old one still leads to %v", got)
	}
	if got := <-asked; got != "old.example" {
		t.Errorf("looked up: %s", got)
	}
	a.mustAdd(api.WhitelistAdd{Key: key, Endpoint: "new.example:" + port})
	answer <- []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	if got := <-asked; got != "new.example" {
		t.Errorf("looked up then: %s", got)
	}
	if got := candidates(a, b); len(got) != 0 {
		t.Errorf("the answer for the old hint counts: %v", got)
	}
	// The overlay cannot carry itself.
	answer <- []netip.Addr{b.identity.Address(), netip.MustParseAddr("::ffff:127.0.0.1")}
	a.awaitUp(b.identity.Address())
	if diff := cmp.Diff([]string{b.endpoint()}, candidates(a, b)); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
	a.mustAdd(api.WhitelistAdd{Key: key, Endpoint: "gone.example:" + port})
	<-asked
	answer <- nil
	e := a.await("a warning", func(e api.Event) bool {
		return e.Type == api.EventWarning && strings.Contains(e.Detail, "gone.example")
	})
	if !strings.Contains(e.Detail, "no such host") || !codes(a.Node)["endpoint_unknown"] {
		t.Errorf("warning: %s", e.Detail)
	}
	// An answer for a peer that is gone changes nothing.
	a.mustAdd(api.WhitelistAdd{Key: key, Endpoint: "late.example:" + port})
	<-asked
	if _, err := a.WhitelistRemove(t.Context(), b.identity.Address()); err != nil {
		t.Fatal(err)
	}
	answer <- nil
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if codes(a.Node)["endpoint_unknown"] {
		t.Error("a warning of a peer that is gone")
	}
}

func candidates(a, b *running) (list []string) {
	for _, e := range a.contacts.Candidates(time.Now(), b.identity.Address()) {
		list = append(list, e.String())
	}
	return list
}

func codes(n *Node) map[string]bool {
	all := make(map[string]bool)
	for _, w := range n.warnings.List() {
		all[string(w.Code)] = true
	}
	return all
}

// TestStranger is let in while the whitelist is off, and gone when it is on again.
func TestStranger(t *testing.T) {
	a, b := start(t, func(c *config.Config) { c.WhitelistEnabled = false }), start(t, nil)
	b.mustAdd(api.WhitelistAdd{Key: a.identity.PublicKey().String(), Endpoint: a.endpoint()})
	stranger := b.identity.Address()
	if e := a.awaitPeer(api.EventPeerAdded, stranger); e.Peer.Whitelisted {
		t.Errorf("added: %+v", e.Peer)
	}
	a.awaitUp(stranger)
	if !codes(a.Node)["whitelist_disabled"] {
		t.Error("no warning that the whitelist is off")
	}
	if err := a.WhitelistEnable(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	a.awaitPeer(api.EventPeerRemoved, stranger)
	if codes(a.Node)["whitelist_disabled"] {
		t.Error("the warning stays")
	}
	if got := a.contacts.LastConnected(); len(got) != 0 {
		t.Errorf("a stranger is remembered: %v", got)
	}
	if peers, _ := a.Peers(t.Context()); len(peers) != 0 {
		t.Errorf("peers: %v", peers)
	}
}

func TestUnreachable(t *testing.T) {
	a := start(t, nil)
	peer := netip.MustParseAddr("fc94::1")
	a.mustAdd(api.WhitelistAdd{Address: peer})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := a.Connect(ctx, peer)
	if !api.IsCode(err, api.CodeTimeout) || !strings.Contains(err.Error(), "KEY --endpoint") {
		t.Errorf("a peer whose key is not known: %v", err)
	}
	if _, err := a.Ping(t.Context(), peer, 10*time.Millisecond); !api.IsCode(err, api.CodeTimeout) {
		t.Errorf("ping: %v", err)
	}
	for address, code := range map[netip.Addr]string{a.identity.Address(): api.CodeBadRequest, peer.Next(): api.CodeNotFound} {
		if _, err := a.Ping(t.Context(), address, time.Second); !api.IsCode(err, code) {
			t.Errorf("ping %s: %v", address, err)
		}
		if _, err := a.Connect(t.Context(), address); !api.IsCode(err, code) {
			t.Errorf("connect %s: %v", address, err)
		}
	}
}

func TestDown(t *testing.T) {
	stopping := make(chan struct{})
	log := &lockedBuffer{}
	opt, h := testOptions(t, log, nil)
	opt.Stopping = func() { close(stopping) }
	a := run(t, opt, h, log)
	a.mustAdd(api.WhitelistAdd{Address: netip.MustParseAddr("fc94::1"), Hostname: "robot"})
	if err := a.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := h.written(); len(got) != 0 {
		t.Errorf("names left: %v", got)
	}
	select {
	case <-stopping:
	case <-time.After(patience):
		t.Error("nobody was told that it stops")
	}
	if err := a.stop(); err != nil {
		t.Errorf("after 'hnet down': %v", err)
	}
}

// TestDeviceGone: somebody else removed hnet0; the daemon must end with an error, so that it is started again.
func TestDeviceGone(t *testing.T) {
	log := &lockedBuffer{}
	opt, h := testOptions(t, log, nil)
	n, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	h.far.Close()
	if err := n.Run(t.Context()); err == nil {
		t.Error("no error")
	}
}

func TestNotAlive(t *testing.T) {
	n := openNode(t, nil) // its loop does not run
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if n.Alive(ctx) == nil {
		t.Error("a node whose loop stands still is alive")
	}
}

// TestStrangersWithoutSession: the engine tells nobody when it lets go of a stranger that had none any more.
func TestStrangersWithoutSession(t *testing.T) {
	n := openNode(t, func(c *config.Config) { c.WhitelistEnabled = false })
	n.enrol(time.Now(), robot, false)
	n.enrol(time.Now(), robot.Next(), true)
	if err := n.WhitelistEnable(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	n.lookAt(t.Context(), n.inbox.take())
	if len(n.roster.peers) != 1 || n.roster.peers[robot.Next()] == nil || n.roster.strangers != 0 {
		t.Errorf("on the roster: %v, %d strangers", n.roster.peers, n.roster.strangers)
	}
	a := robot.Next()
	for range 3 * maxStrangers {
		a = a.Next()
		n.enrol(time.Now(), a, false)
	}
	if len(n.roster.peers) > maxStrangers+1 {
		t.Errorf("%d on the roster, %d strangers at most", len(n.roster.peers), maxStrangers)
	}
}
