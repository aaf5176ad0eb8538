package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/nat"
)

func (r *report) network() {
	l := r.f.Links
	switch {
	case !l.Known:
		r.add("network", api.CheckSkip, "not looked at")
	case l.IPv4+l.IPv6+l.LinkLocal == 0:
		l := r.add("network", api.CheckFail, "no address on any link")
		if r.f.connected() { // by loopback
			l.Status = api.CheckWarn
		}
		l.because(rankNetwork, "this host has no network: none of its links has an address", "plug in the cable or join the Wi-Fi; 'ip addr' shows the links")
	case l.IPv4+l.IPv6 == 0:
		r.add("network", api.CheckWarn, "link-local addresses only").because(rankNetwork,
			"this host has link-local addresses only: peers on the same link can be reached, nobody else", "see why DHCP or router advertisements do not arrive: 'ip addr', 'journalctl -b'")
	default:
		var has []string
		if l.IPv4 > 0 {
			has = append(has, "IPv4")
		}
		if l.IPv6 > 0 {
			has = append(has, "IPv6")
		}
		r.add("network", api.CheckOK, "%s", strings.Join(has, " and "))
	}
}

const (
	// clockTolerance is what a clock may be wrong without mention.
	clockTolerance = 5 * time.Minute
	// leadTolerance is how far the timestamps in use may be ahead: each run that ends in a crash takes an hour of the time to come.
	leadTolerance = 48 * time.Hour
	setClock      = "set the clock, and keep it right: timedatectl set-ntp true"
)

// released is a time that no right clock is before.
var released = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// deviation returns how far the clock is from the truth as far as that is known; negative = behind.
func (c Clock) deviation() (offset time.Duration, atLeast bool) {
	switch {
	case c.OffsetKnown:
		return c.Offset, false
	case c.Lead > leadTolerance:
		return -c.Lead, false
	case !c.Wall.IsZero() && c.Wall.Before(released):
		return c.Wall.Sub(released), true
	}
	return 0, false
}

func (r *report) clock() {
	c := r.f.Clock
	offset, atLeast := c.deviation()
	side := "ahead"
	if offset < 0 {
		side = "behind"
	}
	how := long(offset) + " " + side
	if atLeast {
		how = "at least " + how
	}
	switch {
	case c.Wall.IsZero() && !c.OffsetKnown:
		r.add("clock", api.CheckSkip, "not looked at")
	case offset.Abs() <= clockTolerance && c.ReserveLost:
		r.add("clock", api.CheckWarn, "right, but the record of timestamps in use is lost").because(rankClockSlow,
			"the record of timestamps in use was lost: peers refuse this node if its clock is now behind what it was", "see that the state folder is writable and the disk is not full; "+setClock)
	case offset.Abs() <= clockTolerance:
		r.add("clock", api.CheckOK, "right, as far as it can be told")
	case c.ReserveLost && offset < 0:
		r.add("clock", api.CheckFail, "%s, and the record of timestamps in use is lost", how).because(rankClock,
			fmt.Sprintf("this host's clock is %s, and the record that makes up for it was lost: peers that knew this node refuse it as a replay", how), setClock)
	default:
		r.add("clock", api.CheckWarn, "%s; contact with peers does not depend on it", how).because(rankClockSlow,
			fmt.Sprintf("this host's clock is %s: hnet works all the same, logs and programs that compare times do not", how), setClock)
	}
}

// overTCP returns the Base that carries traffic while UDP does not pass.
func (f *Findings) overTCP() (Base, bool) {
	for _, b := range f.registered() {
		if b.Transport == "tcp" {
			return b, true
		}
	}
	return Base{}, false
}

