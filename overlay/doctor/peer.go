package doctor

import (
	"fmt"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/nat"
)

func (r *report) peer() {
	if p := r.f.Peer; p.Address == r.f.Address {
		r.add("peer", api.CheckFail, "is this node itself").because(rankSelf, p.name()+" is this node itself", "name another peer; 'hnet peers' lists them")
		return
	}
	r.whitelist()
	r.presence()
	r.candidates()
	r.handshake()
	r.path()
	r.mtu()
	r.loss()
}

func (r *report) whitelist() {
	p := r.f.Peer
	switch {
	case p.Whitelisted:
		r.add("whitelist", api.CheckOK, "%s is on this node's whitelist", p.name())
	case !r.f.Whitelist:
		r.add("whitelist", api.CheckOK, "off: %s may talk to this node", p.name())
	default:
		r.add("whitelist", api.CheckFail, "%s is not on this node's whitelist", p.name()).because(rankDenied,
			p.name()+" is not on this node's whitelist", "run here: hnet whitelist add "+p.Address.String())
	}
}

// known tells whether something says that the peer is there.
func (p *Peer) known() bool {
	return p.OnLAN || p.AtBase.IsValid() || p.answers()
}

func (p *Peer) answers() bool {
	for _, c := range p.Candidates {
		if c.Outcome == Answers || c.Outcome == InUse {
			return true
		}
	}
	return false
}

func (r *report) presence() {
	f, p := r.f, r.f.Peer
	byKey := "add it by its key, which 'hnet id' shows there: hnet whitelist add KEY --endpoint HOST:PORT"
	registered := f.registered()
	switch {
	case p.OnLAN:
		r.add("found", api.CheckOK, "heard on this LAN")
	case p.AtBase.IsValid():
		r.add("found", api.CheckOK, "at %s, where it asks for this node", f.base(p.AtBase))
	case f.connected():
		r.add("found", api.CheckOK, "by its endpoint")
	case len(registered) > 0:
		var names []string
		for _, b := range registered {
			names = append(names, b.name())
		}
		// A Base tells nobody whom another asks for unless both ask for each other.
		r.add("found", api.CheckFail, "not on this LAN, and not asking for this node at %s", strings.Join(names, ", ")).because(rankAbsent,
			fmt.Sprintf("%s is not on this LAN and does not ask for this node at %s: it is off or offline, uses other Bases, or does not have this node on its whitelist",
				p.name(), strings.Join(names, ", ")),
			fmt.Sprintf("see there that 'hnet status' shows one of these Bases, and run there: %s", f.allow()))
	case len(p.Candidates) > 0 && !p.KeyKnown:
		r.add("found", api.CheckFail, "its key is not known").because(rankNoWay,
			fmt.Sprintf("%s's key is not known, and neither this LAN nor a Base tells it: no handshake can be made", p.name()), byKey)
	case len(p.Candidates) > 0:
		r.add("found", api.CheckSkip, "not heard on this LAN; endpoints are known")
	case len(f.Bases) == 0:
		r.add("found", api.CheckFail, "not on this LAN, and there is no Base").because(rankNoWay,
			fmt.Sprintf("no Base is configured and %s is not on this LAN", p.name()),
			"name a Base under 'bases:' in hnet.yaml on both, or "+byKey)
	case f.BasesUnused:
		r.add("found", api.CheckFail, "not on this LAN, and no endpoint is known").because(rankNoWay,
			fmt.Sprintf("%s is not on this LAN and no endpoint of it is known", p.name()),
			"see that hnetd runs there on the same link, or "+byKey)
	default:
		r.add("found", api.CheckFail, "not on this LAN, and no Base is reached").because(rankNoWay,
			fmt.Sprintf("%s is not on this LAN, and this node is registered with none of its Bases", p.name()),
			"see that this network lets UDP port 5582 or TCP port 443 out, or "+byKey)
	}
}

