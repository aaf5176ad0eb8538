package node

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/host"
)

// testRange is one that no machine of tests has.
var testRange = netip.MustParsePrefix("10.219.113.0/24")

func withIPv4(c *config.Config) { c.IPv4 = config.IPv4{Range: testRange} }

func (h *fakeHost) inet4() host.IPv4Spec {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ipv4
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("it does not come to this: " + what)
		}
	}
}

func TestIPv4(t *testing.T) {
	a, b := start(t, withIPv4), start(t, withIPv4)
	// The address is there when the node is ready.
	s := a.host.inet4()
	if !testRange.Contains(a.IPv4()) || s.Address != netip.PrefixFrom(a.IPv4(), 24) || !s.RouteRange || len(s.Peers) != 0 {
		t.Fatalf("own %v, hnet0 has %+v", a.IPv4(), s)
	}
	if status, err := a.Status(t.Context()); err != nil || status.IPv4 != a.IPv4() {
		t.Errorf("status says %v, %v", status.IPv4, err)
	}
	trust(a, b)
	for _, x := range [][2]*running{{a, b}, {b, a}} {
		me, other := x[0], x[1]
		me.await("the peer's IPv4 address", func(e api.Event) bool {
			return e.Type == api.EventIPv4 && e.Peer != nil && e.Peer.Address == other.identity.Address() && e.Detail == other.IPv4().String()
		})
		eventually(t, "hnet0 has the peer's route", func() bool {
			return slices.ContainsFunc(me.host.inet4().Peers, func(p host.IPv4Peer) bool { return p.Address == other.IPv4() })
		})
		if p := me.apiPeer(other.identity.Address()); p.IPv4 != other.IPv4() {
			t.Errorf("the API says %v, not %v", p.IPv4, other.IPv4())
		}
	}

	// Both addresses are known after a restart, before there is contact.
	own, theirs := a.IPv4(), b.IPv4()
	eventually(t, "the addresses are stored", func() bool {
		content, _ := os.ReadFile(a.state("inet4.json"))
		return strings.Contains(string(content), strconv.Quote(theirs.String()))
	})
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	again := run(t, a.opt, a.host, a.log)
	if again.IPv4() != own || again.ipv4Of(b.identity.Address()) != theirs {
		t.Errorf("after a restart own %v, the peer's %v; before %v and %v", again.IPv4(), again.ipv4Of(b.identity.Address()), own, theirs)
	}
	// A peer that leaves the whitelist takes its address along.
	if _, err := again.WhitelistRemove(t.Context(), b.identity.Address()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the peer's address is gone", func() bool {
		content, _ := os.ReadFile(a.state("inet4.json"))
		return !again.ipv4Of(b.identity.Address()).IsValid() && len(a.host.inet4().Peers) == 0 && !strings.Contains(string(content), strconv.Quote(theirs.String()))
	})
}

func TestIPv4DamagedState(t *testing.T) {
	log := &lockedBuffer{}
	opt, h := testOptions(t, log, withIPv4)
	if err := os.MkdirAll(opt.Paths.State, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(opt.Paths.State+"/inet4.json", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, opt, h, log)
	if !testRange.Contains(r.IPv4()) {
		t.Errorf("own address %v", r.IPv4())
	}
	if !strings.Contains(log.String(), "IPv4 addresses of the last run are not known") {
		t.Errorf("nothing said so:\n%s", log)
	}
}

func TestIPv4Off(t *testing.T) {
	log := &lockedBuffer{}
	opt, h := testOptions(t, log, nil)
	h.ipv4 = host.IPv4Spec{Address: netip.MustParsePrefix("10.219.113.7/24")} // of an earlier run
	r := run(t, opt, h, log)
	if r.IPv4().IsValid() || h.inet4().Address.IsValid() {
		t.Errorf("own %v, hnet0 has %v", r.IPv4(), h.inet4().Address)
	}
	if _, err := os.Stat(r.state("inet4.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a state file without need: %v", err)
	}
	// A peer that has IPv4 learns that this one has not.
	other := start(t, withIPv4)
	trust(other, r)
	other.awaitUp(r.identity.Address())
	if other.ipv4Of(r.identity.Address()).IsValid() || len(other.warnings.List()) > 1 {
		t.Errorf("it has %v for it, and warns of %v", other.ipv4Of(r.identity.Address()), other.warnings.List())
	}
}

func TestIPv4DeviceRefuses(t *testing.T) {
	log := &lockedBuffer{}
	opt, h := testOptions(t, log, withIPv4)
	h.ipv4Error = syscall.EPERM
	r := run(t, opt, h, log)
	has := func() bool {
		return slices.ContainsFunc(r.warnings.List(), func(w health.Warning) bool { return w.Code == health.IPv4Device && w.Fix != "" })
	}
	if !has() {
		t.Errorf("no warning: %v", r.warnings.List())
	}
	h.mu.Lock()
	h.ipv4Error = nil
	h.mu.Unlock()
	r.ipv4.linksChanged()
	eventually(t, "the warning goes", func() bool { return !has() })
}
