package cdr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Errors of decoding, wrapped with where they happened.
var (
	ErrEncapsulation = errors.New("representation is not PLAIN_CDR") // XCDR2, parameter lists, XML
	ErrShort         = errors.New("message ends early")
	ErrLength        = errors.New("length is more than the message can hold")
	ErrBound         = errors.New("length is beyond the type's bound")
	ErrValue         = errors.New("value is not of its type") // a bool above 1, a string without NUL
)

// Decoder reads PLAIN_CDR of either byte order. The first error sticks: what is read after it is zero.
type Decoder struct {
	buf []byte // behind the encapsulation header
	pos int
	big bool
	err error
}

// NewDecoder returns a decoder of payload, which begins with the encapsulation header. It refuses all but PLAIN_CDR. The header's options
// (padding at the end, in newer implementations) are ignored.
func NewDecoder(payload []byte) (*Decoder, error) {
	d := new(Decoder)
	if err := d.Reset(payload); err != nil {
		return nil, err
	}
	return d, nil
}

// Reset makes d a decoder of payload, as [NewDecoder] does.
func (d *Decoder) Reset(payload []byte) error {
	*d = Decoder{}
	if len(payload) < HeaderLen {
		d.err = fmt.Errorf("cdr: %d bytes: %w", len(payload), ErrShort)
		return d.err
	}
	switch repr := binary.BigEndian.Uint16(payload); repr {
	case reprLE:
	case reprBE:
		d.big = true
	default:
		d.err = fmt.Errorf("cdr: %w: 0x%04x", ErrEncapsulation, repr)
		return d.err
	}
	d.buf = payload[HeaderLen:]
	return nil
}

// Err returns the first error, nil if there was none.
func (d *Decoder) Err() error { return d.err }

// Remaining returns how many bytes are left.
func (d *Decoder) Remaining() int { return len(d.buf) - d.pos }

// BigEndian reports the byte order of the input.
func (d *Decoder) BigEndian() bool { return d.big }

// Align skips to a multiple of n, a power of two.
func (d *Decoder) Align(n int) {
	if d.err == nil {
		d.take(0, n)
	}
}

// Bool reads a bool.
func (d *Decoder) Bool() bool {
	v := d.Uint8()
	if v > 1 {
		d.fail(ErrValue)
		return false
	}
	return v == 1
}

// Uint8 reads a uint8, byte or char.
func (d *Decoder) Uint8() uint8 {
	if b := d.take(1, 1); b != nil {
		return b[0]
	}
	return 0
}

// Int8 reads an int8.
func (d *Decoder) Int8() int8 { return int8(d.Uint8()) }

// Uint16 reads a uint16.
func (d *Decoder) Uint16() uint16 {
	b := d.take(2, 2)
	if b == nil {
		return 0
	}
	v := binary.LittleEndian.Uint16(b)
	if d.big {
		v = bits.ReverseBytes16(v)
	}
	return v
}

// Int16 reads an int16.
func (d *Decoder) Int16() int16 { return int16(d.Uint16()) }

// Uint32 reads a uint32.
func (d *Decoder) Uint32() uint32 {
	b := d.take(4, 4)
	if b == nil {
		return 0
	}
	v := binary.LittleEndian.Uint32(b)
	if d.big {
		v = bits.ReverseBytes32(v)
	}
	return v
}

// Int32 reads an int32.
func (d *Decoder) Int32() int32 { return int32(d.Uint32()) }

// Uint64 reads a uint64.
func (d *Decoder) Uint64() uint64 {
	b := d.take(8, 8)
	if b == nil {
		return 0
	}
	v := binary.LittleEndian.Uint64(b)
	if d.big {
		v = bits.ReverseBytes64(v)
	}
	return v
}

// Int64 reads an int64.
func (d *Decoder) Int64() int64 { return int64(d.Uint64()) }

// Float32 reads a float32.
func (d *Decoder) Float32() float32 { return math.Float32frombits(d.Uint32()) }

// Float64 reads a float64.
func (d *Decoder) Float64() float64 { return math.Float64frombits(d.Uint64()) }

// Bytes fills b: the elements of a uint8 array or sequence.
func (d *Decoder) Bytes(b []byte) { fill(b, d.take(len(b), 1)) }

// String reads a string.
func (d *Decoder) String() string { return string(d.stringBytes(math.MaxInt)) }

// StringTo reads a string into *s. One that equals *s allocates nothing.
func (d *Decoder) StringTo(s *string) { d.StringMax(s, math.MaxInt) }

// StringMax reads a string of at most max bytes into *s. A longer one is an error.
func (d *Decoder) StringMax(s *string, max int) {
	if b := d.stringBytes(max); string(b) != *s {
		*s = string(b)
	}
}

// stringBytes returns a string's bytes without the NUL. A length of 0, which some implementations write, is the empty string.
func (d *Decoder) stringBytes(max int) []byte {
	n := d.Uint32()
	if n == 0 {
		return nil
	}
	if uint64(n) > uint64(d.Remaining()) {
		d.fail(ErrLength)
		return nil
	}
	if uint64(n)-1 > uint64(max) {
		d.fail(ErrBound)
		return nil
	}
	b := d.take(int(n), 1)
	if b == nil {
		return nil
	}
	if b[n-1] != 0 {
		d.fail(ErrValue)
		return nil
	}
	return b[:n-1]
}

// SequenceLen reads the count of a sequence whose elements take minElementSize bytes or more each. It is an error, and the count
// 0, if what is left cannot hold so many: a slice of this length is never more than a fixed multiple of the input.
func (d *Decoder) SequenceLen(minElementSize int) int {
	n := uint64(d.Uint32())
	if n*uint64(minElementSize) > uint64(d.Remaining()) { // both below 2^32
		d.fail(ErrLength)
		return 0
	}
	return int(n)
}

// SequenceLenMax is [Decoder.SequenceLen] for a sequence of at most max elements.
func (d *Decoder) SequenceLenMax(minElementSize, max int) int {
	n := d.SequenceLen(minElementSize)
	if n > max {
		d.fail(ErrBound)
		return 0
	}
	return n
}

// Empty reads what stands for a message without fields. Its absence is no error.
func (d *Decoder) Empty() {
	if d.err == nil && d.Remaining() > 0 {
		d.pos++
	}
}

// take returns the next n bytes after aligning to align, nil after an error or if there are fewer. n = 0 gives an empty slice.
func (d *Decoder) take(n, align int) []byte {
	pos := (d.pos + align - 1) &^ (align - 1)
	if d.err != nil || n > len(d.buf)-pos {
		d.fail(ErrShort)
		return nil
	}
	d.pos = pos + n
	return d.buf[pos:d.pos]
}

func (d *Decoder) fail(err error) {
	if d.err == nil {
		d.err = fmt.Errorf("cdr: at byte %d: %w", d.pos+HeaderLen, err)
		d.pos = len(d.buf)
	}
}

// fill copies src to dst; after an error, with src nil, dst is zeroed.
func fill(dst, src []byte) {
	if src == nil {
		clear(dst)
		return
	}
	copy(dst, src)
}
