package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/recovery/skew"
)

// The targets of field-notes: traffic again after losing the network, through a Base; the direct path again; after a path or a Base has died
// silently; a restarted daemon; a wrong clock.
const (
	byBase      = 1500 * time.Millisecond
	byDirect    = 3 * time.Second
	pathDies    = 5 * time.Second
	baseDies    = 2 * time.Second
	restarts    = time.Second
	clockLeaps  = 3 * time.Second
	downFor     = 5 * time.Second
	settleAfter = 1500 * time.Millisecond // that a run goes on when the row's path is reached
)

// Row is one thing that happens.
type Row struct {
	What string
	A, B internet.Kind // where the robots are
	// Spare is a second site that robot A can go to; none if empty.
	Spare internet.Kind
	Bases int      // 0 = 2
	Start api.Path // of the traffic before

	Silence time.Duration // the longest silence may take so long; 0 = does not matter
	NoLoss  bool          // not a datagram may be lost
	Path    api.Path      // both robots' packets must take it at the end, with TCP robot A's; empty: any
	Within  time.Duration // so long after; 0 = within the watch
	Watch   time.Duration // the run goes on for so long at least
	Limit   time.Duration // and at most, while Path is not reached; 0 = 15 s
	Counted string        // from when times count, if not from when it happens
	Clock   bool          // needs another clock than the machine's

	Prepare func(w *world, a *internet.Host) // before the daemons start
	// Seen tells something more of how it is in the end.
	Seen func(w *world) string
	// Cause is why a row fails that is known to.
	Cause string
	// Do makes it happen, and returns when traffic was possible again; the zero time: at once.
	Do func(w *world) time.Time
}

func (r *Row) bases() int {
	if r.Bases == 0 {
		return 2
	}
	return r.Bases
}

func (r *Row) limit() time.Duration {
	if r.Limit == 0 {
		return max(15*time.Second, r.Watch)
	}
	return r.Limit
}

// carrier is the Base that robot A sends through.
func (w *world) carrier() *fleet.Base {
	w.Helper()
	leg := w.a.log.last()
	for _, b := range w.bases {
		if b.Name() == leg.via {
			return b
		}
	}
	w.Fatalf("robot A sends by %v, not through a Base", leg)
	return nil
}

// cutDirect drops all that the sites send each other, or only what A's sends, without a sign. The Bases are still reached.
func (w *world) cutDirect(bothWays bool) {
	w.Helper()
	a, b := w.siteA.Router.Addr4("lan0"), w.siteB.Router.Addr4("lan0")
	rules := fmt.Sprintf("table ip cut {\nchain forward { type filter hook forward priority filter; policy accept;\nip saddr %s ip daddr %s drop\n", a, b)
	if bothWays {
		rules += fmt.Sprintf("ip saddr %s ip daddr %s drop\n", b, a)
	}
	w.net.Core().Rules(w, rules+"}\n}")
}

func stopFor(d time.Duration) func(w *world) time.Time {
	return func(w *world) time.Time {
		w.a.Daemon.Signal(unix.SIGSTOP)
		time.Sleep(d)
		now := time.Now()
		w.a.Daemon.Signal(unix.SIGCONT)
		return now
	}
}

func killAndRestart(w *world) time.Time {
	w.a.Daemon.Kill9()
	w.a.Restart()
	return time.Now()
}

const (
	direct  = api.PathDirect
	relayed = api.PathRelayUDP
	byTCP   = api.PathRelayTCP
)

