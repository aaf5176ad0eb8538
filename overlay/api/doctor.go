package api

import (
	"context"
	"net/netip"
	"net/url"
)

// Diagnosis is what the node found when it looked for what is wrong: with itself, and with the way to one peer if
// one was named.
type Diagnosis struct {
	Peer     netip.Addr `json:"peer"`     // "" if it is about the node alone
	Hostname string     `json:"hostname"` // of the peer
	Checks   []Check    `json:"checks"`   // from the bottom up: network, Bases, peer, programs
	Cause    string     `json:"cause"`    // the one that matters most, "" if nothing is wrong
	Fix      string     `json:"fix"`      // what to do about the cause, never "" beside one
}

// Failed tells whether a check failed.
func (d Diagnosis) Failed() bool {
	for _, c := range d.Checks {
		if c.Status == CheckFail {
			return true
		}
	}
	return false
}

// Check is one thing that was looked at. Readers skip names they do not know.
type Check struct {
	Name   string      `json:"name"` // stable, snake_case, with ":" and what it is about if there can be several
	Status CheckStatus `json:"status"`
	Detail string      `json:"detail"` // one line
}

// CheckStatus is what came of a [Check].
type CheckStatus string

// The outcomes of a check.
const (
	CheckOK   CheckStatus = "ok"
	CheckWarn CheckStatus = "warn" // works, and could be better
	CheckFail CheckStatus = "fail" // does not work
	CheckSkip CheckStatus = "skip" // not known, or of no concern here
)

// Doctor looks for what is wrong with the node, and with the way to a peer, by address or hostname; "" = no peer.
func (c *Client) Doctor(ctx context.Context, peer string) (v Diagnosis, err error) {
	path := "/v1/doctor"
	if peer != "" {
		path += "/" + url.PathEscape(peer)
	}
	return v, c.call(ctx, "GET", path, nil, &v)
}
