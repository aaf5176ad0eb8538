package portmap

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

const (
	// asked is the lifetime that is asked for; a router may grant less. longest is what is believed of what it grants.
	asked    = 2 * time.Hour
	longest  = 24 * time.Hour
	shortest = time.Minute

	// checkEvery is how often a router is asked, between renewals, whether it still knows: one that restarted behind a
	// switch takes no carrier away, and its announcement may be lost.
	checkEvery = 15 * time.Minute

	// Without an answer the next question comes after retryFirst, then twice that, up to retryLast.
	retryFirst = 15 * time.Second
	retryLast  = 15 * time.Minute
	retryRare  = time.Hour // with Config.Rare, from the third failure on

	// lookGap and hintGap are the least time between questions that changes of links and announcements lead to.
	lookGap = time.Minute
	hintGap = 2 * time.Second

	// hintSpread is within what time the hosts behind a router answer its announcement.
	hintSpread = 500 * time.Millisecond

	// silences is after how many unanswered questions in a row a mapping is given up before its time.
	silences = 3

	never = 365 * 24 * time.Hour
)

// grant is what a router promised.
type grant struct {
	protocol string
	internal uint16
	external netip.AddrPort
	lifetime time.Duration // 0 = until removed
	epoch    uint32
	timed    bool // epoch is known
}

// outcome is an [Answer] without its gateway.
type outcome struct {
	protocol string
	result   Result
	why      string
}

// hands do what a worker decides, and remember what it takes to undo it. An error that is a refusal is the router's word;
// any other is the lack of one.
type hands interface {
	// find maps by the first protocol that does.
	find(ctx context.Context, port uint16, suggest netip.AddrPort) (grant, []outcome, error)
	// renew maps again what find mapped.
	renew(ctx context.Context, held grant) (grant, error)
	// check asks whether the mapping is still there, as cheaply as the protocol can. It returns the router's epoch with
	// timed, or a refusal if the mapping must be made anew.
	check(ctx context.Context, held grant) (epoch uint32, timed bool, err error)
	// clear removes all that was or may have been mapped.
	clear(ctx context.Context)
}

// worker keeps the port mapped on one gateway.
type worker struct {
	gateway Gateway
	hands   hands
	port    func() uint16
	log     *slog.Logger
	changed func()
	rare    bool // failures are repeated rarely
	cancel  context.CancelFunc
	done    chan struct{}
	looks   chan struct{}
	epochs  chan uint32

	// Of the goroutine alone.
	held     bool
	epoch    epoch
	last     time.Time // of the last question
	next     time.Time // of the next
	renewAt  time.Time
	expires  time.Time
	failures int    // unanswered or refused, in a row
	tried    uint16 // the port of the last question
	jitter   func() float64

	mu       sync.Mutex
	grant    grant // valid if shown
	shown    bool
	outcomes []outcome
}

func newWorker(g Gateway, h hands, port func() uint16, log *slog.Logger, changed func()) *worker {
	return &worker{gateway: g, hands: h, port: port, log: log, changed: changed, done: make(chan struct{}),
		looks: make(chan struct{}, 1), epochs: make(chan uint32, 4), jitter: rand.Float64, cancel: func() {}}
}

// look tells that something changed around.
func (w *worker) look() {
	select {
	case w.looks <- struct{}{}:
	default:
	}
}

// hear takes an announcement of the router's clock, which anybody may have forged: it can lead to a question, no more.
func (w *worker) hear(epoch uint32) {
	select {
	case w.epochs <- epoch:
	default:
	}
}

func (w *worker) mapping() (Mapping, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.grant
	return Mapping{Protocol: g.protocol, Internal: g.internal, External: g.external, Gateway: w.gateway.Addr,
		Local: w.gateway.Local, Lifetime: g.lifetime, Double: double(g.external.Addr())}, w.shown
}

func (w *worker) report() []Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []Answer
	for _, o := range w.outcomes {
		all = append(all, Answer{Gateway: w.gateway, Protocol: o.protocol, Result: o.result, Why: o.why})
	}
	return all
}

func (w *worker) run(ctx context.Context) {
	defer close(w.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-w.looks:
			if w.port() != w.tried {
				w.want(0)
			} else {
				w.want(lookGap)
			}
		case e := <-w.epochs:
			w.hint(time.Now(), e)
		case <-timer.C:
			w.step(ctx)
		}
		timer.Reset(time.Until(w.next))
	}
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), removal)
	defer cancel()
	w.hands.clear(final)
	if w.held {
		w.log.Debug("port mapping removed", "external", w.grant.external, "protocol", w.grant.protocol)
	}
}

