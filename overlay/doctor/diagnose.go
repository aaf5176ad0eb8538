package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

// rank orders causes: of several, the one with the smallest explains the others or must be mended first. What fails comes before what warns.
type rank uint8

// The order of precedence.
const (
	rankClone     rank = iota // two hosts with one identity disturb everything else
	rankNetwork               // without a network nothing can work
	rankSelf                  // the question makes no sense
	rankDenied                // this node itself refuses
	rankLoop                  // the way leads through the overlay itself
	rankClock                 // peers refuse what seems old
	rankBases                 // Bases that are not reached explain that peers are not
	rankNoWay                 // it is not known where the peer is
	rankAbsent                // the peer is not where it should be
	rankHandshake             // it is there and does not answer
	rankEndpoints             // nothing answers where it should be
	rankDDS                   // the network works and programs do not use it
	rankUDP                   // from here on: it works, and could be better
	rankRelayed               // by a detour
	rankMTU
	rankLoss
	rankNAT
	rankClockSlow
	rankSomeBases
	rankNoBases
	rankWarning // what the daemon itself complains of
)

// line is a check with what it means. A check that warns or fails has a cause and a fix.
type line struct {
	api.Check
	rank       rank
	cause, fix string
}

// report collects lines.
type report struct {
	f     *Findings
	lines []line
}

func (r *report) add(name string, status api.CheckStatus, format string, args ...any) *line {
	r.lines = append(r.lines, line{Check: api.Check{Name: name, Status: status, Detail: cmp.Or(oneLine(fmt.Sprintf(format, args...)), "no details")}, rank: rankWarning})
	return &r.lines[len(r.lines)-1]
}

// because gives a line its cause and fix.
func (l *line) because(rank rank, cause, fix string) {
	l.rank, l.cause, l.fix = rank, cmp.Or(oneLine(cause), l.Detail), cmp.Or(oneLine(fix), "see 'hnet status'")
}

// Bounds of a diagnosis. Peers that relay count as Bases, and there may be many.
const (
	maxBases      = 32
	maxCandidates = 16
	maxChecks     = 256 // what follows is left out; there are not as many
)

// Diagnose says what was found, and which cause matters most. Of the causes of checks that fail, else of those that warn, it is the first in
// this order: a cloned identity; no network; the peer is this node; not on the own whitelist; a path through the overlay itself; a clock that
// peers do not accept; no Base reached; nothing known of where the peer is; the peer not at its Bases; no answer to handshakes; no answer at its
// endpoints; the DDS profile; and of what works but could be better: UDP blocked, relayed, small MTU, loss, the kind of NAT, a wrong clock that
// does no harm, some Bases not reached, no Bases, the daemon's other warnings.
func Diagnose(f Findings) api.Diagnosis {
	f.Bases = f.Bases[:min(len(f.Bases), maxBases)]
	r := &report{f: &f}
	r.network()
	r.clock()
	r.udp()
	r.nat()
	r.portMapping()
	r.bases()
	if f.Peer != nil {
		r.peer()
	}
	r.dds()
	r.warnings()
	d := api.Diagnosis{Checks: make([]api.Check, 0, len(r.lines))}
	if f.Peer != nil {
		d.Peer, d.Hostname = f.Peer.Address, f.Peer.Hostname
	}
	for _, l := range r.lines[:min(len(r.lines), maxChecks)] {
		d.Checks = append(d.Checks, l.Check)
	}
	if l := r.worst(); l != nil {
		d.Cause, d.Fix = l.cause, l.fix
	}
	return d
}

// worst returns the line with the cause that matters most, nil if there is none.
func (r *report) worst() *line {
	for _, status := range []api.CheckStatus{api.CheckFail, api.CheckWarn} {
		var worst *line
		for i := range r.lines {
			if l := &r.lines[i]; l.Status == status && l.cause != "" && (worst == nil || l.rank < worst.rank) {
				worst = l
			}
		}
		if worst != nil {
			return worst
		}
	}
	return nil
}

// connected tells whether traffic can flow to the peer asked about.
func (f *Findings) connected() bool { return f.Peer != nil && f.Peer.State == api.Connected }

// registered returns the Bases that keep this node's registration.
func (f *Findings) registered() (bases []Base) {
	if f.BasesUnused {
		return nil
	}
	for _, b := range f.Bases {
		if b.State == api.BaseRegistered {
			bases = append(bases, b)
		}
	}
	return bases
}

// base names a Base for a sentence.
func (f *Findings) base(address netip.Addr) string {
	if i := slices.IndexFunc(f.Bases, func(b Base) bool { return b.Address == address }); i >= 0 {
		return f.Bases[i].name()
	}
	return "Base " + address.String()
}

func (b Base) name() string {
	if b.Host == "" {
		return "Base " + b.Address.String()
	}
	return "Base " + b.Host
}

// name is the peer's for a sentence.
func (p *Peer) name() string {
	if p.Hostname != "" {
		return p.Hostname
	}
	return p.Address.String()
}

// port is the UDP port that others must be able to reach.
func (f *Findings) port() string {
	if f.Port == 0 {
		return "the UDP port of hnetd"
	}
	return fmt.Sprintf("UDP port %d", f.Port)
}

// allow is what this node needs to be run on the peer.
func (f *Findings) allow() string { return "hnet whitelist add " + f.Address.String() }

// long writes a duration as people say it.
func long(d time.Duration) string {
	d = d.Abs()
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{365 * 24 * time.Hour, "year"}, {24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := d / u.unit; n == 1 {
			return "1 " + u.name
		} else if n > 1 {
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return "less than a second"
}

// brief writes a round-trip time in milliseconds with three digits or fewer.
func brief(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 9.995:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 99.95:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
