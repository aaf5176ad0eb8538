package machine

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

const (
	maxSources = 4 // addresses remembered that a participant sent from
	maxMore    = 8 // addresses of endpoints remembered that are not the participant's
	maxWide    = 4 // locators tried where it is not known which one works

	// sourceFresh is how long after the newest source another one still counts.
	sourceFresh = 10 * time.Second
)

// remote is another participant.
type remote struct {
	m          *Machine
	info       *ParticipantInfo
	builtin    wire.BuiltinEndpoints
	meta       []netip.AddrPort // announced, unicast, of a family that we have
	user       []netip.AddrPort
	more       []netip.Addr // that its endpoints announced
	local      bool         // on this host
	group      time.Time
	heard      time.Time // from an address of its own
	challenged time.Time
	told       time.Time  // announced to, apart from greetings
	origin     netip.Addr // where it was first announced from
	proven     bool       // it answered to us
	raw        []byte     // its announcement
	sources    []seen
	lease      timer
	greeting   timer
	greeted    int

	metaBest, metaWide []netip.AddrPort
	userBest, userWide []netip.AddrPort

	endpoints map[wire.EntityID]*remoteEndpoint
	protocol  []*remoteEndpoint // of the protocol itself
}

type seen struct {
	addr netip.Addr
	port uint16
	at   time.Time
}

// remoteEndpoint is a writer or reader of another participant.
type remoteEndpoint struct {
	endpoint   *Endpoint
	remote     *remote
	qos        wire.QoS
	unicast    []netip.AddrPort // its own locators; nil: the participant's
	best, wide []netip.AddrPort
	cost       int // bytes it is accounted with
}

func (r *remote) metaTo(wide bool) []netip.AddrPort {
	if wide {
		return r.metaWide
	}
	return r.metaBest
}

func (e *remoteEndpoint) to(wide bool) []netip.AddrPort {
	switch {
	case e.unicast == nil && wide:
		return e.remote.userWide
	case e.unicast == nil:
		return e.remote.userBest
	case wide:
		return e.wide
	}
	return e.best
}

// touch notes that a datagram of the participant came.
func (r *remote) touch(now time.Time, from netip.AddrPort) {
	if len(r.sources) > 0 && r.sources[0].addr == from.Addr() {
		r.heard = now
		r.sources[0].at = now
		return
	}
	if !r.owns(from.Addr()) {
		return
	}
	r.heard = now
	if !r.announced(from.Addr()) && !(r.local && r.m.mine(from.Addr())) {
		return
	}
	i := slices.IndexFunc(r.sources, func(s seen) bool { return s.addr == from.Addr() })
	if i >= 0 {
		r.sources = slices.Delete(r.sources, i, i+1)
	} else if len(r.sources) == maxSources {
		r.sources = r.sources[:maxSources-1]
	}
	r.sources = slices.Insert(r.sources, 0, seen{from.Addr(), from.Port(), now})
	if i < 0 {
		r.route(now)
	}
}

// announced reports whether the participant says that an address is its own.
func (r *remote) announced(a netip.Addr) bool {
	is := func(p netip.AddrPort) bool { return p.Addr() == a }
	return slices.ContainsFunc(r.meta, is) || slices.ContainsFunc(r.user, is) || slices.Contains(r.more, a)
}

// learn takes note of the addresses of an endpoint's own.
func (r *remote) learn(list []netip.AddrPort) {
	for _, a := range list {
		if len(r.more) < maxMore && !r.announced(a.Addr()) {
			r.more = append(r.more, a.Addr())
		}
	}
}