// want brings the next question forward to now, but not closer than gap to the last.
func (w *worker) want(gap time.Duration) { w.wantAt(time.Now(), gap) }

func (w *worker) wantAt(at time.Time, gap time.Duration) {
	if t := w.last.Add(gap); t.After(at) {
		at = t
	}
	if at.Before(w.next) {
		w.next = at
	}
}

func (w *worker) hint(now time.Time, server uint32) {
	if !w.held {
		w.want(lookGap) // a router that comes up
		return
	}
	if seen := w.epoch; !seen.note(now, server) {
		w.wantAt(now.Add(time.Duration(w.jitter()*float64(hintSpread))), hintGap)
	}
}

// step asks the router what is due.
func (w *worker) step(ctx context.Context) {
	port := w.port()
	w.last, w.tried = time.Now(), port
	if w.held && port != w.grant.internal {
		removing, cancel := context.WithTimeout(ctx, removal)
		w.hands.clear(removing)
		cancel()
		w.drop("our port changed")
	}
	switch {
	case port == 0:
		w.next = w.last.Add(never)
	case !w.held || !w.keep(ctx):
		w.find(ctx, port)
	}
}

// keep checks or renews the mapping. It returns false if there is none any more.
func (w *worker) keep(ctx context.Context) bool {
	held := w.grant
	if time.Now().Before(w.renewAt) {
		server, timed, err := w.hands.check(ctx, held)
		now := time.Now()
		kept := !timed || w.epoch.note(now, server)
		switch {
		case ctx.Err() != nil:
			return true
		case err == nil && kept:
			w.failures = 0
			w.schedule(now)
			return true
		case err == nil:
			w.log.Info("the router restarted: mapping the port again")
		case !isRefusal(err):
			return w.silent(err)
		}
	}
	granted, err := w.hands.renew(ctx, held)
	switch {
	case ctx.Err() != nil:
		return true
	case err == nil:
		w.hold(granted)
		return true
	case isRefusal(err):
		w.drop(err.Error())
		return false
	}
	return w.silent(err)
}

// silent notes that a question about a mapping was not answered.
func (w *worker) silent(err error) bool {
	w.failures++
	if w.failures >= silences || !time.Now().Before(w.expires) {
		w.failures = 0
		w.drop(err.Error())
		return false
	}
	w.next = time.Now().Add(w.pause())
	if w.expires.Before(w.next) {
		w.next = w.expires
	}
	return true
}

func (w *worker) find(ctx context.Context, port uint16) {
	w.mu.Lock()
	before := w.grant.external
	w.mu.Unlock()
	granted, outcomes, err := w.hands.find(ctx, port, before)
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	w.outcomes = outcomes
	w.mu.Unlock()
	if err != nil {
		w.failures++
		w.next = time.Now().Add(w.pause())
		w.log.Debug("the router maps no port", "err", err, "retry", time.Until(w.next).Round(time.Second))
		return
	}
	w.hold(granted)
}

// pause is how long to wait after the failures so far.
func (w *worker) pause() time.Duration {
	d := retryLast
	if w.rare && w.failures > 2 {
		d = retryRare
	} else if n := w.failures - 1; n < 6 {
		d = min(d, retryFirst<<max(n, 0))
	}
	return time.Duration(float64(d) * (0.9 + 0.1*w.jitter()))
}

// hold takes over what was granted.
func (w *worker) hold(g grant) {
	now := time.Now()
	if g.timed {
		w.epoch.note(now, g.epoch)
	}
	life := g.lifetime
	if life == 0 {
		life = asked
	}
	life = min(max(life, shortest), longest)
	w.failures, w.renewAt, w.expires = 0, now.Add(life/2), now.Add(life)
	w.schedule(now)
	news := !w.held || g.external != w.grant.external || g.protocol != w.grant.protocol
	w.held = true
	w.mu.Lock()
	w.grant, w.shown = g, true
	w.mu.Unlock()
	if !news {
		return
	}
	if double(g.external.Addr()) {
		w.log.Info("port mapped, but the router is itself behind a NAT", "external", g.external, "port", g.internal, "protocol", g.protocol)
	} else {
		w.log.Info("port mapped", "external", g.external, "port", g.internal, "protocol", g.protocol, "lifetime", g.lifetime)
	}
	w.changed()
}

func (w *worker) schedule(now time.Time) {
	w.next = now.Add(checkEvery)
	if w.renewAt.Before(w.next) {
		w.next = w.renewAt
	}
}

func (w *worker) drop(why string) {
	w.log.Info("port mapping lost", "external", w.grant.external, "protocol", w.grant.protocol, "why", why)
	w.held = false
	w.mu.Lock()
	w.shown = false
	w.mu.Unlock()
	w.changed()
}

func isRefusal(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}