func (r *report) candidates() {
	f, p := r.f, r.f.Peer
	for i, c := range p.Candidates {
		if i == maxCandidates {
			break
		}
		detail := pathWord(c.Path)
		status := api.CheckSkip
		switch c.Outcome {
		case InUse:
			status = api.CheckOK
			detail += ", in use"
		case Answers:
			status = api.CheckOK
			detail += ", answers"
		case Silent:
			detail += ", no answer"
		case Refused:
			detail += ", refused"
		default:
			detail += ", not tried"
		}
		if c.RTT > 0 {
			detail += ", " + brief(c.RTT)
		}
		r.add("endpoint:"+c.Endpoint.String(), status, "%s%s", strings.TrimPrefix(detail, ", "), because(c.Detail))
	}
	if f.connected() || p.known() || len(f.registered()) > 0 || len(p.Candidates) == 0 || !p.KeyKnown || !p.Handshake.Tried {
		return
	}
	r.add("endpoints", api.CheckFail, "none of %d answers", len(p.Candidates)).because(rankEndpoints,
		fmt.Sprintf("%s does not answer where it should be (%s), and there is no Base to find it by", p.name(), p.Candidates[0].Endpoint),
		fmt.Sprintf("see that hnetd runs there, that firewalls and the router there let its UDP port in, and run there: %s", f.allow()))
}

func pathWord(p api.Path) string {
	switch p {
	case api.PathLAN:
		return "LAN"
	case api.PathDirect:
		return "direct"
	case api.PathRelayUDP:
		return "relay by UDP"
	case api.PathRelayTCP:
		return "relay by TCP"
	}
	return ""
}

func (r *report) handshake() {
	f, p := r.f, r.f.Peer
	ago := "none yet"
	if p.Handshake.Ever {
		ago = "the last one " + long(p.Handshake.Ago) + " ago"
	}
	switch {
	case f.connected():
		r.add("handshake", api.CheckOK, "%s", ago)
	case !p.Handshake.Tried:
		r.add("handshake", api.CheckSkip, "not tried")
	case !p.known():
		r.add("handshake", api.CheckSkip, "no answer; %s", ago)
	case p.OnLAN:
		r.add("handshake", api.CheckFail, "no answer; %s", ago).because(rankHandshake,
			fmt.Sprintf("%s is on this LAN and does not answer: most likely it does not have this node on its whitelist, or a firewall there drops UDP", p.name()),
			fmt.Sprintf("run there: %s; if it is listed, let UDP in there", f.allow()))
	case p.answers():
		r.add("handshake", api.CheckFail, "no answer; %s", ago).because(rankHandshake,
			fmt.Sprintf("something answers where %s should be, but not its handshake: most likely it does not have this node on its whitelist", p.name()),
			"run there: "+f.allow())
	default:
		r.add("handshake", api.CheckFail, "no answer; %s", ago).because(rankHandshake,
			fmt.Sprintf("%s asks for this node at %s and handshakes fail all the same: most likely the preshared keys differ, or packets get lost on the way", p.name(), f.base(p.AtBase)),
			fmt.Sprintf("give both sides the same preshared key ('hnet whitelist add ADDRESS --psk-file FILE') or none; what %s thinks of it is in its log: journalctl -u hnetd", p.name()))
	}
}

func (r *report) path() {
	f, p := r.f, r.f.Peer
	if !f.connected() {
		status, state := api.CheckFail, string(p.State)
		if p.State == api.Idle || p.State == "" {
			status, state = api.CheckSkip, "idle: no contact was made"
		}
		l := r.add("path", status, "none, %s", state)
		if status == api.CheckFail { // what explains it, if anything does, comes before
			l.because(rankEndpoints, fmt.Sprintf("%s could not be reached, and nothing tells why", p.name()),
				fmt.Sprintf("see that hnetd runs there, and run there: %s", f.allow()))
		}
		return
	}
	detail := pathWord(p.Path)
	if p.Via.IsValid() {
		detail += " through " + f.base(p.Via)
	}
	if p.RTT > 0 {
		detail += ", " + brief(p.RTT)
	}
	if p.Path != api.PathRelayUDP && p.Path != api.PathRelayTCP {
		r.add("path", api.CheckOK, "%s", detail)
		return
	}
	cause, fix := f.relayed()
	r.add("path", api.CheckWarn, "%s", detail).because(rankRelayed, cause, fix)
}