// rows are all of them. A suspend lasts as long as given.
func rows(suspend time.Duration) []Row {
	const (
		cone   = internet.PortRestricted
		linux  = internet.LinuxNATFiltered
		random = internet.Symmetric
	)
	roam := func(w *world) time.Time { w.a.host.Move(w.siteA, w.spare); return time.Now() }
	attached := "the new network's address and route are there"
	ready := "the daemon says that it is ready"
	continued := "it goes on"
	clock := func(what string, do func(w *world) time.Time, counted string) Row {
		return Row{What: what, A: cone, B: linux, Spare: linux, Start: direct, Silence: clockLeaps, Path: direct, Within: byDirect + 2*time.Second,
			Watch: 6 * time.Second, Counted: counted, Clock: true, Do: do}
	}
	second := func(w *world, a *internet.Host) { a.Connect(w.spare) }
	return []Row{
		{What: "Roams to another network: its address changes", A: cone, B: linux, Spare: linux, Start: direct,
			Silence: byBase, Path: direct, Within: byDirect, Watch: 5 * time.Second, Counted: attached, Do: roam},
		{What: "Roams where only a Base can carry it", A: random, B: random, Spare: random, Start: relayed,
			Silence: byBase, Path: relayed, Watch: 6 * time.Second, Counted: attached, Do: roam},
		{What: "Wi-Fi to LTE: the first of two uplinks loses its carrier", A: cone, B: linux, Spare: internet.DoubleNAT, Start: direct,
			Silence: byBase, Path: direct, Within: byDirect, Watch: 5 * time.Second, Prepare: second, Seen: uplink,
			Do: func(w *world) time.Time { w.a.host.Unplug(w.siteA); return time.Now() }},
		{What: "LTE to Wi-Fi: the first uplink is back", A: cone, B: linux, Spare: internet.DoubleNAT, Start: direct,
			Silence: byBase, Path: direct, Within: byDirect, Watch: 5 * time.Second,
			Prepare: func(w *world, a *internet.Host) { a.Connect(w.spare); a.Unplug(w.siteA) }, Seen: uplink,
			Do: func(w *world) time.Time { w.a.host.Plug(w.siteA); return time.Now() }},
		{What: "Interface down for 5 s, then up", A: cone, B: linux, Start: direct,
			Silence: byBase, Path: direct, Within: byDirect, Watch: 5 * time.Second, Counted: "the interface is up",
			Do: func(w *world) time.Time {
				dev := w.a.host.Device(nil)
				w.a.LinkDown(dev)
				time.Sleep(downFor)
				w.a.LinkUp(dev)
				return time.Now()
			}},
		{What: "NAT forgets all mappings (user-space NAT)", A: cone, B: linux, Start: direct,
			Silence: pathDies, Path: direct, Watch: 8 * time.Second, Do: rebind},
		{What: "NAT forgets all mappings (kernel NAT)", A: linux, B: cone, Start: direct,
			Silence: pathDies, Path: direct, Watch: 8 * time.Second, Do: rebind},
		{What: "NAT forgets all mappings, relayed", A: random, B: random, Start: relayed,
			Silence: baseDies, Path: relayed, Watch: 8 * time.Second, Do: rebind},
		{What: "Direct path dies silently, both ways", A: cone, B: linux, Start: direct,
			Silence: pathDies, Path: relayed, Watch: 10 * time.Second, Do: func(w *world) time.Time { w.cutDirect(true); return time.Time{} }},
		{What: "Direct path dies silently, one way", A: cone, B: linux, Start: direct,
			Silence: pathDies, Watch: 10 * time.Second, Do: func(w *world) time.Time { w.cutDirect(false); return time.Time{} }},
		{What: "All UDP is blocked", A: linux, B: cone, Start: direct,
			Silence: pathDies, Path: byTCP, Watch: 10 * time.Second, Limit: 30 * time.Second,
			Do: func(w *world) time.Time { w.udp(false); return time.Time{} }},
		{What: "TCP alone gets out, then UDP does", A: internet.UDPBlocked, B: cone, Start: byTCP,
			Silence: byBase, Path: direct, Watch: 5 * time.Second, Limit: 60 * time.Second,
			Do: func(w *world) time.Time { w.udp(true); return time.Time{} }},
		{What: "Base killed", A: random, B: random, Start: relayed, Silence: baseDies, Path: relayed, Watch: 8 * time.Second,
			Do: func(w *world) time.Time { w.carrier().Daemon.Kill9(); return time.Time{} }},
		{What: "Base frozen (SIGSTOP)", A: random, B: random, Start: relayed, Silence: baseDies, Path: relayed, Watch: 8 * time.Second,
			Do: func(w *world) time.Time {
				d := w.carrier().Daemon
				d.Signal(unix.SIGSTOP)
				w.Cleanup(func() { d.Signal(unix.SIGCONT) }) // so that it can end
				return time.Time{}
			}},
		{What: "Base told to end (SIGTERM)", A: random, B: random, Start: relayed, NoLoss: true, Path: relayed, Watch: 10 * time.Second,
			Do: func(w *world) time.Time { w.carrier().Daemon.Signal(unix.SIGTERM); return time.Time{} }},
		{What: "The only Base killed and started again", A: random, B: random, Start: relayed, Bases: 1, Silence: baseDies, Path: relayed,
			Watch: 8 * time.Second, Counted: "the Base says that it is ready",
			Do: func(w *world) time.Time {
				b := w.carrier()
				b.Daemon.Kill9()
				b.Restart()
				return time.Now()
			}},
		{What: "All Bases gone", A: cone, B: linux, Start: direct, NoLoss: true, Path: direct, Watch: 20 * time.Second,
			Do: func(w *world) time.Time {
				for _, b := range w.bases {
					b.Daemon.Kill9()
				}
				return time.Time{}
			}},
		{What: "Peer's daemon killed (SIGKILL) and started again", A: cone, B: linux, Start: direct,
			Silence: restarts, Path: direct, Within: byDirect, Watch: 5 * time.Second, Counted: ready, Do: killAndRestart},
		{What: "Peer's daemon killed and started again, relayed", A: random, B: random, Start: relayed,
			Silence: restarts, Path: relayed, Watch: 5 * time.Second, Counted: ready, Do: killAndRestart},
		clock("Clock set back by 50 years under the daemon, which roams 2 s later", clockLeap(-fiftyYears), ""),
		clock("Clock set forward by 50 years under the daemon, which roams 2 s later", clockLeap(fiftyYears), ""),
		clock("Started again with its clock 50 years back", func(w *world) time.Time { w.restartAt(-fiftyYears); return time.Now() }, ready),
		clock("Started again with its clock right, after it was 50 years ahead", func(w *world) time.Time {
			w.restartAt(fiftyYears)
			w.flows()
			time.Sleep(settleFor)
			w.began = time.Now()
			w.a.Daemon.Kill9()
			w.a.Restart()
			return time.Now()
		}, ready),
		{What: "Started again with its clock 50 years back where TCP alone gets out", A: internet.UDPBlocked, B: cone, Start: byTCP, Clock: true,
			Silence: clockLeaps, Path: byTCP, Watch: 5 * time.Second, Counted: ready,
			Do: func(w *world) time.Time { w.restartAt(-fiftyYears); return time.Now() }},
		{What: "Uplink silent for 30 s", A: cone, B: linux, Start: direct,
			Path: direct, Watch: 8 * time.Second, Limit: 60 * time.Second, Counted: "it passes packets again", Do: outage},
		{What: "Uplink silent for 30 s, relayed", A: random, B: random, Start: relayed,
			Path: relayed, Watch: 8 * time.Second, Limit: 60 * time.Second, Counted: "it passes packets again", Do: outage},
		{What: "All Bases gone for 30 s, relayed", A: random, B: random, Start: relayed,
			Path: relayed, Watch: 8 * time.Second, Limit: 90 * time.Second, Counted: "the Bases say that they are ready",
			Do: func(w *world) time.Time {
				for _, b := range w.bases {
					b.Daemon.Kill9()
				}
				time.Sleep(30 * time.Second)
				for _, b := range w.bases {
					b.Restart()
				}
				return time.Now()
			}},
		{What: "Both roam at once", A: cone, B: linux, Spare: linux, Start: direct,
			Silence: byBase, Path: direct, Within: byDirect, Watch: 5 * time.Second, Counted: attached,
			Prepare: func(w *world, _ *internet.Host) { w.spareB = w.site("hotel", cone) },
			Do: func(w *world) time.Time {
				w.a.host.Move(w.siteA, w.spare)
				w.b.host.Move(w.siteB, w.spareB)
				return time.Now()
			}},
		{What: "Daemon stopped for 30 s (SIGSTOP, SIGCONT)", A: cone, B: linux, Start: direct,
			Silence: byBase, Path: direct, Within: byDirect, Watch: 5 * time.Second, Counted: continued, Do: stopFor(30 * time.Second)},
		{What: fmt.Sprintf("Suspended for %v (SIGSTOP, SIGCONT of the daemon)", suspend), A: cone, B: linux, Start: direct,
			Silence: byBase, Path: direct, Within: byDirect, Watch: 5 * time.Second, Counted: continued, Do: stopFor(suspend)},
	}
}

