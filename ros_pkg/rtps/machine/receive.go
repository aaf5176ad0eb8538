package machine

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// HandleDatagram takes a datagram, of which nothing is kept.
func (m *Machine) HandleDatagram(now time.Time, b []byte, a Arrival) {
	m.counters.DatagramsIn++
	m.counters.BytesIn += uint64(len(b))
	if m.closed {
		return
	}
	if m.in.Reset(b) != nil {
		m.counters.Malformed++
		return
	}
	if m.in.Header().Prefix == m.config.Prefix {
		return // our own announcement, by a group; or a forgery
	}
	if m.config.Localhost && !m.mine(a.From.Addr()) {
		return
	}
	var r *remote
	for {
		s, ok := m.in.Next()
		if !ok {
			break
		}
		if d := m.in.Dest(); d != wire.PrefixUnknown && d != m.config.Prefix {
			continue
		}
		prefix := m.in.Source().Prefix
		if r == nil || r.info.Prefix != prefix {
			if r = m.participants[prefix]; r != nil && r.sent(a.From.Addr()) {
				r.touch(now, a.From)
			}
		}
		if d, ok := s.(*wire.Data); ok && d.Writer == wire.EntitySPDPWriter {
			m.onSPDP(now, d, &a)
			r = nil
			continue
		}
		if r == nil {
			continue
		}
		if !r.sent(a.From.Addr()) {
			m.counters.Forged++
			m.complain("source", "somebody sends in the name of a participant from an address that is not its own: ignored", "participant", prefix, "from", a.From)
			return
		}
		m.handle(now, r, s, &a)
	}
	if m.in.Err() != nil {
		m.counters.Malformed++
	}
}

func (m *Machine) handle(now time.Time, r *remote, s wire.Submessage, a *Arrival) {
	prefix := r.info.Prefix
	switch s := s.(type) {
	case *wire.Data:
		m.onData(now, wire.GUID{Prefix: prefix, Entity: s.Writer}, s, a)
	case *wire.DataFrag:
		m.onDataFrag(now, wire.GUID{Prefix: prefix, Entity: s.Writer}, s, a)
	case *wire.Heartbeat:
		for _, p := range m.to(wire.GUID{Prefix: prefix, Entity: s.Writer}) {
			if p.is(s.Reader) {
				p.onHeartbeat(now, s)
			}
		}
	case *wire.HeartbeatFrag:
		for _, p := range m.to(wire.GUID{Prefix: prefix, Entity: s.Writer}) {
			if p.is(s.Reader) {
				p.onHeartbeatFrag(now, s)
			}
		}
	case *wire.Gap:
		for _, p := range m.to(wire.GUID{Prefix: prefix, Entity: s.Writer}) {
			if p.is(s.Reader) {
				p.onGap(now, s)
			}
		}
	case *wire.AckNack:
		if p := m.from(wire.GUID{Prefix: prefix, Entity: s.Reader}, s.Writer); p != nil {
			r.proven = r.proven || m.in.Dest() == m.config.Prefix
			p.onAckNack(now, s)
		}
	case *wire.NackFrag:
		if p := m.from(wire.GUID{Prefix: prefix, Entity: s.Reader}, s.Writer); p != nil {
			p.onNackFrag(now, s)
		}
	}
}

// to returns the readers' proxies of a writer.
func (m *Machine) to(writer wire.GUID) []*writerProxy {
	list := m.writerProxies[writer]
	if list == nil {
		m.counters.Unknown++
	}
	return list
}

// is reports whether a submessage for a reader, or for all, concerns this one.
func (p *writerProxy) is(reader wire.EntityID) bool {
	return reader == wire.EntityUnknown || reader == p.r.guid.Entity
}

// from returns a writer's proxy of a reader.
func (m *Machine) from(reader wire.GUID, writer wire.EntityID) *readerProxy {
	if w := m.writers[writer]; w != nil {
		if p := w.byGUID[reader]; p != nil {
			return p
		}
	}
	m.counters.Unknown++
	return nil
}

func (m *Machine) onData(now time.Time, writer wire.GUID, d *wire.Data, a *Arrival) {
	list := m.to(writer)
	if list == nil {
		return
	}
	q, err := wire.ParseInlineQoS(d.InlineQoS)
	if err != nil {
		m.counters.Malformed++
		return
	}
	for _, p := range list {
		if !p.is(d.Reader) || !p.wants(d.SN) {
			continue
		}
		if len(d.Payload) > p.longest() {
			m.refuseFragment("a sample too large, or in pieces too small, is refused", p)
			continue
		}
		p.dropPart(d.SN)
		p.arrive(now, d.SN, m.recycled.clone(d.Payload), &q, m.in.Time(), a)
	}
}

func (m *Machine) onDataFrag(now time.Time, writer wire.GUID, d *wire.DataFrag, a *Arrival) {
	list := m.to(writer)
	if list == nil {
		return
	}
	q, err := wire.ParseInlineQoS(d.InlineQoS)
	if err != nil {
		m.counters.Malformed++
		return
	}
	for _, p := range list {
		if !p.is(d.Reader) {
			continue
		}
		h := sampleHeader{m.in.Time(), q}
		if b := p.onFragment(now, d, &h, a.From); b != nil {
			p.arrive(now, d.SN, b, &h.inline, h.time, a)
		}
	}
}

// arrive makes a sample of a payload, which is the proxy's now.
func (p *writerProxy) arrive(now time.Time, seq wire.SequenceNumber, payload []byte, q *wire.InlineQoS, at wire.Timestamp, a *Arrival) {
	s := Sample{
		Payload: payload, Writer: p.guid(), Sequence: seq, ReceiveTime: now, From: a.From, Local: a.Local,
		Interface: a.Interface, Loopback: p.r.m.mine(a.From.Addr()),
		Status: Status(q.Status & (wire.StatusDisposed | wire.StatusUnregistered)),
	}
	s.SourceTime, _ = at.Time()
	if q.HasRelated {
		s.Related = &SampleIdentity{Writer: q.Related.Writer, Sequence: q.Related.SN}
	}
	var key wire.GUID
	if q.HasKeyHash {
		key = wire.GUIDFrom(q.KeyHash)
	}
	p.accept(now, s, key)
}