func (r *report) udp() {
	f := r.f
	if f.NAT.UDPBlocked {
		cause, port := "UDP is blocked by the network: no peer beyond this LAN can be reached directly", uint16(5582)
		if b, ok := f.overTCP(); ok {
			cause = "UDP is blocked by the network: traffic goes over TCP through " + b.name()
			if b.UDP != 0 {
				port = b.UDP
			}
		}
		r.add("udp", api.CheckWarn, "blocked: a Base answers by TCP, none by UDP").because(rankUDP, cause,
			fmt.Sprintf("ask the network's administrator for UDP port %d outbound", port))
		return
	}
	words := map[Reach]string{ReachWorks: "works", ReachBlocked: "no answer", ReachAbsent: "no address"}
	var told []string
	for _, family := range []struct {
		name  string
		reach Reach
	}{{"IPv4", f.UDP4}, {"IPv6", f.UDP6}} {
		if w := words[family.reach]; w != "" {
			told = append(told, family.name+" "+w)
		}
	}
	switch {
	case f.UDP4 == ReachWorks || f.UDP6 == ReachWorks:
		r.add("udp", api.CheckOK, "%s", strings.Join(told, ", "))
	case f.UDP4 == ReachBlocked || f.UDP6 == ReachBlocked:
		r.add("udp", api.CheckWarn, "%s", strings.Join(told, ", ")).because(rankUDP, "no UDP answer comes back from beyond this network",
			"see that the network and this host's firewall let UDP out and its answers in")
	default:
		r.add("udp", api.CheckSkip, "no Base to test it with")
	}
}

// forward is how to make this node reachable from outside.
func (f *Findings) forward() string {
	switch m := f.PortMapping; {
	case m.External.IsValid() && m.Double:
		return "ask the provider for a public IPv4 address or for IPv6: forwarding a port on the router does not help behind a provider's NAT"
	case !m.Enabled:
		return "set 'port_mapping: true' in hnet.yaml here, or forward " + f.port() + " to this host on its router"
	}
	return "switch on UPnP or PCP on this network's router, or forward " + f.port() + " to this host there"
}

// mapped tells whether a router lets our port in from the Internet.
func (f *Findings) mapped() bool { return f.PortMapping.External.IsValid() && !f.PortMapping.Double }

func (r *report) nat() {
	f := r.f
	detail := f.NAT.String()
	if six := f.NAT.IPv6(); six != "unknown" {
		detail += "; IPv6 " + six
	}
	switch kind := f.NAT.Kind(); {
	case kind == nat.Unknown || kind == nat.UDPBlocked:
		r.add("nat", api.CheckSkip, "not measured")
	case kind == nat.Symmetric && !f.mapped():
		l := r.add("nat", api.CheckWarn, "%s", detail)
		if f.Peer == nil { // to a peer, the path tells whether it matters
			l.because(rankNAT, "this network gives each connection a new port (symmetric NAT): direct paths are found late, or never to peers behind another such network", f.forward())
		} else if f.Peer.Path != api.PathRelayTCP && f.Peer.Path != api.PathRelayUDP {
			l.Status = api.CheckOK
		} else {
			l.because(rankNAT, "this network gives each connection a new port (symmetric NAT)", f.forward())
		}
	default:
		r.add("nat", api.CheckOK, "%s", detail)
	}
}

func (r *report) portMapping() {
	m := r.f.PortMapping
	switch {
	case m.External.IsValid() && m.Double:
		r.add("port_mapping", api.CheckOK, "%s by %s, behind another NAT", m.External, m.Protocol)
	case m.External.IsValid():
		r.add("port_mapping", api.CheckOK, "%s by %s", m.External, m.Protocol)
	case !m.Enabled:
		r.add("port_mapping", api.CheckSkip, "off")
	case m.Done && m.Why != "":
		r.add("port_mapping", api.CheckSkip, "the router does none: %s", m.Why)
	case m.Done:
		r.add("port_mapping", api.CheckSkip, "the router does none")
	default:
		r.add("port_mapping", api.CheckSkip, "not known yet")
	}
}

