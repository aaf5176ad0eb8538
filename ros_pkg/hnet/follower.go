package hnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
)

const (
	lookTimeout = 3 * time.Second // for the daemon to answer both questions
	// settle is how long a look waits after an event, since events come in groups; lookPause is the time between two looks that events ask for.
	settle    = 10 * time.Millisecond
	lookPause = 100 * time.Millisecond

	backoffFirst = 50 * time.Millisecond
	backoffLast  = time.Second

	eventsQueued = 256
)

// Update is what a [Follower] tells: what is known now, and what happened.
type Update struct {
	View   *View
	Events []*hnet_bridge.PeerEvent
	Turned bool // the daemon came up, went down, or fell silent
}

// Follower keeps a view of the daemon, across its restarts. All fields must be set before Run.
type Follower struct {
	RunFolder string
	Client    *api.Client
	Log       *slog.Logger
	Embedded  bool                 // the daemon is in this process
	Period    func() time.Duration // between two looks when nothing happens
	// Changed is called after each look and when the daemon is lost, by Run's goroutine.
	Changed func(Update)

	view    atomic.Pointer[View]
	tracker Tracker
	bases   map[netip.Addr]baseSeen
	told    string // the reason for being down that was logged last
	silent  bool   // looks fail while the event stream stands
}

type baseSeen struct {
	state api.BaseState
	since time.Time
}

// View returns what is known now. It must not be changed.
func (f *Follower) View() *View {
	if v := f.view.Load(); v != nil {
		return v
	}
	return &View{RunFolder: f.RunFolder}
}

// Run follows the daemon until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	f.view.CompareAndSwap(nil, &View{RunFolder: f.RunFolder, Since: time.Now()})
	backoff := backoffFirst
	for ctx.Err() == nil {
		again, err := f.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if f.View().Up {
			backoff = backoffFirst
		}
		if !again {
			f.lost(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, backoffLast)
	}
}

