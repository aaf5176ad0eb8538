// Package fragment cuts a packet that an underlay path cannot carry whole into pieces before it is sealed, and joins them behind the
// receiver's replay window. Since every piece is authenticated, reassembly can be fooled by nobody but the peer itself.
//
// A piece is a plaintext of the tunnel (integers big endian):
//
//	0      type, Type (0x01); no IP version begins so
//	1      piece's number (upper four bits), number of the last piece (lower four bits)
//	2..3   identification, the same in all pieces of a packet
//	4..5   length of the whole packet in bytes
//	6..    the piece's part of the packet; padding may follow
//
// All parts but the last have the same length, the packet's length divided by the number of pieces, rounded up to a multiple of eight.
package fragment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Type is the first byte of a piece.
const Type = 0x01

// HeaderLen is the size of a piece's header in bytes.
const HeaderLen = 6

// Limits of the format and of reassembly.
const (
	MaxPieces = 16
	// MaxPacket is the largest packet that may be cut: what a jumbo underlay carries, so that a reassembly cannot cost more.
	MaxPacket = 9216
	// maxPending is how many packets one peer may have in reassembly; the oldest gives way. With Timeout it bounds a peer to 144 KiB.
	maxPending = 16
	// Timeout is how long a packet waits for its missing pieces. On one path they follow each other at once.
	Timeout = 250 * time.Millisecond
	// maxApart is how far the identifications of packets in reassembly may lie apart. They count up, and come round after 65,536 packets, which is well
	// within a second on a fast link: what a lost piece left would be completed by a piece of another packet. What is later than this by so many
	// pieces is behind the replay window, whatever it is.
	maxApart = 4096
)

var errMalformed = errors.New("malformed piece of a packet")

// Layout says how a packet is cut.
type Layout struct {
	Count int // pieces
	part  int // bytes of the packet in each but the last
	total int
}

// Plan cuts length bytes so that no piece is larger than limit.
func Plan(length, limit int) (Layout, error) {
	room := (limit - HeaderLen) &^ 7
	if room <= 0 || length <= 0 || length > MaxPacket {
		return Layout{}, fmt.Errorf("a packet of %d bytes cannot be cut to %d", length, limit)
	}
	count := (length + room - 1) / room
	if count > MaxPieces {
		return Layout{}, fmt.Errorf("a packet of %d bytes would need %d pieces of %d, more than %d", length, count, limit, MaxPieces)
	}
	return layout(length, count), nil
}

func layout(length, count int) Layout {
	part := ((length+count-1)/count + 7) &^ 7
	return Layout{Count: count, part: part, total: length}
}

// bounds returns where piece i's part lies in the packet.
func (l Layout) bounds(i int) (from, to int) {
	return min(i*l.part, l.total), min((i+1)*l.part, l.total)
}

// Size is the size of piece i with its header.
func (l Layout) Size(i int) int {
	from, to := l.bounds(i)
	return HeaderLen + to - from
}

// Put writes piece i of packet to dst, which holds Size(i) bytes at least, and returns that size.
func (l Layout) Put(dst []byte, id uint16, i int, packet []byte) int {
	from, to := l.bounds(i)
	dst[0] = Type
	dst[1] = byte(i<<4 | (l.Count - 1))
	binary.BigEndian.PutUint16(dst[2:], id)
	binary.BigEndian.PutUint16(dst[4:], uint16(l.total))
	return HeaderLen + copy(dst[HeaderLen:], packet[from:to])
}

// Reassembler joins the pieces of one peer. The zero value is ready and costs no memory before the first piece.
type Reassembler struct {
	pending []*assembly
	bytes   int
}

type assembly struct {
	id     uint16
	layout Layout
	got    uint16 // a bit for each piece
	packet []byte
	since  time.Time
}

// Add takes a piece and returns the packet when it completes it, nil until then. The packet is the caller's.
func (r *Reassembler) Add(now time.Time, piece []byte) ([]byte, error) {
	if len(piece) < HeaderLen || piece[0] != Type {
		return nil, errMalformed
	}
	i, count := int(piece[1]>>4), int(piece[1]&0xf)+1
	id, total := binary.BigEndian.Uint16(piece[2:]), int(binary.BigEndian.Uint16(piece[4:]))
	if i >= count || total == 0 || total > MaxPacket {
		return nil, errMalformed
	}
	l := layout(total, count)
	from, to := l.bounds(i)
	if from >= to || len(piece) < HeaderLen+to-from {
		return nil, errMalformed
	}
	a := r.find(now, id, l)
	a.got |= 1 << i
	copy(a.packet[from:to], piece[HeaderLen:])
	if a.got != 1<<count-1 {
		return nil, nil
	}
	r.remove(a)
	return a.packet, nil
}

// find returns the assembly of a packet, making it if need be. One with the same identification but another layout is an older packet's.
func (r *Reassembler) find(now time.Time, id uint16, l Layout) *assembly {
	r.Expire(now)
	r.forget(id)
	for _, a := range r.pending {
		if a.id == id && a.layout == l {
			return a
		}
	}
	if len(r.pending) >= maxPending {
		r.remove(r.pending[0])
	}
	a := &assembly{id: id, layout: l, packet: make([]byte, l.total), since: now}
	r.pending = append(r.pending, a)
	r.bytes += l.total
	return a
}

// forget gives up the packets whose identification is far from this one.
func (r *Reassembler) forget(id uint16) {
	for i := 0; i < len(r.pending); {
		if apart := int16(id - r.pending[i].id); apart > maxApart || apart < -maxApart {
			r.remove(r.pending[i])
		} else {
			i++
		}
	}
}

// Bytes is how much memory the packets in reassembly take.
func (r *Reassembler) Bytes() int { return r.bytes }

// Next returns when Expire has something to do, the zero time if never.
func (r *Reassembler) Next() time.Time {
	if len(r.pending) == 0 {
		return time.Time{}
	}
	return r.pending[0].since.Add(Timeout)
}

// Expire gives up the packets whose pieces did not come within Timeout.
func (r *Reassembler) Expire(now time.Time) {
	for len(r.pending) > 0 && now.Sub(r.pending[0].since) >= Timeout {
		r.remove(r.pending[0])
	}
}

func (r *Reassembler) remove(a *assembly) {
	for i, other := range r.pending {
		if other == a {
			r.pending = slices.Delete(r.pending, i, i+1)
			r.bytes -= a.layout.total
			break
		}
	}
	if len(r.pending) == 0 {
		r.pending = nil
	}
}
