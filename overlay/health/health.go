// Package health holds the node's typed warnings: conditions that last until something changes, each with its cause and its fix.
package health

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Code names a kind of warning. Codes are part of the local API's contract.
type Code string

// The warnings.
const (
	PortTaken     Code = "port_taken"         // the default port is in use, another one was taken
	NoIPv4        Code = "no_ipv4"            // no IPv4 socket could be opened
	NoIPv6        Code = "no_ipv6"            // no IPv6 socket could be opened
	GroupMissing  Code = "group_missing"      // there is no group hnet
	HostsFile     Code = "hosts_file"         // the hosts file could not be written
	Contacts      Code = "contacts_file"      // the endpoints in use could not be stored
	IdentityCopy  Code = "identity_cloned"    // another host runs with this node's identity
	PeerCopy      Code = "peer_cloned"        // two hosts run with one peer's identity
	PeerKey       Code = "peer_key"           // a peer's key was learned and could not be stored
	WhitelistOff  Code = "whitelist_disabled" // anyone may connect
	SettingUnused Code = "setting_unused"     // a setting that has no effect in this version
	OverlayInside Code = "path_through_hnet"  // a peer's endpoint is routed through the overlay itself
	Endpoint      Code = "endpoint_unknown"   // a configured endpoint's name could not be resolved
	PeerRoute     Code = "peer_route"         // a peer's route could not be set
	IPv4Range     Code = "ipv4_range"         // no IPv4 address is free on this host
	IPv4Peer      Code = "ipv4_peer"          // there is no IPv4 with a peer: an address clashes
	IPv4Device    Code = "ipv4_device"        // hnet0 could not be given its IPv4 address or routes
	IPv4File      Code = "ipv4_file"          // the IPv4 addresses could not be stored
)

// Warning is one condition. Subject tells warnings of one code apart, "" if there can be only one.
type Warning struct {
	Code    Code
	Subject string
	Text    string
	Fix     string
}

const (
	// maxWarnings bounds those with a subject, which a hostile network can provoke; there are as many others as codes at the most.
	maxWarnings = 64
	// quiet is how long a warning that comes and goes is not logged again.
	quiet = time.Minute
)

type key struct {
	code    Code
	subject string
}

// condition is a warning that holds, or one that did and is remembered for the sake of quiet.
type condition struct {
	Warning
	on     bool
	logged time.Time // when it was logged last
	told   bool      // its present appearance was
}

// Warnings is the set of conditions that hold now. It is safe for concurrent use.
type Warnings struct {
	log     *slog.Logger
	changed func(Warning, bool)

	telling sync.Mutex // keeps what is logged and told in the order of what happened; taken before mu
	mu      sync.Mutex
	set     map[key]*condition
}

// New makes an empty set. A warning is logged when it appears and when it goes, not more often than once a minute; changed is told of every
// time it appears or gets other words (true) and goes (false). It may be nil and must not raise or clear warnings.
func New(log *slog.Logger, changed func(w Warning, on bool)) *Warnings {
	if changed == nil {
		changed = func(Warning, bool) {}
	}
	return &Warnings{log: log, changed: changed, set: make(map[key]*condition)}
}

// Raise adds a warning or renews its words.
func (ws *Warnings) Raise(w Warning) {
	ws.telling.Lock()
	defer ws.telling.Unlock()
	now := time.Now()
	ws.mu.Lock()
	c := ws.condition(w)
	if c == nil || c.on && c.Warning == w {
		ws.mu.Unlock()
		return
	}
	appears := !c.on
	c.Warning, c.on = w, true
	if appears {
		if c.told = c.logged.IsZero() || now.Sub(c.logged) >= quiet; c.told {
			c.logged = now
		}
	}
	told := appears && c.told
	ws.mu.Unlock()
	if told {
		ws.log.Warn(w.Text, "code", w.Code, "fix", w.Fix)
	}
	ws.changed(w, true)
}

// condition returns the place of w, nil if the set is full of what holds. The lock is held.
func (ws *Warnings) condition(w Warning) *condition {
	k := key{w.Code, w.Subject}
	if c := ws.set[k]; c != nil {
		return c
	}
	if w.Subject != "" {
		n := 0
		var over key // the one that ended and was logged longest ago
		for k, c := range ws.set {
			if k.subject == "" {
				continue
			}
			n++
			if o := ws.set[over]; !c.on && (o == nil || c.logged.Before(o.logged)) {
				over = k
			}
		}
		if n >= maxWarnings {
			if ws.set[over] == nil {
				return nil
			}
			delete(ws.set, over)
		}
	}
	c := &condition{}
	ws.set[k] = c
	return c
}

// Clear removes a warning that no longer holds.
func (ws *Warnings) Clear(code Code, subject string) {
	ws.telling.Lock()
	defer ws.telling.Unlock()
	ws.mu.Lock()
	c := ws.set[key{code, subject}]
	if c == nil || !c.on {
		ws.mu.Unlock()
		return
	}
	c.on = false
	w, told := c.Warning, c.told
	ws.mu.Unlock()
	if told {
		ws.log.Info("no longer: "+w.Text, "code", code)
	}
	ws.changed(w, false)
}

// Set raises w with the error's text if err is not nil, and clears it otherwise.
func (ws *Warnings) Set(err error, w Warning) {
	if err == nil {
		ws.Clear(w.Code, w.Subject)
		return
	}
	w.Text = err.Error()
	ws.Raise(w)
}

// List returns the warnings in a stable order.
func (ws *Warnings) List() []Warning {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	list := make([]Warning, 0, len(ws.set))
	for _, c := range ws.set {
		if c.on {
			list = append(list, c.Warning)
		}
	}
	slices.SortFunc(list, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Subject, b.Subject))
	})
	return list
}
