package anywhere

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/recovery/skew"
	"github.com/hnet-robotics/hnet_bridge/test/recovery/traffic"
)

// The most telling of what test/recovery measures, with limits of twice its targets: the machine may be slow and busy.

const settleFor = 2 * time.Second // so that round trips are known and all Bases know both

// pair is two robots with two Bases and traffic between them.
type pair struct {
	*world
	siteA, siteB *internet.Site
	a, b         *fleet.Robot
	hostA        *internet.Host
	stream       *traffic.Stream
}

// newPair starts robots behind NATs of the kinds named, and traffic that goes by the path.
func newPair(t *testing.T, kindA, kindB internet.Kind, want api.Path) *pair {
	t.Helper()
	w := newWorld(t, "base1", "base2")
	p := &pair{world: w, siteA: w.net.Site("home", kindA), siteB: w.net.Site("plant", kindB)}
	p.a, p.hostA = w.robot(p.siteA, "robot1")
	p.b, _ = w.robot(p.siteB, "robot2")
	fleet.Trust(p.a, p.b)
	p.stream = traffic.Start(t, traffic.End{Host: p.a.Host, Addr: p.a.Address}, traffic.End{Host: p.b.Host, Addr: p.b.Address}, 20*time.Millisecond)
	pathWithin(t, p.a, p.b, 10*time.Second, want)
	pathWithin(t, p.b, p.a, 10*time.Second, want)
	if !p.stream.Flows(10 * time.Second) {
		t.Fatal("no traffic")
	}
	time.Sleep(settleFor)
	return p
}

// silentFor checks that since mark, until now at least some time later, traffic was silent for no longer than twice the target, the time set aside in which
// the machine itself stood still.
func (p *pair) silentFor(mark time.Time, watch, target time.Duration) {
	p.Helper()
	time.Sleep(watch)
	if !p.stream.Flows(2*target + 5*time.Second) {
		p.Errorf("no traffic %v later", time.Since(mark))
	}
	r := p.stream.Report(mark, time.Now())
	if limit := 2*target + 2*max(r.Pause[0], r.Pause[1]); r.Worst() > limit {
		p.Errorf("silent for %v, want %v at most", r.Worst(), limit)
	}
	p.Log(r)
}

// carrier is the Base that a robot sends through.
func (p *pair) carrier() *fleet.Base {
	p.Helper()
	peer, _ := p.a.Peer(p.b.Address)
	for _, b := range p.bases {
		if at := peer.Endpoint.Addr(); at == b.Addr4("lan0") || at == b.Addr6("lan0") {
			return b
		}
	}
	p.Fatalf("no Base carries it: %+v", peer)
	return nil
}

func TestRoamsWithAWrongClock(t *testing.T) {
	t.Parallel()
	p := newPair(t, internet.PortRestricted, internet.LinuxNATFiltered, api.PathDirect)
	if skew.Supported {
		c, err := skew.Of(p.a.Daemon.PID())
		if err == nil {
			err = c.Set(-50 * 365 * 24 * time.Hour)
		}
		if err != nil {
			t.Log("the clock stays right: ", err)
		}
	}
	cafe := p.net.Site("cafe", internet.LinuxNATFiltered)
	p.hostA.Move(p.siteA, cafe)
	mark := time.Now()
	p.silentFor(mark, 2*time.Second, 1500*time.Millisecond)
	pathWithin(t, p.a, p.b, 4*time.Second, api.PathDirect)
	pathWithin(t, p.b, p.a, 4*time.Second, api.PathDirect)
}

func TestDirectPathDies(t *testing.T) {
	t.Parallel()
	p := newPair(t, internet.LinuxNATFiltered, internet.PortRestricted, api.PathDirect)
	a, b := p.siteA.Router.Addr4("lan0").String(), p.siteB.Router.Addr4("lan0").String()
	mark := time.Now()
	p.net.Core().Rules(t, "table ip cut {\nchain forward { type filter hook forward priority filter; policy accept;\n"+
		"ip saddr "+a+" ip daddr "+b+" drop\nip saddr "+b+" ip daddr "+a+" drop\n}\n}")
	p.silentFor(mark, 4*time.Second, 5*time.Second)
	pathWithin(t, p.a, p.b, 5*time.Second, api.PathRelayUDP)
}

func TestBaseFreezes(t *testing.T) {
	t.Parallel()
	p := newPair(t, internet.Symmetric, internet.Symmetric, api.PathRelayUDP)
	frozen := p.carrier().Daemon
	t.Cleanup(func() { frozen.Signal(unix.SIGCONT) }) // so that it can end
	mark := time.Now()
	frozen.Signal(unix.SIGSTOP)
	p.silentFor(mark, 3*time.Second, 2*time.Second)
	pathWithin(t, p.a, p.b, 2*time.Second, api.PathRelayUDP)
}

func TestPeerStartsAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t, internet.PortRestricted, internet.LinuxNATFiltered, api.PathDirect)
	p.a.Daemon.Kill9()
	p.a.Restart()
	p.silentFor(time.Now(), 2*time.Second, time.Second)
	pathWithin(t, p.b, p.a, 6*time.Second, api.PathDirect)
	// Stopped for so long that the peer has given up.
	p.a.Daemon.Signal(unix.SIGSTOP)
	time.Sleep(6 * time.Second)
	p.a.Daemon.Signal(unix.SIGCONT)
	p.silentFor(time.Now(), 2*time.Second, 1500*time.Millisecond)
	pathWithin(t, p.a, p.b, 6*time.Second, api.PathDirect)
	// A direct path needs no Base.
	for _, base := range p.bases {
		base.Daemon.Kill9()
	}
	p.silentFor(time.Now(), 6*time.Second, 500*time.Millisecond)
	if peer, _ := p.a.Peer(p.b.Address); peer.Path != api.PathDirect {
		t.Errorf("the path is %s without Bases", peer.Path)
	}
}
