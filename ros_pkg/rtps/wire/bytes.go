package wire

import (
	"encoding/binary"
	"errors"
)

// Reasons for refusing bytes. Errors of this package wrap one of them, or are one.
var (
	ErrNotRTPS        = errors.New("not an RTPS 2 message")
	ErrMalformed      = errors.New("malformed")
	ErrMustUnderstand = errors.New("a parameter that must be understood is not")
	ErrTooLong        = errors.New("too long for the wire")
	ErrInvalid        = errors.New("invalid value")
)

// in reads one byte order from the front of a slice. A read beyond the end gives zero and sets bad.
type in struct {
	b   []byte
	at  int // position in the whole, for alignment
	big bool
	bad bool
}

func (r *in) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	r.at += n
	return v
}

func (r *in) u16() uint16 {
	v := r.take(2)
	if v == nil {
		return 0
	}
	if r.big {
		return binary.BigEndian.Uint16(v)
	}
	return binary.LittleEndian.Uint16(v)
}

func (r *in) u32() uint32 {
	v := r.take(4)
	if v == nil {
		return 0
	}
	if r.big {
		return binary.BigEndian.Uint32(v)
	}
	return binary.LittleEndian.Uint32(v)
}

// align skips to the next multiple of n, which is a power of two. Missing bytes at the very end are no fault.
func (r *in) align(n int) {
	pad := -r.at & (n - 1)
	if pad > len(r.b) {
		pad = len(r.b)
	}
	r.take(pad)
}

// entity is the same in both byte orders: an array of octets.
func (r *in) entity() EntityID {
	v := r.take(4)
	if v == nil {
		return 0
	}
	return EntityID(binary.BigEndian.Uint32(v))
}

func (r *in) prefix() (p GuidPrefix) {
	copy(p[:], r.take(12))
	return p
}

func (r *in) guid() GUID { return GUID{r.prefix(), r.entity()} }

func (r *in) sequence() SequenceNumber {
	high := r.u32()
	return SequenceNumber(uint64(high)<<32 | uint64(r.u32()))
}

func (r *in) locator() (l Locator) {
	l.Kind = LocatorKind(r.u32())
	l.Port = r.u32()
	copy(l.Addr[:], r.take(16))
	return l
}

func (r *in) timestamp() Timestamp {
	seconds := r.u32()
	return Timestamp(uint64(seconds)<<32 | uint64(r.u32()))
}

// out appends in one byte order.
type out struct {
	b   []byte
	big bool
}

func (w *out) u16(v uint16) {
	if w.big {
		w.b = binary.BigEndian.AppendUint16(w.b, v)
	} else {
		w.b = binary.LittleEndian.AppendUint16(w.b, v)
	}
}

func (w *out) u32(v uint32) {
	if w.big {
		w.b = binary.BigEndian.AppendUint32(w.b, v)
	} else {
		w.b = binary.LittleEndian.AppendUint32(w.b, v)
	}
}

func (w *out) putU16(at int, v uint16) {
	if w.big {
		binary.BigEndian.PutUint16(w.b[at:], v)
	} else {
		binary.LittleEndian.PutUint16(w.b[at:], v)
	}
}

// pad appends zeros until the length since start is a multiple of four.
func (w *out) pad(start int) {
	for (len(w.b)-start)&3 != 0 {
		w.b = append(w.b, 0)
	}
}

func (w *out) entity(e EntityID) { w.b = binary.BigEndian.AppendUint32(w.b, uint32(e)) }

func (w *out) guid(g GUID) {
	w.b = append(w.b, g.Prefix[:]...)
	w.entity(g.Entity)
}

func (w *out) sequence(n SequenceNumber) {
	w.u32(uint32(uint64(n) >> 32))
	w.u32(uint32(uint64(n)))
}

func (w *out) locator(l Locator) {
	w.u32(uint32(l.Kind))
	w.u32(l.Port)
	w.b = append(w.b, l.Addr[:]...)
}

func (w *out) timestamp(t Timestamp) {
	w.u32(uint32(t >> 32))
	w.u32(uint32(t))
}
