package machine

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

const (
	// partLife is how long an incomplete sample is kept without a new fragment. A reliable writer sends it anew.
	partLife           = 10 * time.Second
	bestEffortPartLife = 2 * time.Second
	otherSource        = 20 * time.Millisecond
	maxParts           = 16 // incomplete samples of one writer to one reader
	maxNackFrags       = 8  // submessages per answer

	// A buffer may be this much longer than four times what arrived: a single fragment at the end of a sample that
	// claims to be huge shall not cost its size.
	freeGrowth = 1 << 20
)

// assembly is a sample that is not complete.
type assembly struct {
	seq      wire.SequenceNumber
	size     uint32 // of the sample
	fragment uint16
	have     []uint64 // bits
	count    uint32   // of those
	buf      []byte
	cost     int // bytes accounted for
	got      int // bytes arrived
	at       time.Time
	header   sampleHeader
	from     netip.AddrPort
}

// sampleHeader is what comes with a sample besides its payload. Of a fragmented one, Cyclone DDS sends it with the first fragment only; so every fragment
// may bring it.
type sampleHeader struct {
	time   wire.Timestamp
	inline wire.InlineQoS
}

func (h *sampleHeader) add(time wire.Timestamp, q *wire.InlineQoS) {
	if h.time == wire.TimeInvalid {
		h.time = time
	}
	if !h.inline.HasRelated && q.HasRelated {
		h.inline.Related, h.inline.HasRelated = q.Related, true
	}
	if !h.inline.HasKeyHash && q.HasKeyHash {
		h.inline.KeyHash, h.inline.HasKeyHash = q.KeyHash, true
	}
	h.inline.Status |= q.Status
}

// onFragment takes fragments; the sample is returned when it is complete, its payload belonging to the caller, and its header is put where h is.
func (p *writerProxy) onFragment(now time.Time, d *wire.DataFrag, h *sampleHeader, from netip.AddrPort) []byte {
	m := p.r.m
	if !p.wants(d.SN) {
		return nil
	}
	// Fragments of a few bytes would make a sample of more fragments than bytes.
	if uint64(d.SampleSize) > uint64(p.longest()) || d.FragmentSize < 64 && d.SampleSize > 1<<16 {
		m.refuseFragment("a sample too large, or in pieces too small, is refused", p)
		return nil
	}
	if p.known && d.SN-p.next >= maxAhead {
		m.counters.RefusedHeld++
		return nil
	}
	a := p.parts[d.SN]
	if a != nil && a.from != from {
		// All of a sample comes from one socket: who completes it is taken for its sender. By another way it may be sent again, when the first falls silent.
		if now.Sub(a.at) < otherSource {
			m.refuseFragment("fragments of one sample from several sources are refused", p)
			return nil
		}
		p.dropPart(d.SN)
		a = nil
	}
	if a != nil && (a.size != d.SampleSize || a.fragment != d.FragmentSize) {
		if a.count > 0 && now.Sub(a.at) < time.Second {
			m.refuseFragment("fragments that do not fit together are refused", p)
			return nil
		}
		p.dropPart(d.SN)
		a = nil
	}
	if a == nil {
		if a = p.newPart(now, d); a == nil {
			return nil
		}
		a.header.time, a.from = wire.TimeInvalid, from
	}
	start := int(d.Offset())
	end := start + len(d.Payload)
	if !p.grow(a, end, len(d.Payload)) {
		m.refuseFragment("samples that are not complete take too much memory: fragments are refused", p)
		return nil
	}
	size := int(a.fragment)
	for i := range int(d.Fragments) {
		n := int(d.FirstFragment) - 1 + i
		if a.have[n/64]&(1<<(n%64)) != 0 {
			continue
		}
		a.have[n/64] |= 1 << (n % 64)
		a.count++
		from := i * size
		to := min(from+size, len(d.Payload))
		copy(a.buf[start+from:], d.Payload[from:to])
		a.got += to - from
	}
	a.at = now
	p.fragAt = now
	a.header.add(h.time, &h.inline)
	if a.count < d.FragmentCount() {
		return nil
	}
	*h = a.header
	b := a.buf[:a.size]
	p.dropPart(d.SN)
	return b
}

func (m *Machine) refuseFragment(text string, p *writerProxy) {
	m.counters.RefusedFragments++
	m.complain(text, text, "writer", p.guid(), "topic", p.r.config.Topic)
}

