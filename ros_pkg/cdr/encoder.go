package cdr

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// HeaderLen is the length of the encapsulation header, in bytes.
const HeaderLen = 4

// Representation identifiers, the first two bytes of a payload (RTPS 2.5, table 10.3).
const (
	reprBE = 0x0000 // PLAIN_CDR, big endian
	reprLE = 0x0001 // PLAIN_CDR, little endian
)

// Encoder appends little-endian PLAIN_CDR to a buffer. Its zero value is not ready: use [NewEncoder] or [Encoder.Reset].
type Encoder struct {
	buf    []byte
	start  int // of the encapsulation header in buf
	origin int // of alignment: start + HeaderLen
	err    error
}

// NewEncoder returns an encoder that appends a payload to buf, beginning with the encapsulation header.
func NewEncoder(buf []byte) *Encoder {
	e := new(Encoder)
	e.Reset(buf)
	return e
}

// Reset begins a new payload at the end of buf.
func (e *Encoder) Reset(buf []byte) {
	e.start, e.origin, e.err = len(buf), len(buf)+HeaderLen, nil
	e.buf = append(buf, 0, reprLE, 0, 0)
}

// Payload returns the payload written so far, encapsulation header included. It shares memory with the encoder.
func (e *Encoder) Payload() []byte { return e.buf[e.start:] }

// Buffer returns what [NewEncoder] or [Encoder.Reset] was given with the payload appended.
func (e *Encoder) Buffer() []byte { return e.buf }

// Len returns the payload's length so far, encapsulation header included.
func (e *Encoder) Len() int { return len(e.buf) - e.start }

// Err returns the first breach of a bound, nil if there was none.
func (e *Encoder) Err() error { return e.err }

// Align pads with zeros to a multiple of n, a power of two.
func (e *Encoder) Align(n int) {
	for (len(e.buf)-e.origin)&(n-1) != 0 {
		e.buf = append(e.buf, 0)
	}
}

// Bool writes a bool.
func (e *Encoder) Bool(v bool) {
	var b byte
	if v {
		b = 1
	}
	e.buf = append(e.buf, b)
}

// Uint8 writes a uint8, byte or char.
func (e *Encoder) Uint8(v uint8) { e.buf = append(e.buf, v) }

// Int8 writes an int8.
func (e *Encoder) Int8(v int8) { e.buf = append(e.buf, byte(v)) }

// Uint16 writes a uint16.
func (e *Encoder) Uint16(v uint16) {
	e.Align(2)
	e.buf = binary.LittleEndian.AppendUint16(e.buf, v)
}

// Int16 writes an int16.
func (e *Encoder) Int16(v int16) { e.Uint16(uint16(v)) }

// Uint32 writes a uint32.
func (e *Encoder) Uint32(v uint32) {
	e.Align(4)
	e.buf = binary.LittleEndian.AppendUint32(e.buf, v)
}

// Int32 writes an int32.
func (e *Encoder) Int32(v int32) { e.Uint32(uint32(v)) }

// Uint64 writes a uint64.
func (e *Encoder) Uint64(v uint64) {
	e.Align(8)
	e.buf = binary.LittleEndian.AppendUint64(e.buf, v)
}

// Int64 writes an int64.
func (e *Encoder) Int64(v int64) { e.Uint64(uint64(v)) }

// Float32 writes a float32.
func (e *Encoder) Float32(v float32) { e.Uint32(math.Float32bits(v)) }

// Float64 writes a float64.
func (e *Encoder) Float64(v float64) { e.Uint64(math.Float64bits(v)) }

// Bytes writes b as it is, without length or alignment: the elements of a uint8 array or sequence.
func (e *Encoder) Bytes(b []byte) { e.buf = append(e.buf, b...) }

// String writes a string with its length and NUL.
func (e *Encoder) String(s string) {
	e.Uint32(uint32(len(s)) + 1)
	e.buf = append(e.buf, s...)
	e.buf = append(e.buf, 0)
}

// StringMax writes a string of at most max bytes. A longer one is an error and is cut at the last whole character that fits.
func (e *Encoder) StringMax(s string, max int) {
	if len(s) > max {
		e.fail("string of %d bytes, bound %d", len(s), max)
		s = s[:max]
		for i := 0; i < utf8.UTFMax-1 && len(s) > 0; i++ { // do not leave half a character behind
			if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
				break
			}
			s = s[:len(s)-1]
		}
	}
	e.String(s)
}

// SequenceLen writes the count of a sequence; the elements follow.
func (e *Encoder) SequenceLen(n int) { e.Uint32(uint32(n)) }

// SequenceLenMax writes the count of a sequence of at most max elements and returns how many to write: n, or max and an error if n is more.
func (e *Encoder) SequenceLenMax(n, max int) int {
	if n > max {
		e.fail("sequence of %d elements, bound %d", n, max)
		n = max
	}
	e.SequenceLen(n)
	return n
}

// Empty writes what stands for a message without fields.
func (e *Encoder) Empty() { e.Uint8(0) }

func (e *Encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf("cdr: "+format, args...)
	}
}
