package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	sampleEvery    = 500 * time.Millisecond
	resolveTimeout = 10 * time.Second
	// maxDialing bounds the connections to one Base that are being made, among them those that were given up and have not noticed.
	maxDialing = 3
	// minWait bounds how often Run looks after its timers.
	minWait = 200 * time.Microsecond
)

func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// Run works until ctx ends, then takes leave of the Bases and returns ctx's error. It is called once. The functions of the Config must end with their
// contexts.
func (c *Client) Run(ctx context.Context) error {
	var helpers sync.WaitGroup
	// What is under way ends after the leave.
	within, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer helpers.Wait()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			c.leave(within, &helpers)
			return ctx.Err()
		case <-c.inbox.wake:
		case <-timer.C:
		}
		next := c.turn(within, &helpers)
		if next.IsZero() {
			next = time.Now().Add(time.Hour)
		}
		timer.Reset(max(minWait, time.Until(next)))
	}
}

// turn handles what has arrived and what is due, and tells when to come again.
func (c *Client) turn(ctx context.Context, helpers *sync.WaitGroup) (next time.Time) {
	for _, x := range c.inbox.take() {
		c.mu.Lock()
		if x.do != nil {
			x.do()
		} else {
			c.machine.datagram(time.Now(), x.b, x.from)
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	now := time.Now()
	sample := c.sample(now)
	c.machine.tick(now)
	actions := c.machine.actions()
	next = earliest(sample, c.machine.next(now))
	c.mu.Unlock()
	for i := range actions {
		c.perform(ctx, helpers, &actions[i])
	}
	return next
}

// sample looks which ways were used. The lock is held.
func (c *Client) sample(now time.Time) (next time.Time) {
	if at := c.sampled.Add(sampleEvery); now.Before(at) {
		for _, w := range c.machine.ways.list() {
			if w.active.Load() {
				next = at
			}
		}
		return next
	}
	c.sampled = now
	for _, w := range c.machine.ways.list() {
		if !w.active.Load() {
			continue
		}
		sent, heard := w.sent.Load(), w.heard.Load()
		if sent == w.lastSent && heard == w.lastHeard {
			w.active.Store(false)
			continue
		}
		c.machine.used(now, w, sent != w.lastSent, heard != w.lastHeard)
		w.lastSent, w.lastHeard = sent, heard
		next = now.Add(sampleEvery)
	}
	return next
}

// perform does one thing that the machine wants done.
func (c *Client) perform(ctx context.Context, helpers *sync.WaitGroup, a *action) {
	switch a.kind {
	case actSend:
		if err := c.cfg.Send(a.to, a.payload); err != nil {
			c.cfg.Log.Debug("a datagram to a Base was not sent", "endpoint", a.to, "err", err)
		}
	case actFrame:
		a.stream.control(a.payload)
	case actResolve:
		helpers.Go(func() { c.resolve(ctx, a.base, a.host) })
	case actDial:
		if c.dialing[a.base] >= maxDialing {
			c.later(func(m *machine, now time.Time) { m.hungUp(now, a.dial, "the last connections to it still hang") })
			return
		}
		c.dialing[a.base]++
		dialled, cancel := context.WithTimeout(ctx, dialTimeout)
		c.dials[a.dial] = cancel
		helpers.Go(func() { c.connect(ctx, dialled, a) })
	case actHangUp:
		if cancel := c.dials[a.dial]; cancel != nil {
			cancel()
			delete(c.dials, a.dial)
		}
		if a.stream != nil {
			a.stream.close()
		}
	case actEvent:
		switch e := &a.event; e.Type {
		case Registered:
			c.cfg.Log.Info("registered with a Base", "base", e.Base, "transport", e.Transport, "endpoint", e.Endpoint, "observed", e.Observed, "rtt", e.RTT)
		case Lost:
			c.cfg.Log.Info("registered with a Base no more", "base", e.Base)
		}
		c.cfg.Notify(a.event)
	case actLog:
		c.cfg.Log.Warn("Base "+a.base.String()+": "+a.text, "base", a.base)
	}
}

// later changes the machine in Run's next turn.
func (c *Client) later(do func(m *machine, now time.Time)) {
	c.inbox.call(func() { do(c.machine, time.Now()) })
}

func (c *Client) resolve(ctx context.Context, base netip.Addr, host string) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err := c.cfg.Resolve(ctx, host)
	if err != nil {
		err = fmt.Errorf("looking up %s: %w", host, err)
	}
	c.later(func(m *machine, now time.Time) { m.resolved(now, base, host, addrs, err) })
}

// connect makes a connection and serves it until it ends.
func (c *Client) connect(ctx, until context.Context, a *action) {
	conn, err := c.dialer.connect(until, a.base, a.host, a.port, a.addrs)
	// Called by Run, who owns the tables.
	dialled := func() {
		c.dialing[a.base]--
		if c.dialing[a.base] <= 0 {
			delete(c.dialing, a.base)
		}
		if cancel := c.dials[a.dial]; cancel != nil {
			cancel()
			delete(c.dials, a.dial)
		}
	}
	if err != nil {
		c.later(func(m *machine, now time.Time) {
			dialled()
			if errors.Is(err, errImpostor) {
				m.complain(now, a.dial, err.Error())
			}
			m.hungUp(now, a.dial, err.Error())
		})
		return
	}
	s := newStream(conn)
	defer context.AfterFunc(ctx, s.close)()
	written := make(chan struct{})
	go func() {
		defer close(written)
		s.write()
	}()
	c.later(func(m *machine, now time.Time) {
		dialled()
		if !m.connected(now, a.dial, s, remoteOf(conn)) {
			s.close()
		}
	})
	err = s.read(func(b []byte) {
		if r, inner := c.machine.ways.relayed(b, netip.AddrPort{}, s); r != nil {
			c.cfg.Deliver(r, inner)
		}
	}, func(b []byte) {
		c.later(func(m *machine, now time.Time) {
			s.handled()
			m.frame(now, a.dial, b)
		})
	})
	<-written
	c.later(func(m *machine, now time.Time) { m.hungUp(now, a.dial, "the connection ended: "+err.Error()) })
}

// leave takes leave of all Bases.
func (c *Client) leave(ctx context.Context, helpers *sync.WaitGroup) {
	c.mu.Lock()
	c.machine.setServers(time.Now(), nil)
	actions := c.machine.actions()
	c.mu.Unlock()
	for i := range actions {
		if a := &actions[i]; a.kind != actResolve && a.kind != actDial {
			c.perform(ctx, helpers, a)
		}
	}
}