// newPart makes room for one more incomplete sample.
func (p *writerProxy) newPart(now time.Time, d *wire.DataFrag) *assembly {
	p.expire(now)
	for len(p.parts) >= maxParts {
		oldest := slices.Min(slices.Collect(maps.Keys(p.parts)))
		newest := slices.Max(slices.Collect(maps.Keys(p.parts)))
		if p.reliable {
			// The later ones can wait: the reader needs the earlier ones first.
			if d.SN > newest {
				return nil
			}
			p.dropPart(newest)
		} else {
			if d.SN < oldest {
				return nil
			}
			p.dropPart(oldest)
		}
	}
	n := int(d.FragmentCount())
	a := &assembly{
		seq: d.SN, size: d.SampleSize, fragment: d.FragmentSize, have: make([]uint64, (n+63)/64), at: now,
	}
	if !p.charge(a, n/8+256) {
		p.r.m.refuseFragment("samples that are not complete take too much memory: fragments are refused", p)
		return nil
	}
	if p.parts == nil {
		p.parts = make(map[wire.SequenceNumber]*assembly)
	}
	p.parts[d.SN] = a
	return a
}

// charge accounts for n bytes more.
func (p *writerProxy) charge(a *assembly, n int) bool {
	l := &p.r.m.config.Limits
	if p.assembling+n > l.WriterAssembly || p.r.m.reassembly+n > l.Reassembly {
		return false
	}
	a.cost += n
	p.assembling += n
	p.r.m.reassembly += n
	return true
}

// grow makes the buffer reach to end, when more bytes have arrived.
func (p *writerProxy) grow(a *assembly, end, more int) bool {
	if end <= len(a.buf) {
		return true
	}
	most := 4*(a.got+more) + freeGrowth
	if end > most {
		return false
	}
	n := min(int(a.size), max(end, most))
	if !p.charge(a, n-len(a.buf)) {
		return false
	}
	b := p.r.m.recycled.get(n)
	copy(b, a.buf)
	p.r.m.recycled.put(a.buf)
	a.buf = b
	return true
}

func (p *writerProxy) dropPart(seq wire.SequenceNumber) {
	if a := p.parts[seq]; a != nil {
		p.assembling -= a.cost
		p.r.m.reassembly -= a.cost
		delete(p.parts, seq)
	}
}

// expire drops what no fragment has come for.
func (p *writerProxy) expire(now time.Time) {
	life := partLife
	if !p.reliable {
		life = bestEffortPartLife
	}
	for seq, a := range p.parts {
		if now.Sub(a.at) > life {
			p.dropPart(seq)
		}
	}
}

// askParts asks for the missing fragments of incomplete samples.
func (p *writerProxy) askParts(b *wire.Builder) {
	asked := 0
	for _, seq := range slices.Sorted(maps.Keys(p.parts)) {
		a := p.parts[seq]
		if seq > p.last && p.last != 0 {
			break
		}
		total := (a.size + uint32(a.fragment) - 1) / uint32(a.fragment)
		for i := uint32(0); i < total; {
			if a.have[i/64]&(1<<(i%64)) != 0 {
				i++
				continue
			}
			set := wire.NewFragmentNumberSet(wire.FragmentNumber(i + 1))
			for ; i < total && set.Add(wire.FragmentNumber(i+1)); i++ {
				for i+1 < total && a.have[(i+1)/64]&(1<<((i+1)%64)) != 0 {
					i++
				}
			}
			p.nackCount++
			b.NackFrag(&wire.NackFrag{
				Reader: p.r.guid.Entity, Writer: p.guid().Entity, SN: seq, Set: set, Count: p.nackCount,
			})
			if asked++; asked == maxNackFrags {
				return
			}
		}
	}
}

// onHeartbeatFrag takes which fragments of a sample the writer has sent.
func (p *writerProxy) onHeartbeatFrag(now time.Time, h *wire.HeartbeatFrag) {
	if !p.reliable || !p.known || !p.fragBeats.take(now, h.Count) {
		return
	}
	// What has been overtaken may still come: only what the one before told of is asked for. The end is told of by a
	// heartbeat.
	last := p.fragLast
	p.fragLast = h.LastFragment
	if p.fragOf != h.SN {
		p.fragOf = h.SN
		return
	}
	a := p.parts[h.SN]
	if a == nil {
		return // a heartbeat tells of it
	}
	total := (a.size + uint32(a.fragment) - 1) / uint32(a.fragment)
	set := wire.FragmentNumberSet{}
	for i := uint32(0); i < min(total, uint32(last)); i++ {
		if a.have[i/64]&(1<<(i%64)) != 0 {
			continue
		}
		n := wire.FragmentNumber(i + 1)
		if set.Base == 0 {
			set = wire.NewFragmentNumberSet(n)
		}
		if !set.Add(n) {
			break
		}
	}
	if set.Base == 0 {
		return
	}
	m := p.r.m
	b := m.message(p.remote.info.Prefix)
	p.nackCount++
	b.NackFrag(&wire.NackFrag{Reader: p.r.guid.Entity, Writer: p.guid().Entity, SN: h.SN, Set: set, Count: p.nackCount})
	m.post(p.to())
}
