package engine

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/path"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// maxProbesAtOnce bounds the probes of one tick of one peer; what is left comes with the next.
const maxProbesAtOnce = 64

// pending reports whether there is something to perform that no machine asked for.
func (a *action) pending() bool { return len(a.outputs) > 0 || len(a.events) > 0 }

// output carries out what the path machine wants.
func (o *outbound) output(now time.Time, p *peer, x path.Output) {
	switch x.Signal {
	case path.NoSignal:
		o.probe(now, p, x.Probe)
	default:
		p.mu.Lock()
		twofold := p.chooses() && p.routes.machine.Twofold(now)
		p.mu.Unlock()
		o.inner(now, p, o.e.endpointsMessage(x.Signal, twofold))
		if x.Signal == path.SignalSpray {
			o.e.spray(now, p)
		}
	}
}

// probe sends one probe of the path machine, padded to the size that it asks about.
func (o *outbound) probe(now time.Time, p *peer, probe path.Probe) {
	p.mu.Lock()
	at := p.pathOf(o.e, probe.Key, 0, probe.Size)
	p.mu.Unlock()
	if !at.valid() {
		return
	}
	size := innerLen
	if limit := at.plaintextLimit(); limit > size {
		size = limit
	}
	m := make([]byte, size)
	m[0], m[1] = innerProbe, probe.Flags
	binary.BigEndian.PutUint32(m[4:], probe.Sequence)
	if _, relayed := at.Carrier.(Relay); !relayed {
		at.ttl, at.df = probe.TTL, probe.DF
		if !o.e.quota.take(now, at.Remote.Addr()) {
			return
		}
	}
	o.innerOn(now, p, at, m)
}

// probed answers a peer's probe, the way it came.
func (in *inbound) probed(now time.Time, p *peer, at Path, b []byte) {
	reply := make([]byte, innerLen)
	copy(reply, b)
	reply[0] = innerProbeReply
	in.out.innerOn(now, p, at, reply)
	in.chosen(now, p, func() {
		p.routes.note(at.key(), p.path.key()).local = at.Local
		p.routes.machine.Asked(now, at.key(), at.Kind, b[1])
	})
}

// probeReply takes the answer to a probe of ours.
func (in *inbound) probeReply(now time.Time, p *peer, at Path, b []byte) {
	in.chosen(now, p, func() {
		p.routes.note(at.key(), p.path.key()).local = at.Local
		m := p.routes.machine
		m.SetQueueing(p.path.queueing(now))
		if m.Reply(now, at.key(), at.Kind, binary.BigEndian.Uint32(b[4:])) {
			p.roundTrip(now, at.key(), m.Sample())
			if !at.relayed() {
				in.e.quota.heard(now, at.Remote.Addr())
			}
		}
	})
}

// chosen tells the path machine something and follows its choice.
func (in *inbound) chosen(now time.Time, p *peer, f func()) {
	in.with(now, p, func() wireguard.Todo {
		if p.chooses() {
			f()
		}
		return 0
	})
}

// ends are where this node may be found, as its peers are told inside the tunnel.
type ends struct {
	list    []netip.AddrPort
	mapping path.Mapping
}

// SetEndpoints tells where this node may be found by now, the likeliest first, 16 at the most, and how the NAT in front of it maps. Peers that
// are reached by a relay are told at once.
func (e *Engine) SetEndpoints(list []netip.AddrPort, mapping path.Mapping) {
	list = slices.DeleteFunc(slices.Clone(list), onItsLinkOnly)
	list = list[:min(len(list), maxToldEnds)]
	if old := e.ends.Swap(&ends{list, mapping}); old != nil && slices.Equal(old.list, list) && old.mapping == mapping {
		return
	}
	for _, p := range e.peers.all() {
		e.with(p, func(now time.Time) wireguard.Todo {
			if p.chooses() && p.up {
				p.routes.machine.Punch(now)
			}
			return 0
		})
		e.controlMu.Lock()
		e.sprayLate(time.Now(), p, e.control)
		e.control.flush()
		e.controlMu.Unlock()
	}
}

// SetSpareEndpoints tells where this node may be found by the uplinks that its routing does not choose, 8 at the most. Peers with whom traffic goes on
// two paths are told, and nobody else.
func (e *Engine) SetSpareEndpoints(list []netip.AddrPort) {
	list = slices.Clone(list[:min(len(list), maxToldEnds/2)])
	e.spareEnds.Store(&list)
	if len(list) == 0 {
		return
	}
	e.controlMu.Lock()
	defer e.controlMu.Unlock()
	now := time.Now()
	for _, p := range e.peers.all() {
		p.mu.Lock()
		twofold := p.chooses() && p.up && p.routes.machine.Twofold(now)
		p.mu.Unlock()
		if twofold {
			e.control.inner(now, p, e.endpointsMessage(path.NoSignal, true))
		}
	}
	e.control.flush()
}

// onItsLinkOnly reports whether an endpoint says nothing to who is told of it inside the tunnel: a link-local one without the link. LAN discovery
// tells of those.
func onItsLinkOnly(e netip.AddrPort) bool { return e.Addr().Is6() && e.Addr().IsLinkLocalUnicast() }

const endpointLen = 18

// endpointsMessage is this node's, see innerEndpoints; twofold says that the peer is to know the spare uplinks, too.
func (e *Engine) endpointsMessage(signal path.Signal, twofold bool) []byte {
	own := e.ends.Load()
	if own == nil {
		own = &ends{}
	}
	list := own.list
	if spares := e.spareEnds.Load(); spares != nil && twofold {
		list = slices.Concat(list[:min(len(list), maxToldEnds-len(*spares))], *spares)
	}
	b := make([]byte, innerLen, innerLen+len(list)*endpointLen)
	b[0], b[1], b[2], b[3] = innerEndpoints, byte(signal), byte(own.mapping), byte(len(list))
	for _, x := range list {
		a := x.Addr().As16()
		b = append(b, a[:]...)
		b = binary.BigEndian.AppendUint16(b, x.Port())
	}
	return b
}

// endpoints takes the peer's word of where it is. It is believed as far as probing goes: a path carries traffic only once it has answered.
func (in *inbound) endpoints(now time.Time, p *peer, b []byte) {
	count := int(b[3])
	if count > maxToldEnds || len(b) < innerLen+count*endpointLen {
		in.e.stats.Malformed.Add(1)
		return
	}
	told := make([]netip.AddrPort, 0, count)
	for x := b[innerLen:]; len(told) < count; x = x[endpointLen:] {
		told = append(told, netip.AddrPortFrom(netip.AddrFrom16([16]byte(x[:16])).Unmap(), binary.BigEndian.Uint16(x[16:])))
	}
	told = slices.DeleteFunc(told, onItsLinkOnly)
	contact, _ := in.e.cfg.Directory.ByAddress(p.address)
	signal := path.Signal(b[1])
	in.chosen(now, p, func() {
		p.routes.told, p.routes.mapping = told, path.Mapping(b[2])
		p.offer(in.e, now, contact)
		p.routes.machine.Signaled(now, signal)
	})
	if signal == path.SignalSpray {
		in.e.spray(now, p)
	} else {
		in.e.sprayLate(now, p, in.out)
	}
}

// SetHops tells how many routers are between this node and its Base: what shall open our NATs and die before another's is sent no further.
func (e *Engine) SetHops(n int) {
	e.hops.Store(int32(n))
	for _, p := range e.peers.all() {
		p.mu.Lock()
		if p.chooses() {
			p.routes.machine.SetTTL(byte(n))
		}
		p.mu.Unlock()
	}
}