// relayed says why there is no direct path, as far as that can be told.
func (f *Findings) relayed() (cause, fix string) {
	p := f.Peer
	through := "a Base"
	if p.Via.IsValid() {
		through = f.base(p.Via)
	}
	there := fmt.Sprintf("switch on UPnP or PCP on %s's router, or forward the UDP port of its hnetd to it there", p.name())
	ownSymmetric := f.NAT.Kind() == nat.Symmetric && !f.mapped()
	switch {
	case f.NAT.UDPBlocked:
		return "UDP is blocked by the network: traffic goes over TCP through " + through, "ask the network's administrator for UDP port 5582 outbound"
	case p.OnLAN:
		return fmt.Sprintf("%s is on this LAN and cannot be reached directly: a firewall on one of the two hosts, or the access point (client isolation), is in the way; relayed through %s", p.name(), through),
			fmt.Sprintf("let %s in on both hosts; switch client isolation off", f.port())
	case p.NAT == nat.UDPBlocked:
		return fmt.Sprintf("%s's network blocks UDP: traffic is relayed through %s", p.name(), through),
			"ask the administrator of that network for UDP port 5582 outbound"
	case ownSymmetric && p.NAT == nat.Symmetric:
		return "both networks give each connection a new port (symmetric NAT): relayed through " + through,
			"switch on UPnP or PCP on one of the two routers, or forward " + f.port() + " to this host on its router"
	case ownSymmetric:
		return fmt.Sprintf("this network gives each connection a new port (symmetric NAT), and %s cannot be reached from outside: relayed through %s until a direct path is found", p.name(), through),
			f.forward()
	case p.NAT == nat.Symmetric:
		return fmt.Sprintf("%s's network gives each connection a new port (symmetric NAT), and this node cannot be reached from outside: relayed through %s until a direct path is found", p.name(), through),
			there
	case f.NAT.Kind() == nat.None && f.NAT.Filtering == nat.FilteringAddressPort, f.NAT.Kind() == nat.None && f.NAT.Filtering == nat.FilteringUnknown:
		return fmt.Sprintf("no direct path to %s was found: a firewall at one end drops UDP; relayed through %s", p.name(), through),
			fmt.Sprintf("let %s in through this host's firewall, or do the same there", f.port())
	}
	return fmt.Sprintf("no direct path to %s was found: a NAT or firewall on the way drops UDP; relayed through %s", p.name(), through),
		f.forward()
}

// plainMTU is the least path MTU that carries the overlay's 1280 bytes unsplit, over IPv4.
const plainMTU = 1340

func (r *report) mtu() {
	p := r.f.Peer
	switch {
	case !r.f.connected() || p.MTU == 0:
		r.add("mtu", api.CheckSkip, "not known")
	case p.MTU >= plainMTU:
		r.add("mtu", api.CheckOK, "%d bytes", p.MTU)
	default:
		r.add("mtu", api.CheckWarn, "%d bytes: packets are split inside the tunnel", p.MTU).because(rankMTU,
			fmt.Sprintf("path MTU to %s is %d: packets are split inside the tunnel, which costs speed and multiplies loss", p.name(), p.MTU),
			"raise the MTU on the way (a VPN, PPPoE or modem in between?); until then keep DDS messages below 1200 bytes (maxMessageSize)")
	}
}

// tolerableLoss is what DDS recovers from without being noticed.
const tolerableLoss = 0.02

func (r *report) loss() {
	p := r.f.Peer
	switch {
	case !r.f.connected() || !p.LossKnown:
		r.add("loss", api.CheckSkip, "not known")
	case p.Loss < tolerableLoss:
		r.add("loss", api.CheckOK, "%.1f %%", 100*p.Loss)
	default:
		fix := "move closer to the access point or use a cable"
		if p.Path != api.PathLAN {
			fix = "see on both ends whether the link is full or its signal weak"
		}
		r.add("loss", api.CheckWarn, "%.1f %%", 100*p.Loss).because(rankLoss,
			fmt.Sprintf("the way to %s loses %.0f %% of the packets", p.name(), 100*p.Loss), fix)
	}
}
