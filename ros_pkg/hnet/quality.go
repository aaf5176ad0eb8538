package hnet

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

// Settings are what the parameters say of how to judge and to draw.
type Settings struct {
	RTTWarn, RTTError   time.Duration
	LossWarn, LossError float64       // 0..1
	ConnectingWarn      time.Duration // that a way may be sought
	StaleAfter          time.Duration // the age at which the daemon's answers say nothing of the present
	WarnOnRelay         bool
	Required            []string // peers, by address or hostname, whose absence is an error

	Markers MarkerSettings
}

// required tells whether the robot cannot work without a peer.
func (s *Settings) required(p *api.Peer) bool {
	return slices.ContainsFunc(s.Required, func(want string) bool { return matches(want, p) })
}

// matches tells whether a peer is called so.
func matches(want string, p *api.Peer) bool {
	return p.Hostname != "" && strings.EqualFold(want, p.Hostname) || want == text(p.Address) || sameAddress(want, p)
}

// Quality is how well a peer is reached, in words that a glance can tell apart.
type Quality uint8

// The qualities.
const (
	QualityIdle    Quality = iota // nothing to say: nothing is sent
	QualityGood                   // connected, within the limits
	QualityFair                   // connected, beyond what warns
	QualityPoor                   // connected, beyond what is an error
	QualitySeeking                // a way is being sought
	QualityLost                   // no way was found, or it is sought for too long
)

// judge tells how well a peer is reached, and why in words. since is how long its state has lasted.
func (s *Settings) judge(p *api.Peer, since time.Duration) (q Quality, words string) {
	switch p.State {
	case api.Connected:
		return s.judgeConnected(p)
	case api.Connecting:
		if since > s.ConnectingWarn {
			return QualityLost, fmt.Sprintf("no way was found in %.0f s", since.Seconds())
		}
		return QualitySeeking, stateWords(p.State)
	case api.Unreachable:
		return QualityLost, stateWords(p.State)
	case api.Idle:
		return QualityIdle, "idle: " + stateWords(p.State)
	}
	return QualityIdle, stateWords(p.State)
}

func (s *Settings) judgeConnected(p *api.Peer) (q Quality, words string) {
	words = "connected " + pathWords(p.Path)
	q = QualityGood
	worse := func(than Quality, why string) {
		if than > q {
			q = than
		}
		words += ", " + why
	}
	rtt, loss := seconds(p.RTT), number(p.Loss)
	switch { // nothing that is NaN is greater
	case rtt > s.RTTError.Seconds():
		worse(QualityPoor, fmt.Sprintf("round trips of %s", milliseconds(rtt)))
	case rtt > s.RTTWarn.Seconds():
		worse(QualityFair, fmt.Sprintf("round trips of %s", milliseconds(rtt)))
	case !math.IsNaN(rtt):
		words += ", " + milliseconds(rtt)
	}
	switch {
	case loss > s.LossError:
		worse(QualityPoor, fmt.Sprintf("%.0f %% lost", 100*loss))
	case loss > s.LossWarn:
		worse(QualityFair, fmt.Sprintf("%.0f %% lost", 100*loss))
	}
	if s.WarnOnRelay && (p.Path == api.PathRelayUDP || p.Path == api.PathRelayTCP) {
		q = max(q, QualityFair)
	}
	return q, words
}

func milliseconds(s float64) string {
	if s < 0.01 {
		return fmt.Sprintf("%.1f ms", 1000*s)
	}
	return fmt.Sprintf("%.0f ms", 1000*s)
}