func (r *report) bases() {
	f := r.f
	switch {
	case f.BasesUnused && len(f.Bases) > 0:
		r.add("bases", api.CheckSkip, "not used by this version")
		return
	case f.BasesUnused:
		r.add("bases", api.CheckSkip, "none")
		return
	case len(f.Bases) == 0:
		l := r.add("bases", api.CheckSkip, "none: peers are found on the local network and at known endpoints only")
		if f.Peer == nil {
			l.Status = api.CheckWarn
			l.because(rankNoBases, "no Base is configured: peers are found on this LAN and at known endpoints only", "name a Base under 'bases:' in hnet.yaml, on every node")
		}
		return
	}
	up := len(f.registered())
	var connecting, down []Base
	all := !slices.ContainsFunc(f.Bases, func(b Base) bool { return b.State != api.BaseUnreachable })
	for _, b := range f.Bases {
		name := "base:" + b.Address.String()
		switch b.State {
		case api.BaseRegistered:
			detail := b.name() + " by " + b.Transport
			if b.RTT > 0 {
				detail += ", " + brief(b.RTT)
			}
			r.add(name, api.CheckOK, "%s", detail)
		case api.BaseUnreachable:
			down = append(down, b)
			l := r.add(name, api.CheckWarn, "%s does not answer%s", b.name(), because(b.LastError))
			switch {
			case all && !f.connected():
				l.Status = api.CheckFail
				l.because(rankBases, b.name()+" cannot be reached"+because(b.LastError), b.reach())
			default:
				l.because(rankSomeBases, b.name()+" cannot be reached"+because(b.LastError), b.reach())
			}
		case api.BaseStandby:
			r.add(name, api.CheckOK, "%s: in reserve", b.name())
		default:
			connecting = append(connecting, b)
			r.add(name, api.CheckSkip, "%s: connecting%s", b.name(), because(b.LastError))
		}
	}
	if all && len(down) > 1 {
		l := &r.lines[len(r.lines)-len(down)] // the first one's speaks for all
		l.cause = fmt.Sprintf("none of the %d Bases can be reached%s", len(down), because(down[0].LastError))
		l.fix = "see that this network leads to the Internet and lets UDP port 5582 or TCP port 443 out, and that a Base runs"
	}
	if up == 0 && len(connecting) > 0 && f.Peer != nil && !f.connected() {
		l := r.add("bases", api.CheckFail, "not registered with any yet")
		l.because(rankBases, "this node is still connecting to its Bases", "try again in some seconds; if that lasts, see that the network lets UDP port 5582 or TCP port 443 out")
	}
}

// reach is what to look at when a Base cannot be reached.
func (b Base) reach() string {
	var ports []string
	if b.UDP != 0 {
		ports = append(ports, fmt.Sprintf("UDP %d", b.UDP))
	}
	if b.TCP != 0 {
		ports = append(ports, fmt.Sprintf("TCP %d", b.TCP))
	}
	where := ""
	if len(ports) > 0 {
		where = " at " + strings.Join(ports, " or ")
	}
	return fmt.Sprintf("see that hnet_base runs there and can be reached%s, and that 'hnet_base id' there prints %s", where, b.Address)
}

// because appends a reason, if there is one.
func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func (r *report) dds() {
	switch d := r.f.DDS; {
	case d == nil:
		r.add("dds", api.CheckSkip, "not looked at")
	case d.Problem == "":
		r.add("dds", api.CheckOK, "the profile is right")
	default:
		fix := d.Fix
		if fix == "" {
			fix = "run eval \"$(hnet dds env)\" in the shell that starts the programs, and restart them"
		}
		r.add("dds", api.CheckFail, "%s", d.Problem).because(rankDDS, "programs do not use the overlay as they should: "+d.Problem, fix)
	}
}

// warnings adds what the daemon complains of, without what is said about other peers than the one asked about.
func (r *report) warnings() {
	for _, w := range r.f.Warnings {
		p := r.f.Peer
		other := p != nil && w.Subject != "" && w.Subject != p.Address.String()
		name := "warning:" + string(w.Code)
		if w.Subject != "" && p == nil {
			name += ":" + w.Subject
		}
		switch {
		case other && (w.Code == health.PeerCopy || w.Code == health.PeerKey || w.Code == health.Endpoint || w.Code == health.OverlayInside || w.Code == health.PeerRoute):
		case w.Code == health.IdentityCopy, w.Code == health.PeerCopy && p != nil:
			r.add(name, api.CheckFail, "%s", w.Text).because(rankClone, w.Text, w.Fix)
		case w.Code == health.OverlayInside && p != nil && !r.f.connected():
			r.add(name, api.CheckFail, "%s", w.Text).because(rankLoop, w.Text, w.Fix)
		case w.Code == health.Endpoint && p != nil && !r.f.connected():
			r.add(name, api.CheckFail, "%s", w.Text).because(rankNoWay, w.Text, w.Fix)
		default:
			r.add(name, api.CheckWarn, "%s", w.Text).because(rankWarning, w.Text, w.Fix)
		}
	}
}