const fiftyYears = 50 * 365 * 24 * time.Hour

// setClock sets the clock of robot A's daemon, which runs on.
func (w *world) setClock(ahead time.Duration) {
	w.Helper()
	c, err := skew.Of(w.a.Daemon.PID())
	if err == nil {
		err = c.Set(ahead)
	}
	if err != nil {
		w.Fatalf("%v", err)
	}
}

// restartAt kills robot A's daemon and starts it with a wrong clock.
func (w *world) restartAt(ahead time.Duration) {
	w.Helper()
	w.a.Daemon.Kill9()
	args, err := skew.Command(ahead, fleet.Binary(w, "hnetd"))
	if err != nil {
		w.Fatalf("%v", err)
	}
	w.a.Daemon = w.a.Start(w, args[0], args[1:]...)
	w.a.Hnet("wait", "daemon", "--timeout", fleet.ReadyTimeout.String())
	w.a.Daemon.WaitLine(fmt.Sprintf("^time=%d-", time.Now().Add(ahead).Year()), fleet.ReadyTimeout) // it does believe that
}

func (w *world) flows() {
	w.Helper()
	if !w.stream.Flows(startLimit) {
		w.Fatalf("no traffic any more")
	}
}

// clockLeap sets the clock under the running daemon. A while later the robot roams: its record and its handshakes must still count as new.
func clockLeap(ahead time.Duration) func(w *world) time.Time {
	return func(w *world) time.Time {
		w.setClock(ahead)
		time.Sleep(2 * time.Second)
		w.a.host.Move(w.siteA, w.spare)
		return w.began // all of it counts
	}
}

