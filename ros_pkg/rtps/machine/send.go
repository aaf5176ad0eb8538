package machine

import "github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"

// skipped tells what does not concern the reader, if the message has the order to allow for it.
func (p *readerProxy) skipped(b *wire.Builder) {
	if p.skip == 0 {
		return
	}
	if p.reliable {
		p.gap(b, gapRange{p.skip, p.next - 1})
	}
	p.skip = 0
}

// gapRange is numbers of which nothing comes, the last one included.
type gapRange struct{ from, to wire.SequenceNumber }

func (p *readerProxy) gap(b *wire.Builder, g gapRange) {
	p.fit(b, wire.GapLen(0))
	b.Gap(&wire.Gap{
		Reader: p.guid().Entity, Writer: p.w.guid.Entity, Start: g.from, Set: wire.NewSequenceNumberSet(g.to + 1),
	})
}

// fit posts the message first if n more bytes would make it too long.
func (p *readerProxy) fit(b *wire.Builder, n int) {
	if b.Len()+n > p.limit() {
		p.w.m.post(p.to())
	}
}

// header is the inline QoS of a sample.
func (p *readerProxy) header(c *change) wire.ParameterList {
	if !c.relates && c.status == Alive && !c.keyed {
		return wire.ParameterList{}
	}
	q := wire.InlineQoS{Status: wire.StatusInfo(c.status)}
	if c.relates {
		q.Related, q.HasRelated = wire.SampleIdentity{Writer: c.related.Writer, SN: c.related.Sequence}, true
	}
	if c.keyed {
		q.KeyHash, q.HasKeyHash = c.key.Bytes(), true
	}
	m := p.w.m
	m.inline = wire.AppendInlineQoS(m.inline[:0], q)
	return wire.ParameterList{Bytes: m.inline}
}

// send writes a sample, or as many of its fragments as may go, and reports whether it is complete.
func (p *readerProxy) send(b *wire.Builder, c *change, payload []byte, left *int) bool {
	inline := p.header(c)
	if p.whole(b, c, payload, inline, left) {
		return true
	}
	size := p.fragment()
	count := uint32((len(payload) + size - 1) / size)
	for p.frag < count {
		if *left <= 0 {
			return false
		}
		p.part(b, c, payload, inline, p.frag, size, left)
		if p.frag++; p.reliable && p.frag < count && p.frag%64 == 0 {
			p.fragHBCount++
			p.fit(b, wire.HeartbeatFragLen)
			b.HeartbeatFrag(wire.HeartbeatFrag{
				Reader: p.guid().Entity, Writer: p.w.guid.Entity, SN: c.seq,
				LastFragment: wire.FragmentNumber(p.frag), Count: p.fragHBCount,
			})
		}
	}
	return true
}

// whole writes a sample that needs no fragments, and reports whether it is one.
func (p *readerProxy) whole(b *wire.Builder, c *change, payload []byte, inline wire.ParameterList, left *int) bool {
	n := wire.InfoTSLen + wire.DataLen(len(inline.Bytes), len(payload))
	if n+wire.HeartbeatLen+36 > p.limit() {
		return false
	}
	p.fit(b, n)
	p.data(b, c, payload, inline)
	*left -= n
	p.pace.spend(n)
	return true
}

func (p *readerProxy) data(b *wire.Builder, c *change, payload []byte, inline wire.ParameterList) {
	b.InfoTS(wire.TimestampFrom(c.at))
	d := &p.w.m.data
	*d = wire.Data{
		Reader: p.guid().Entity, Writer: p.w.guid.Entity, SN: c.seq, InlineQoS: inline, Content: wire.DataContent,
		Payload: payload,
	}
	if c.status != Alive {
		d.Content = wire.KeyContent
		if len(payload) == 0 {
			d.Content = wire.NoContent
		}
	}
	b.Data(d)
	d.Payload = nil
}

// part writes one fragment, from 0, in a message of its own.
func (p *readerProxy) part(b *wire.Builder, c *change, payload []byte, inline wire.ParameterList, i uint32, size int, left *int) {
	m := p.w.m
	start := int(i) * size
	end := min(start+size, len(payload))
	n := wire.InfoTSLen + wire.DataFragLen(len(inline.Bytes), end-start)
	p.fit(b, n)
	b.InfoTS(wire.TimestampFrom(c.at))
	d := &m.dataFrag
	*d = wire.DataFrag{
		Reader: p.guid().Entity, Writer: p.w.guid.Entity, SN: c.seq, FirstFragment: wire.FragmentNumber(i + 1),
		Fragments: 1, FragmentSize: uint16(size), SampleSize: uint32(len(payload)), InlineQoS: inline,
		Payload: payload[start:end],
	}
	b.DataFrag(d)
	d.Payload = nil
	*left -= n
	p.pace.spend(n)
}
