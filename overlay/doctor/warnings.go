package doctor

import (
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
)

// The codes of [Warnings].
const (
	UDPBlocked       health.Code = "udp_blocked"       // a Base answers by TCP, none by UDP
	BaseUnreachable  health.Code = "base_unreachable"  // one Base of several; the subject is its address
	BasesUnreachable health.Code = "bases_unreachable" // all of them
	ClockWrong       health.Code = "clock_wrong"
	PathMTU          health.Code = "path_mtu"    // packets to a peer are split; the subject is its address
	DDSProfile       health.Code = "dds_profile" // programs use one that does not fit
)

// Codes are all that [Warnings] can return: whoever raises those warnings clears the others of these codes.
var Codes = []health.Code{UDPBlocked, BaseUnreachable, BasesUnreachable, ClockWrong, PathMTU, DDSProfile}

// Warnings returns the findings that last and that someone should mend. That a peer is relayed or that a NAT is symmetric is none: mostly nobody
// who reads it can change that, and a warning that never goes hides others. The caller decides how long something must hold, such as a
// Base that does not answer.
func Warnings(f Findings) (list []health.Warning) {
	bases := f.Bases
	if f.BasesUnused {
		bases = nil
	}
	down := 0
	for _, b := range bases {
		if b.State == api.BaseUnreachable {
			down++
		}
	}
	if down > 0 && down == len(bases) {
		list = append(list, health.Warning{Code: BasesUnreachable, Text: "no Base can be reached" + because(bases[0].LastError),
			Fix: "see that this network leads to the Internet and lets UDP port 5582 or TCP port 443 out, and that a Base runs"})
	} else if down > 0 {
		for _, b := range bases {
			if b.State == api.BaseUnreachable {
				list = append(list, health.Warning{Code: BaseUnreachable, Subject: b.Address.String(),
					Text: b.name() + " cannot be reached" + because(b.LastError), Fix: b.reach()})
			}
		}
	}
	// The rest is what Diagnose says of these checks when it looks at nothing else.
	add := func(code health.Code, subject string, check func(*report)) {
		r := &report{f: &f}
		check(r)
		if l := r.worst(); l != nil {
			list = append(list, health.Warning{Code: code, Subject: subject, Text: l.cause, Fix: l.fix})
		}
	}
	if f.NAT.UDPBlocked {
		add(UDPBlocked, "", (*report).udp)
	}
	add(ClockWrong, "", (*report).clock)
	add(DDSProfile, "", (*report).dds)
	if f.Peer != nil {
		list = append(list, PeerWarnings(f)...)
	}
	return list
}

// PeerWarnings are those of [Warnings] that are about f.Peer alone, which must not be nil.
func PeerWarnings(f Findings) []health.Warning {
	r := &report{f: &f}
	r.mtu()
	if l := r.worst(); l != nil {
		return []health.Warning{{Code: PathMTU, Subject: f.Peer.Address.String(), Text: l.cause, Fix: l.fix}}
	}
	return nil
}
