package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/recovery/traffic"
)

const (
	accessDelay = 5 * time.Millisecond // each way, of a site; so 20 ms of round trip between robots
	interval    = 10 * time.Millisecond
	startLimit  = 30 * time.Second
	settleFor   = 3 * time.Second // so that round trips are known and all Bases' records are exchanged
	poll        = 20 * time.Millisecond
)

// world is what one run of a row has: an Internet with Bases, two robots at sites of their own, and traffic between them.
type world struct {
	lab.TB
	net          *internet.Net
	bases        []*fleet.Base
	siteA, siteB *internet.Site
	spare        *internet.Site // where robot A can go
	spareB       *internet.Site // where robot B can go
	a, b         *robot
	stream       *traffic.Stream
	began        time.Time // when what the row is about began
}

// robot is one with its API at hand.
type robot struct {
	*fleet.Robot
	host *internet.Host
	api  *api.Client
	w    *world
	log  *legs
}

// leg is the way of a robot's packets from some time on.
type leg struct {
	at   time.Time
	path api.Path
	via  string // the peer's endpoint, or the Base's name
}

func (l leg) String() string {
	if l.path == api.PathRelayUDP || l.path == api.PathRelayTCP {
		kind := "relay "
		if l.path == api.PathRelayTCP {
			kind = "TCP relay "
		}
		return kind + l.via
	}
	return string(l.path)
}

// legs is the history of a robot's path.
type legs struct {
	mu  sync.Mutex
	all []leg
}

func (l *legs) add(x leg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.all); n == 0 || l.all[n-1].path != x.path || l.all[n-1].via != x.via {
		l.all = append(l.all, x)
	}
}

func (l *legs) last() leg {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return leg{path: api.PathNone}
	}
	return l.all[len(l.all)-1]
}

// since returns the leg at a time and all later ones.
func (l *legs) since(t time.Time) []leg {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := 0
	for i, x := range l.all {
		if !x.at.After(t) {
			from = i
		}
	}
	return append([]leg(nil), l.all[from:]...)
}

// deploy builds everything up to the traffic, which runs by the path that the row begins with.
func deploy(t lab.TB, r *Row) *world {
	t.Helper()
	w := &world{TB: t, net: internet.New(t, lab.New(t))}
	names := []string{"base1", "base2"}[:r.bases()]
	var config strings.Builder
	config.WriteString("bases:\n")
	for _, name := range names {
		b := fleet.StartBase(t, w.net.Base(name).Host)
		w.bases = append(w.bases, b)
		config.WriteString(b.Entry(name))
	}
	fmt.Fprintf(&config, "log_level: %s\n", logLevel)
	w.siteA, w.siteB = w.site("home", r.A), w.site("plant", r.B)
	if r.Spare != "" {
		w.spare = w.site("cafe", r.Spare)
	}
	hostA, hostB := w.siteA.Host("robot-a"), w.siteB.Host("robot-b")
	if r.Prepare != nil {
		r.Prepare(w, hostA)
	}
	w.a, w.b = w.start(hostA, config.String()), w.start(hostB, config.String())
	for _, x := range []*robot{w.a, w.b} {
		lab.Eventually(t, startLimit, x.Name()+" registers with its Bases", func() error { return x.registered(len(w.bases)) })
	}
	w.b.trust(w.a)
	w.a.trust(w.b)
	w.a.watch(w.b)
	w.b.watch(w.a)
	w.stream = traffic.Start(t, traffic.End{Host: w.a.Host, Addr: w.a.Address}, traffic.End{Host: w.b.Host, Addr: w.b.Address}, interval)
	lab.Eventually(t, startLimit, "traffic by "+string(r.Start), func() error {
		for _, x := range w.on(r.Start) {
			if l := x.log.last(); l.path != r.Start {
				return fmt.Errorf("%s sends by %v", x.Name(), l)
			}
		}
		return nil
	})
	if !w.stream.Flows(startLimit) {
		t.Fatalf("no traffic")
	}
	time.Sleep(settleFor)
	for _, x := range w.on(r.Start) {
		if l := x.log.last(); l.path != r.Start {
			t.Fatalf("the path did not stay as it was: %s sends by %v", x.Name(), l)
		}
	}
	return w
}

// on are the robots that a path is meant for: TCP is what robot A alone is confined to.
func (w *world) on(p api.Path) []*robot {
	if p == api.PathRelayTCP {
		return []*robot{w.a}
	}
	return []*robot{w.a, w.b}
}

func (w *world) site(name string, k internet.Kind) *internet.Site {
	w.Helper()
	s := w.net.Site(name, k)
	s.Access.Set(lab.Link{Delay: accessDelay})
	return s
}

func (w *world) start(h *internet.Host, config string) *robot {
	w.Helper()
	r := &robot{Robot: fleet.Start(w.TB, h.Host, config), host: h, api: api.NewClient(h.Path("/run/hnet/hnetd.sock")), w: w, log: &legs{}}
	w.Cleanup(r.api.Close)
	return r
}

func (r *robot) registered(want int) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	s, err := r.api.Status(ctx)
	if err != nil {
		return err
	}
	for _, b := range s.Bases {
		if b.State == api.BaseRegistered {
			want--
		}
	}
	if want > 0 {
		return errors.New("not registered")
	}
	return nil
}

func (r *robot) trust(other *robot) {
	r.w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if _, err := r.api.WhitelistAdd(ctx, api.WhitelistAdd{Address: other.Address, Hostname: other.Name()}); err != nil {
		r.w.Fatalf("%s: %v", r.Name(), err)
	}
}

// watch keeps the history of the robot's path to another until the end of the run. While the daemon does not answer it stays as it was.
func (r *robot) watch(other *robot) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	r.w.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		tick := time.NewTicker(poll)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			call, end := context.WithTimeout(ctx, time.Second)
			peers, err := r.api.Peers(call)
			end()
			if err != nil {
				continue
			}
			for _, p := range peers {
				if p.Address == other.Address {
					r.log.add(leg{time.Now(), p.Path, r.w.via(p)})
				}
			}
		}
	}()
}

// via names what a peer's endpoint is.
func (w *world) via(p api.Peer) string {
	if p.Path != api.PathRelayUDP && p.Path != api.PathRelayTCP {
		return p.Endpoint.String()
	}
	for _, b := range w.bases {
		if host := p.Endpoint.Addr(); host == b.Addr4("lan0") || host == b.Addr6("lan0") {
			return b.Name()
		}
	}
	return p.Endpoint.String()
}
