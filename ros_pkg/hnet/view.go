package hnet

import (
	"errors"
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

// View is what is known of the daemon at one moment. What it points to is not changed any more.
type View struct {
	RunFolder string
	Embedded  bool
	EmbedErr  error // why the embedded overlay does not run

	Up       bool
	Since    time.Time // it is up, or down
	Err      error     // why it is down, or why the last question got no answer
	Answered time.Time // when Status and Peers were answered; zero = never
	Restarts int       // times that it came up again
	Refused  uint64    // requests for changes that were refused

	Status api.Status
	Peers  []api.Peer

	PeersSince map[netip.Addr]time.Time // when they came into their states
	BasesSince map[netip.Addr]time.Time
}

// peerSince is when a peer came into its state; what is not known, a moment ago.
func (v *View) peerSince(a netip.Addr) time.Time { return since(v.PeersSince, a, v.Answered) }

func (v *View) baseSince(a netip.Addr) time.Time { return since(v.BasesSince, a, v.Answered) }

func since(m map[netip.Addr]time.Time, a netip.Addr, otherwise time.Time) time.Time {
	if t, ok := m[a]; ok {
		return t
	}
	return otherwise
}

func asAPI(err error) (*api.Error, bool) {
	var e *api.Error
	return e, errors.As(err, &e)
}