// owns reports whether the participant, or who brought it here, may speak from an address. Programs of this host may
// speak for all: a relay of announcements is one. An IPv6 host changes the rear half of its address as it likes.
func (r *remote) owns(a netip.Addr) bool {
	if a == r.origin || r.announced(a) || r.m.mine(a) {
		return true
	}
	if !a.Is6() || !a.IsGlobalUnicast() {
		return false
	}
	front, err := a.Prefix(64)
	if err != nil {
		return false
	}
	inside := func(p netip.AddrPort) bool { return front.Contains(p.Addr()) }
	return front.Contains(r.origin) || slices.ContainsFunc(r.meta, inside) || slices.ContainsFunc(r.user, inside)
}

// sent reports whether the participant may have sent a datagram, by its source.
func (r *remote) sent(from netip.Addr) bool {
	return len(r.sources) > 0 && r.sources[0].addr == from || r.owns(from)
}

// reached reports whether the participant is known to be where it says: a datagram came from there, or it is here. Who is not gets little, since it may be
// somebody else whom a third party wants to be flooded.
func (r *remote) reached() bool { return r.local || len(r.sources) > 0 }

// mine reports whether an address is this host's.
func (m *Machine) mine(a netip.Addr) bool { return a.IsLoopback() || m.ownAddrs[a.WithZone("")] }

// route chooses where to send.
func (r *remote) route(now time.Time) {
	r.metaBest, r.metaWide = r.choose(now, r.meta)
	r.userBest, r.userWide = r.choose(now, r.user)
	for _, e := range r.endpoints {
		if e.unicast != nil {
			e.best, e.wide = r.choose(now, e.unicast)
		}
	}
}

// choose picks from announced locators: best is where a datagram came from lately, else what lies on a network of ours,
// else whatever there is; wide is whatever there is.
func (r *remote) choose(_ time.Time, announced []netip.AddrPort) (best, wide []netip.AddrPort) {
	m := r.m
	for _, a := range announced {
		ip := a.Addr()
		if m.config.Localhost && !m.mine(ip) || !r.local && m.mine(ip) {
			continue // a loopback or bridge address of some other host, for all we can tell
		}
		if len(wide) < maxWide {
			wide = append(wide, a)
		}
	}
	if len(wide) == 0 {
		return nil, nil
	}
	if r.local {
		for _, a := range wide {
			if m.mine(a.Addr()) {
				return []netip.AddrPort{a}, wide
			}
		}
	}
	for _, a := range announced {
		for _, s := range r.sources {
			if s.addr == a.Addr() && r.sources[0].at.Sub(s.at) < sourceFresh && slices.Contains(wide, a) {
				return []netip.AddrPort{a}, wide
			}
		}
	}
	for _, a := range wide {
		if m.onLink(a.Addr()) {
			best = append(best, a)
		}
	}
	if len(best) == 0 {
		best = wide
	}
	return best, wide
}

// onLink reports whether an address is in a network of ours.
func (m *Machine) onLink(a netip.Addr) bool {
	for _, l := range m.links {
		for _, p := range l.Addrs {
			if p.Contains(a.WithZone("")) && (a.Zone() == "" || a.Zone() == strconv.Itoa(l.Index)) {
				return true
			}
		}
	}
	return false
}

// unicast returns the UDP endpoints among locators. A link-local address is on the interface that the announcement
// came in by.
func (m *Machine) unicast(list []wire.Locator, index int) []netip.AddrPort {
	var all []netip.AddrPort
	for _, l := range list {
		a, ok := l.AddrPort()
		if !ok || a.Addr().IsMulticast() || a.Addr() == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			continue
		}
		if a.Addr().IsLinkLocalUnicast() && a.Addr().Is6() {
			if index == 0 {
				continue
			}
			a = netip.AddrPortFrom(a.Addr().WithZone(strconv.Itoa(index)), a.Port())
		}
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// describe makes what others may know of the participant.
func (r *remote) describe() {
	info := *r.info
	info.Meta, info.Unicast, info.SameHost = r.meta, r.user, r.local
	info.Sources = nil
	for _, s := range r.sources {
		info.Sources = append(info.Sources, netip.AddrPortFrom(s.addr, s.port))
	}
	r.info = &info
}