// uplink tells by which uplink robot A's packets leave.
func uplink(w *world) string {
	w.Helper()
	sent := func(s *internet.Site) uint64 {
		link, err := w.a.Netlink().LinkByName(w.a.host.Device(s))
		if err != nil {
			w.Fatalf("%v", err)
		}
		return link.Attrs().Statistics.TxPackets
	}
	wifi, lte := sent(w.siteA), sent(w.spare)
	time.Sleep(time.Second)
	if sent(w.siteA)-wifi > sent(w.spare)-lte {
		return "then by Wi-Fi"
	}
	return "then by LTE"
}

// outage is a silent one of all that robot A has, as in a radio's dead spot.
func outage(w *world) time.Time {
	w.siteA.Access.Cut(w.siteA.Router)
	time.Sleep(30 * time.Second)
	w.siteA.Access.Restore(w.siteA.Router)
	return time.Now()
}

func rebind(w *world) time.Time {
	w.siteA.Rebind()
	return time.Time{}
}

// udp makes robot A's router, a kernel NAT, forward UDP or not.
func (w *world) udp(passes bool) {
	w.Helper()
	w.siteA.Router.Rules(w, internet.Ruleset{Outer: "lan0", Masquerade: true, DropInput: true, DropUDP: !passes}.String())
}