// session follows one event stream to its end. again tells that the daemon lives, and only this stream was too slow for it.
func (f *Follower) session(ctx context.Context) (again bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.Client.Subscribe(ctx)
	if err != nil {
		return false, err
	}
	defer stream.Close()
	if err := f.look(ctx, nil); err != nil {
		return false, err
	}
	events, ended := make(chan api.Event, eventsQueued), make(chan error, 1)
	go func() {
		for {
			ev, err := stream.Next()
			if err != nil {
				ended <- err
				return
			}
			select {
			case events <- ev:
			case <-ctx.Done():
				return
			}
		}
	}()
	looked := time.Now()
	timer := time.NewTimer(f.Period())
	defer timer.Stop()
	var happened []*hnet_bridge.PeerEvent
	for {
		select {
		case ev := <-events:
			if ev.Type == api.EventOverflow {
				again = true
			}
			happened = append(happened, f.tracker.Event(&ev)...)
			timer.Reset(max(settle, lookPause-time.Since(looked)))
			for len(events) > 0 && len(happened) < eventsQueued {
				ev := <-events
				again = again || ev.Type == api.EventOverflow
				happened = append(happened, f.tracker.Event(&ev)...)
			}
			if len(happened) >= eventsQueued { // whoever listens has no use for more at once
				f.tell(happened, false)
				happened = nil
			}
		case <-timer.C:
			err := f.look(ctx, happened)
			happened = nil
			if err != nil {
				f.fellSilent(err)
			}
			looked = time.Now()
			timer.Reset(f.Period())
		case err := <-ended:
			if len(happened) > 0 {
				f.tell(happened, false)
			}
			if errors.Is(err, io.EOF) {
				err = &api.Error{Code: api.CodeNotRunning, Text: "hnetd hung up at " + f.RunFolder, Fix: "it has just stopped: see 'systemctl status hnetd'"}
			}
			return again, err
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// look asks the daemon how things stand, and tells that with what happened before.
func (f *Follower) look(ctx context.Context, happened []*hnet_bridge.PeerEvent) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	status, err := f.Client.Status(ctx)
	if err == nil {
		var peers []api.Peer
		if peers, err = f.Client.Peers(ctx); err == nil {
			f.saw(status, peers, happened)
			return nil
		}
	}
	if len(happened) > 0 {
		f.tell(happened, false)
	}
	return err
}

// saw takes the daemon's answers.
func (f *Follower) saw(status api.Status, peers []api.Peer, happened []*hnet_bridge.PeerEvent) {
	now := time.Now()
	old := f.View()
	v := &View{RunFolder: f.RunFolder, Up: true, Since: old.Since, Answered: now, Restarts: old.Restarts, Status: status, Peers: peers}
	turned := !old.Up || f.silent
	if !old.Up {
		v.Since = now
		detail := "hnetd answers"
		if old.Answered.IsZero() {
			f.Log.Info("hnetd answers", "version", status.Version, "address", status.Address)
		} else {
			v.Restarts++
			detail = "hnetd answers again"
			f.Log.Info("hnetd answers again", "version", status.Version, "after", now.Sub(old.Since).Round(time.Millisecond))
		}
		if status.Version != old.Status.Version && old.Status.Version != "" {
			detail += ", it is version " + status.Version
		}
		happened = append(happened, daemonEvent(now, true, detail))
	} else if f.silent {
		f.Log.Info("hnetd answers again", "after", now.Sub(old.Answered).Round(time.Millisecond))
	}
	f.silent, f.told = false, ""
	happened = append(happened, f.tracker.List(now, peers)...)
	v.PeersSince = make(map[netip.Addr]time.Time, len(peers))
	for i := range peers {
		v.PeersSince[peers[i].Address] = f.tracker.Since(peers[i].Address)
	}
	v.BasesSince = f.sawBases(now, status.Bases)
	f.view.Store(v)
	f.Changed(Update{View: v, Events: happened, Turned: turned})
}

func (f *Follower) sawBases(now time.Time, bases []api.Base) map[netip.Addr]time.Time {
	seen := make(map[netip.Addr]baseSeen, len(bases))
	out := make(map[netip.Addr]time.Time, len(bases))
	for _, b := range bases {
		s, ok := f.bases[b.Address]
		if !ok || s.state != b.State {
			s = baseSeen{b.State, now}
		}
		seen[b.Address], out[b.Address] = s, s.since
	}
	f.bases = seen
	return out
}

// fellSilent notes that the daemon did not answer although its event stream stands.
func (f *Follower) fellSilent(err error) {
	v := *f.View()
	v.Err = err
	f.view.Store(&v)
	turned := !f.silent
	if turned {
		f.Log.Error("hnetd does not answer", "error", err)
	}
	f.silent = true
	f.Changed(Update{View: &v, Turned: turned})
}

// lost notes that the daemon cannot be reached. It is logged once for each reason.
func (f *Follower) lost(err error) {
	now := time.Now()
	if f.Embedded { // advice about a service is of no use here
		err = embeddedDown(err)
	}
	old := f.View()
	v := *old
	v.Up, v.Err = false, err
	var events []*hnet_bridge.PeerEvent
	cause, fix := words(err)
	if old.Up {
		v.Since = now
		events = append(events, daemonEvent(now, false, cause))
	}
	// A daemon that starts along with this node is no news.
	early := old.Answered.IsZero() && now.Sub(old.Since) < startTime
	if cause != f.told && !early {
		f.told = cause
		if old.Up {
			f.Log.Error(f.daemon()+" is lost; this node goes on and waits for it", "cause", cause, "fix", fix)
		} else {
			f.Log.Warn(fmt.Sprintf("waiting for %s: %s", f.daemon(), cause), "fix", fix)
		}
	}
	f.silent = false
	f.view.Store(&v)
	f.Changed(Update{View: &v, Events: events, Turned: old.Up})
}

// daemon is what the daemon is called in the log.
func (f *Follower) daemon() string {
	if f.Embedded {
		return "the embedded overlay"
	}
	return "hnetd"
}

// embeddedDown is why an overlay in this process cannot be reached, given what a client of a daemon would be told.
func embeddedDown(err error) error {
	if e, ok := asAPI(err); !ok || e.Code != api.CodeNotRunning {
		return err
	}
	return &api.Error{Code: api.CodeNotRunning, Text: "the embedded overlay does not run",
		Fix: "this node's log and its status 'daemon' in /diagnostics say why; after 'hnet down' start the node again"}
}

// tell passes on what happened without a look.
func (f *Follower) tell(events []*hnet_bridge.PeerEvent, turned bool) {
	f.Changed(Update{View: f.View(), Events: events, Turned: turned})
}
