package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/packets"
)

const (
	registerLimit = 20 * time.Second // with a Base, UDP blocked or not
	connectLimit  = 15 * time.Second // first answer
	relayedWatch  = 4 * time.Second  // how long a pair is watched of which no direct path is expected
	guessWatch    = 20 * time.Second // the same where both sides' ports would have to be guessed
	grace         = 5 * time.Second  // a direct path that is late is still timed
	poll          = 20 * time.Millisecond

	// maxTraced is how many packets of one robot are printed.
	maxTraced = 400

	// accessDelay is what each site's access link adds each way. Robot to robot and back is 20 ms, to the Base and back 10 ms.
	accessDelay = 5 * time.Millisecond
)

var (
	logLevel = "info" // hnetd's
	trace    = false  // the robots' packets are logged where a pair is not as required
)

// Result is what came of a pair. Times count from when the second one is told to whitelist the first, both being registered with the Base.
type Result struct {
	Pair
	Connected bool
	First     time.Duration // the first answer to a ping; 0 = none
	Direct    time.Duration // direct both ways; 0 = never
	PathA     api.Path      // of A's packets, at the end
	PathB     api.Path
	NATA      string // kind of NAT, as A sees it
	NATB      string
	Trouble   string // why the pair could not be tried to the end
	Diagnosis string // what the daemon says is in the way, where the path is not direct
}

// Fail says what is wrong, and nothing if the pair is as required.
func (r Result) Fail() string {
	want := r.requirement()
	switch {
	case r.Trouble != "":
		return r.Trouble
	case !r.Connected:
		return "not connected"
	case want.Direct == 0:
		return ""
	case r.Direct == 0:
		return fmt.Sprintf("not direct within %v", want.Direct)
	case r.Direct > want.Direct:
		return fmt.Sprintf("direct only after %.1f s", r.Direct.Seconds())
	}
	return ""
}

// try runs a pair in a lab of its own. Whether the result is as required is for the caller to judge; only what keeps it from being found
// fails t.
func try(t lab.TB, p Pair, result *Result) {
	*result = Result{Pair: p, PathA: api.PathNone, PathB: api.PathNone}
	r := &lab.Recorder{TB: t}
	defer func() { result.Trouble = r.Trouble() }()
	a, b := deploy(r, p)
	var captures []*lab.Capture
	if trace {
		captures = []*lab.Capture{a.Capture(r, "lan0"), b.Capture(r, "lan0")}
	}
	a.registered(r)
	b.registered(r)
	b.trust(r, a)
	began := time.Now()
	a.trust(r, b)
	result.watch(r, a, b, began)
	result.NATA, result.NATB = a.status(r).NAT, b.status(r).NAT
	if result.Direct == 0 {
		result.Diagnosis = a.diagnose(b)
	}
	for i, c := range captures {
		if text := packets.UDP(c.Stop(), began, maxTraced, nil); result.Fail() != "" {
			r.Logf("%v: packets of robot %c\n%s", p, 'a'+i, text)
		}
	}
}

// watch times the first answer and the direct path.
func (r *Result) watch(t lab.TB, a, b *robot, began time.Time) {
	// Ends with the first answer. The second one goes on, so that there is traffic, and says nothing on its way.
	ping := a.Start(t, "ping", "-n", "-6", "-i0.1", "-c1", fmt.Sprintf("-w%d", connectLimit/time.Second), b.Address.String())
	answered := make(chan time.Duration, 1)
	go func() {
		<-ping.Done()
		if answer.MatchString(ping.Output()) {
			answered <- time.Since(began)
		}
	}()
	defer a.Start(t, "ping", "-q", "-n", "-6", "-i0.1", b.Address.String()).Stop()
	want := r.requirement()
	limit := want.Direct + grace
	switch {
	case want.Direct == 0 && symmetric(r.A) && symmetric(r.B):
		limit = guessWatch
	case want.Direct == 0:
		limit = relayedWatch
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case r.First = <-answered:
			r.Connected = true
		case <-tick.C:
		}
		since := time.Since(began)
		r.PathA, r.PathB = a.path(t, b), b.path(t, a)
		if r.Direct == 0 && direct(r.PathA) && direct(r.PathB) {
			r.Direct = since
		}
		switch {
		case r.Connected && (r.Direct != 0 || since > limit):
			return
		case since > max(limit, connectLimit):
			return
		}
	}
}

func direct(p api.Path) bool { return p == api.PathDirect || p == api.PathLAN }

// robot is one with its API at hand.
type robot struct {
	*fleet.Robot
	api *api.Client
}

// deploy builds the pair's Internet with one Base and starts everything.
func deploy(t lab.TB, p Pair) (a, b *robot) {
	t.Helper()
	l := lab.New(t)
	n := internet.New(t, l)
	host := n.Base("base1")
	var options []internet.Option
	if p.Place == sameNAT {
		options = append(options, internet.Isolated(), internet.Hairpin())
	}
	siteA := n.Site("site-a", p.A, options...)
	siteB := siteA
	switch p.Place {
	case elsewhere:
		siteB = n.Site("site-b", p.B)
	case sameCarrier:
		siteB = n.Site("site-b", p.B, internet.BehindCarrierOf(siteA))
	}
	siteA.Access.Set(lab.Link{Delay: accessDelay})
	if siteB.Access != siteA.Access {
		siteB.Access.Set(lab.Link{Delay: accessDelay})
	}
	hostA, hostB := siteA.Host("robot-a"), siteB.Host("robot-b")
	base := fleet.StartBase(t, host.Host)
	configuration := fmt.Sprintf("bases:\n  - {host: base1, address: '%s'}\nlog_level: %s\n", base.Address, logLevel)
	start := func(h *internet.Host) *robot {
		return &robot{fleet.Start(t, h.Host, configuration), api.NewClient(h.Path("/run/hnet/hnetd.sock"))}
	}
	a, b = start(hostA), start(hostB)
	t.Cleanup(a.api.Close)
	t.Cleanup(b.api.Close)
	return a, b
}

func (r *robot) status(t lab.TB) api.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	s, err := r.api.Status(ctx)
	if err != nil {
		t.Fatalf("%s: %v", r.Name(), err)
	}
	return s
}

func (r *robot) trust(t lab.TB, other *robot) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	if _, err := r.api.WhitelistAdd(ctx, api.WhitelistAdd{Address: other.Address, Hostname: other.Name()}); err != nil {
		t.Fatalf("%s: %v", r.Name(), err)
	}
}

// registered waits until a Base has registered the robot.
func (r *robot) registered(t lab.TB) {
	t.Helper()
	lab.Eventually(t, registerLimit, r.Name()+" registers with the Base", func() error {
		for _, b := range r.status(t).Bases {
			if b.State == api.BaseRegistered {
				return nil
			}
		}
		return errors.New("not registered")
	})
}

// path is that of what the robot sends to another.
func (r *robot) path(t lab.TB, to *robot) api.Path {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	peers, err := r.api.Peers(ctx)
	if err != nil {
		t.Fatalf("%s: %v", r.Name(), err)
	}
	for _, p := range peers {
		if p.Address == to.Address {
			return p.Path
		}
	}
	return api.PathNone
}

// diagnose returns what the robot says of the way to another.
func (r *robot) diagnose(to *robot) string {
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	d, err := r.api.Doctor(ctx, to.Address.String())
	if err != nil {
		return ""
	}
	return d.Cause
}
