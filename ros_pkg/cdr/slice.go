package cdr

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// The plural methods write and read the elements of an array or sequence, without its count. No elements means no alignment either.

// room appends n elements of size bytes, aligned, and returns them to be filled.
func (e *Encoder) room(n, size int) []byte {
	if n == 0 {
		return nil
	}
	e.Align(size)
	at := len(e.buf)
	e.buf = slices.Grow(e.buf, n*size)[:at+n*size]
	return e.buf[at:]
}

// Bools writes elements.
func (e *Encoder) Bools(v []bool) {
	for _, x := range v {
		e.Bool(x)
	}
}

// Int8s writes elements.
func (e *Encoder) Int8s(v []int8) {
	b := e.room(len(v), 1)
	for i, x := range v {
		b[i] = byte(x)
	}
}

// Uint16s writes elements.
func (e *Encoder) Uint16s(v []uint16) { put16(e, v) }

// Int16s writes elements.
func (e *Encoder) Int16s(v []int16) { put16(e, v) }

// Uint32s writes elements.
func (e *Encoder) Uint32s(v []uint32) { put32(e, v) }

// Int32s writes elements.
func (e *Encoder) Int32s(v []int32) { put32(e, v) }

// Uint64s writes elements.
func (e *Encoder) Uint64s(v []uint64) { put64(e, v) }

// Int64s writes elements.
func (e *Encoder) Int64s(v []int64) { put64(e, v) }

// Float32s writes elements.
func (e *Encoder) Float32s(v []float32) {
	b := e.room(len(v), 4)
	for i, x := range v {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(x))
	}
}

// Float64s writes elements.
func (e *Encoder) Float64s(v []float64) {
	b := e.room(len(v), 8)
	for i, x := range v {
		binary.LittleEndian.PutUint64(b[8*i:], math.Float64bits(x))
	}
}

// Strings writes elements.
func (e *Encoder) Strings(v []string) {
	for _, x := range v {
		e.String(x)
	}
}

// StringsMax writes elements of at most max bytes each.
func (e *Encoder) StringsMax(v []string, max int) {
	for _, x := range v {
		e.StringMax(x, max)
	}
}

func put16[T uint16 | int16](e *Encoder, v []T) {
	b := e.room(len(v), 2)
	for i, x := range v {
		binary.LittleEndian.PutUint16(b[2*i:], uint16(x))
	}
}

func put32[T uint32 | int32](e *Encoder, v []T) {
	b := e.room(len(v), 4)
	for i, x := range v {
		binary.LittleEndian.PutUint32(b[4*i:], uint32(x))
	}
}

func put64[T uint64 | int64](e *Encoder, v []T) {
	b := e.room(len(v), 8)
	for i, x := range v {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(x))
	}
}

// elements returns the bytes of n elements of size bytes, aligned; nil if there are none or the message ends early.
func (d *Decoder) elements(n, size int) []byte {
	if n == 0 || d.err != nil {
		return nil
	}
	if n > d.Remaining()/size { // so that n*size does not overflow
		d.fail(ErrShort)
		return nil
	}
	return d.take(n*size, size)
}

// Bools fills v.
func (d *Decoder) Bools(v []bool) {
	b := d.elements(len(v), 1)
	if b == nil {
		clear(v)
		return
	}
	for i := range v {
		v[i] = b[i] == 1
		if b[i] > 1 {
			d.fail(ErrValue)
		}
	}
}

// Int8s fills v.
func (d *Decoder) Int8s(v []int8) {
	b := d.elements(len(v), 1)
	if b == nil {
		clear(v)
		return
	}
	for i := range v {
		v[i] = int8(b[i])
	}
}

// Uint16s fills v.
func (d *Decoder) Uint16s(v []uint16) { get16(d, v) }

// Int16s fills v.
func (d *Decoder) Int16s(v []int16) { get16(d, v) }

// Uint32s fills v.
func (d *Decoder) Uint32s(v []uint32) { get32(d, v) }

// Int32s fills v.
func (d *Decoder) Int32s(v []int32) { get32(d, v) }

// Uint64s fills v.
func (d *Decoder) Uint64s(v []uint64) { get64(d, v) }

// Int64s fills v.
func (d *Decoder) Int64s(v []int64) { get64(d, v) }

// Float32s fills v.
func (d *Decoder) Float32s(v []float32) {
	b := d.elements(len(v), 4)
	if b == nil {
		clear(v)
		return
	}
	if d.big {
		for i := range v {
			v[i] = math.Float32frombits(binary.BigEndian.Uint32(b[4*i:]))
		}
		return
	}
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
}

// Float64s fills v.
func (d *Decoder) Float64s(v []float64) {
	b := d.elements(len(v), 8)
	if b == nil {
		clear(v)
		return
	}
	if d.big {
		for i := range v {
			v[i] = math.Float64frombits(binary.BigEndian.Uint64(b[8*i:]))
		}
		return
	}
	for i := range v {
		v[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
	}
}

// Strings fills v; an element that does not change allocates nothing.
func (d *Decoder) Strings(v []string) { d.StringsMax(v, math.MaxInt) }

// StringsMax fills v with strings of at most max bytes each.
func (d *Decoder) StringsMax(v []string, max int) {
	for i := range v {
		d.StringMax(&v[i], max)
	}
}

func get16[T uint16 | int16](d *Decoder, v []T) {
	b := d.elements(len(v), 2)
	if b == nil {
		clear(v)
		return
	}
	for i := range v {
		x := binary.LittleEndian.Uint16(b[2*i:])
		if d.big {
			x = bits.ReverseBytes16(x)
		}
		v[i] = T(x)
	}
}

func get32[T uint32 | int32](d *Decoder, v []T) {
	b := d.elements(len(v), 4)
	if b == nil {
		clear(v)
		return
	}
	for i := range v {
		x := binary.LittleEndian.Uint32(b[4*i:])
		if d.big {
			x = bits.ReverseBytes32(x)
		}
		v[i] = T(x)
	}
}

func get64[T uint64 | int64](d *Decoder, v []T) {
	b := d.elements(len(v), 8)
	if b == nil {
		clear(v)
		return
	}
	for i := range v {
		x := binary.LittleEndian.Uint64(b[8*i:])
		if d.big {
			x = bits.ReverseBytes64(x)
		}
		v[i] = T(x)
	}
}
