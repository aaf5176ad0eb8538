package spdp

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
	"github.com/hnet-robotics/hnet_bridge/dds/spdp"
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/dds"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// asRelay as first argument makes this test binary the relay of the host that it runs on; the second is its address.
const asRelay = "as-relay"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == asRelay {
		os.Exit(relay(os.Args[2]))
	}
	if len(os.Args) == 5 && os.Args[1] == asAttacker {
		count, _ := strconv.Atoi(os.Args[4])
		if err := attack(netip.MustParseAddr(os.Args[2]), netip.MustParseAddr(os.Args[3]), count); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 3 && os.Args[1] == asNode {
		if err := node(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	lab.SideBySide(3)
	lab.Main(m)
}

// relay runs the relay with the whitelist of the host's own daemon.
func relay(addr string) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
	client := api.NewClient("/run/hnet/hnetd.sock")
	changed := make(chan struct{}, 1)
	go watch(ctx, client, changed)
	err := spdp.Run(ctx, spdp.Config{
		Address: netip.MustParseAddr(addr), Interface: "hnet0", Changed: changed, Log: log,
		Peers: func() (list []spdp.Peer) {
			peers, err := client.Peers(ctx)
			if err != nil {
				log.Error("no peers", "err", err)
				return nil
			}
			for _, p := range peers {
				if p.Whitelisted {
					list = append(list, spdp.Peer{Address: p.Address, Connected: reachable(p.State)})
				}
			}
			return list
		},
	})
	if err != nil {
		log.Error("relay", "err", err)
		return 1
	}
	return 0
}

// reachable leaves out only peers that do not answer: one that is idle is to be woken.
func reachable(s api.PeerState) bool { return s == api.Connected || s == api.Idle }

// watch tells of changes of the whitelist and of the peers' states.
func watch(ctx context.Context, client *api.Client, changed chan<- struct{}) {
	for ctx.Err() == nil {
		events, err := client.Subscribe(ctx)
		if err == nil {
			tell(changed) // of what happened before
			for {
				e, err := events.Next()
				if err != nil {
					break
				}
				switch e.Type {
				case api.EventPeerAdded, api.EventPeerRemoved, api.EventPeerState, api.EventWhitelist:
					tell(changed)
				}
			}
			events.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func tell(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}

const (
	cyclone = "cyclone"
	fastdds = "fastdds"
)

var vendors = []string{cyclone, fastdds}

// patience is how long anything may take on a loaded machine before a test gives up.
const patience = 40 * time.Second

var build = sync.OnceValues(func() (dds.Programs, error) { return dds.Build(context.Background()) })

func programs(t *testing.T) map[string]string {
	t.Helper()
	p, err := build()
	if errors.Is(err, dds.ErrMissing) && os.Getenv("HNET_LAB") != "required" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	return map[string]string{cyclone: p.Cyclone, fastdds: p.FastDDS}
}

// robot is a host with a daemon, a relay and profiles that name the relay alone.
type robot struct {
	*fleet.Robot
	t        *testing.T
	programs map[string]string
	relay    *lab.Process
}

func newRobot(t *testing.T, h *lab.Host) *robot {
	t.Helper()
	// The relay is a process of its own here, so that it can be started late and killed.
	r := &robot{fleet.Start(t, h, "dds: {enabled: false}\n"), t, programs(t), nil}
	r.profiles(true)
	return r
}

// profiles writes the robot's profiles: for the relay, or for this host alone.
func (r *robot) profiles(relay bool) {
	r.t.Helper()
	p := profile.Params{Interface: "hnet0", Address: r.Address, Relay: relay}
	for vendor, write := range map[string]func(profile.Params) ([]byte, error){cyclone: profile.Cyclone, fastdds: profile.FastDDS} {
		b, err := write(p)
		if err != nil {
			r.t.Fatal(err)
		}
		r.Write(profileOf(vendor), string(b))
	}
}

func profileOf(vendor string) string { return filepath.Join("/etc/hnet", vendor+".xml") }

func (r *robot) startRelay() {
	r.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	r.relay = r.Start(r.t, exe, asRelay, r.Address.String())
	r.relay.WaitLine("relay runs", patience)
}

// start starts a program that runs until it is stopped.
func (r *robot) start(vendor, mode string, domain int, args ...string) *lab.Process {
	r.t.Helper()
	return r.startNamed(r.Name()+"-"+vendor, vendor, mode, domain, args...)
}

func (r *robot) startNamed(name, vendor, mode string, domain int, args ...string) *lab.Process {
	r.t.Helper()
	args = append([]string{mode, "--name", name, "--domain", fmt.Sprint(domain), "--count", "0"}, args...)
	cmd := r.Command(context.Background(), r.programs[vendor], args...)
	cmd.Env = append(os.Environ(), "CYCLONEDDS_URI=file://"+profileOf(cyclone),
		"FASTRTPS_DEFAULT_PROFILES_FILE="+profileOf(fastdds), "FASTDDS_DEFAULT_PROFILES_FILE="+profileOf(fastdds))
	p := r.StartCmd(r.t, cmd)
	p.WaitLine(`^ready$`, patience)
	return p
}

func name(r *robot, vendor string) string { return r.Name() + "-" + vendor }

// heard waits until a program has received from all the senders.
func heard(t *testing.T, p *lab.Process, senders ...string) {
	t.Helper()
	lab.Eventually(t, patience, strings.Join(senders, ", ")+" heard", func() error {
		n := received(p)
		for _, s := range senders {
			if n[s] == 0 {
				return fmt.Errorf("nothing from %s", s)
			}
		}
		return nil
	})
}

// matched waits until a program knows as many remote endpoints, and no other number any more.
func matched(t *testing.T, p *lab.Process, n int) {
	t.Helper()
	lab.Eventually(t, patience, fmt.Sprintf("%d remote endpoints", n), func() error {
		if now := matches(p); now != n {
			return fmt.Errorf("there are %d", now)
		}
		return nil
	})
}

// matches is how many remote endpoints a program knows.
func matches(p *lab.Process) (n int) {
	for line := range lines(p) {
		var now int
		if _, err := fmt.Sscanf(line, "matched %d", &now); err == nil {
			n = now
		}
	}
	return n
}

func lines(p *lab.Process) iter.Seq[string] { return strings.Lines(p.Output()) }

func robots(t *testing.T, n int) (list []*robot) {
	t.Helper()
	programs(t)
	l := lab.New(t)
	var parts []lab.Part
	var hosts []*lab.Host
	for i := range n {
		h := l.Host(fmt.Sprintf("robot%d", i+1))
		hosts, parts = append(hosts, h), append(parts, h)
	}
	l.LAN(lab.Link{}, parts...)
	for _, h := range hosts {
		list = append(list, newRobot(t, h))
	}
	return list
}

func trust(robots ...*robot) {
	var list []*fleet.Robot
	for _, r := range robots {
		list = append(list, r.Robot)
	}
	fleet.Trust(list...)
}

// TestFleet is the relay's whole job with real libraries: two robots, then a third, then without it.
func TestFleet(t *testing.T) {
	list := robots(t, 3)
	a, b, c := list[0], list[1], list[2]
	trust(a, b)
	running := map[string]*lab.Process{}
	start := func(r *robot) {
		for _, v := range vendors {
			running[name(r, v)] = r.start(v, "both", 7, "--rate", "10")
		}
	}
	everybody := func(when string) {
		t.Helper()
		began := time.Now()
		for who, p := range running {
			var others []string
			for other := range running {
				if other != who {
					others = append(others, other)
				}
			}
			heard(t, p, others...)
		}
		t.Logf("%s: all %d programs heard all others after %v", when, len(running), time.Since(began).Round(time.Millisecond))
	}
	start(a) // before any relay
	a.startRelay()
	b.startRelay()
	start(b) // and after
	everybody("two robots")

	c.startRelay()
	start(c)
	trust(a, b, c)
	everybody("a third")

	// The relay is for acquaintances alone: nobody is lost by its restart.
	for _, p := range running {
		matched(t, p, 5)
	}
	changes := map[string]int{}
	for who, p := range running {
		changes[who] = strings.Count(p.Output(), "matched")
	}
	a.relay.Kill9()
	a.startRelay()
	late := a.startNamed("late", cyclone, "pub", 7, "--rate", "10")
	for who, p := range running {
		heard(t, p, "late")
		if strings.Count(p.Output(), "matched") != changes[who] {
			t.Errorf("%s lost somebody when a relay started anew: %s", who, p.Output())
		}
	}
	late.Stop()

	// A program is killed, without a word.
	victim := name(b, fastdds)
	running[victim].Kill9()
	began := time.Now()
	delete(running, victim)
	for _, p := range running {
		matched(t, p, 4)
	}
	notLater(t, "a killed program gone", began)
	running[victim] = b.start(fastdds, "both", 7, "--rate", "10")
	everybody("a restarted program")

	// Off the whitelist, the third is gone at once, and on it again it is back.
	a.Hnet("whitelist", "rm", c.Address.String())
	b.Hnet("whitelist", "rm", c.Address.String())
	began = time.Now()
	for _, r := range []*robot{a, b} {
		for _, v := range vendors {
			matched(t, running[name(r, v)], 3)
		}
	}
	notLater(t, "the third gone", began)
	trust(a, b, c)
	for _, p := range running {
		matched(t, p, 5)
	}
	// Its own programs may never have noticed; data flows again all the same.
	more(t, running)
}

// TestRunning is with programs that know nothing of any relay, and run before there is one: they are asked.
func TestRunning(t *testing.T) {
	list := robots(t, 2)
	a, b := list[0], list[1]
	trust(a, b)
	running := map[string]*lab.Process{}
	for i, r := range list {
		r.profiles(false)
		for _, v := range vendors {
			running[name(r, v)] = r.start(v, "both", 3, "--rate", "10")
		}
		for _, p := range running {
			if i == 0 {
				matched(t, p, 1)
			}
		}
	}
	began := time.Now()
	a.startRelay()
	b.startRelay()
	for who, p := range running {
		for other := range running {
			if other != who {
				heard(t, p, other)
			}
		}
	}
	t.Logf("all heard all %v after the relays' start", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	running[name(b, cyclone)].Kill9()
	running[name(b, fastdds)].Kill9()
	matched(t, running[name(a, cyclone)], 1)
	matched(t, running[name(a, fastdds)], 1)
	notLater(t, "killed programs gone", began)
}

// more waits until every program has received from every other once more.
func more(t *testing.T, running map[string]*lab.Process) {
	t.Helper()
	began := time.Now()
	for who, p := range running {
		before := received(p)
		lab.Eventually(t, patience, "more of everybody at "+who, func() error {
			now := received(p)
			for other := range running {
				if other != who && now[other] == before[other] {
					return fmt.Errorf("nothing more from %s", other)
				}
			}
			return nil
		})
	}
	t.Logf("everybody hears everybody again after %v", time.Since(began).Round(time.Millisecond))
}

// received counts the samples by sender.
func received(p *lab.Process) map[string]int {
	n := map[string]int{}
	for line := range strings.Lines(p.Output()) {
		var name string
		var seq, size int
		if _, err := fmt.Sscanf(line, "received %s %d %d", &name, &seq, &size); err == nil {
			n[name]++
		}
	}
	return n
}

// soon is what tells at once from after a lease, the shortest of which is 10 s.
const soon = 8 * time.Second

func notLater(t *testing.T, what string, began time.Time) {
	t.Helper()
	took := time.Since(began).Round(time.Millisecond)
	t.Logf("%s after %v", what, took)
	if took > soon {
		t.Errorf("%s after %v, which is as long as a lease", what, took)
	}
}
