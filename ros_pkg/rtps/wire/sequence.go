package wire

import (
	"fmt"
	"iter"
	"math/bits"
)

// SequenceNumber numbers a writer's samples from 1 (8.3.5.4).
type SequenceNumber int64

// SequenceUnknown is SEQUENCENUMBER_UNKNOWN.
const SequenceUnknown SequenceNumber = -1 << 32

// MaxSequence is the highest number that is taken from the wire. No writer gets there, and what is counted from there on does not overflow.
const MaxSequence SequenceNumber = 1 << 62

// FragmentNumber numbers a sample's fragments from 1 (8.3.5.6).
type FragmentNumber uint32

// MaxSetBits is the most numbers a set spans (8.3.5.5, 8.3.5.7).
const MaxSetBits = 256

// bitmap is the bits of a set: number base+i is bit 31-i%32 of word i/32 (9.4.2.6).
type bitmap [MaxSetBits / 32]uint32

func (m *bitmap) add(i uint32)      { m[i/32] |= 1 << (31 - i%32) }
func (m *bitmap) has(i uint32) bool { return m[i/32]>>(31-i%32)&1 != 0 }

func (m *bitmap) count() (n int) {
	for _, w := range m {
		n += bits.OnesCount32(w)
	}
	return n
}

// read takes n bits from the wire; those beyond them in the last word are dropped.
func (m *bitmap) read(r *in, n uint32) {
	*m = bitmap{}
	if n > MaxSetBits {
		r.bad = true
		return
	}
	words := (n + 31) / 32
	for i := range words {
		m[i] = r.u32()
	}
	if n%32 != 0 {
		m[words-1] &= ^uint32(0) << (32 - n%32)
	}
}

func (m *bitmap) write(w *out, n uint32) {
	for i := range (n + 31) / 32 {
		w.u32(m[i])
	}
}

func setLen(n uint32) int { return int((n+31)/32) * 4 }

// SequenceNumberSet is a set of sequence numbers Base .. Base+NumBits-1 (8.3.5.5). NumBits is at most 256; Base says
// something even of an empty set. It can be compared.
type SequenceNumberSet struct {
	Base    SequenceNumber
	NumBits uint32
	bits    bitmap
}

// NewSequenceNumberSet returns the empty set at base.
func NewSequenceNumberSet(base SequenceNumber) SequenceNumberSet {
	return SequenceNumberSet{Base: base}
}

// Add puts a number into the set, which grows to span it. It is false, and the set as before, if the number is below
// Base or 256 or more above it.
func (s *SequenceNumberSet) Add(n SequenceNumber) bool {
	if n < s.Base || uint64(n)-uint64(s.Base) >= MaxSetBits {
		return false
	}
	i := uint32(n - s.Base)
	s.bits.add(i)
	s.NumBits = max(s.NumBits, i+1)
	return true
}

// Contains says whether the number is in the set.
func (s *SequenceNumberSet) Contains(n SequenceNumber) bool {
	return n >= s.Base && uint64(n)-uint64(s.Base) < uint64(s.NumBits) && s.bits.has(uint32(n-s.Base))
}

// Len counts the numbers in the set.
func (s *SequenceNumberSet) Len() int { return s.bits.count() }

// All yields the numbers in rising order.
func (s *SequenceNumberSet) All() iter.Seq[SequenceNumber] {
	return func(yield func(SequenceNumber) bool) {
		for i := range s.NumBits {
			if s.bits.has(i) && !yield(s.Base+SequenceNumber(i)) {
				return
			}
		}
	}
}

// valid is the rule of 8.3.5.5.
func (s *SequenceNumberSet) valid() bool {
	return s.Base >= 1 && s.Base <= MaxSequence && s.NumBits <= MaxSetBits
}

// zero is the empty set at 0, which breaks the rule and asks for nothing but a heartbeat: Fast DDS sends it in its first ACKNACK to a writer, and
// answers no other at once.
func (s *SequenceNumberSet) zero() bool { return s.Base == 0 && s.NumBits == 0 }

// String is the form of 8.3.5.5's example: base/count:bits.
func (s SequenceNumberSet) String() string { return setString(int64(s.Base), s.NumBits, &s.bits) }

func (r *in) sequenceSet(s *SequenceNumberSet) {
	s.Base = r.sequence()
	s.NumBits = r.u32()
	s.bits.read(r, s.NumBits)
	if r.bad {
		*s = SequenceNumberSet{}
	}
}

func (w *out) sequenceSet(s *SequenceNumberSet) {
	w.sequence(s.Base)
	w.u32(s.NumBits)
	s.bits.write(w, s.NumBits)
}

// FragmentNumberSet is a set of fragment numbers Base .. Base+NumBits-1 (8.3.5.7). It can be compared.
type FragmentNumberSet struct {
	Base    FragmentNumber
	NumBits uint32
	bits    bitmap
}

// NewFragmentNumberSet returns the empty set at base.
func NewFragmentNumberSet(base FragmentNumber) FragmentNumberSet {
	return FragmentNumberSet{Base: base}
}

// Add puts a number into the set. It is false, and the set as before, if the number is below Base or 256 or more above.
func (s *FragmentNumberSet) Add(n FragmentNumber) bool {
	if n < s.Base || n-s.Base >= MaxSetBits {
		return false
	}
	i := uint32(n - s.Base)
	s.bits.add(i)
	s.NumBits = max(s.NumBits, i+1)
	return true
}

// Contains says whether the number is in the set.
func (s *FragmentNumberSet) Contains(n FragmentNumber) bool {
	return n >= s.Base && uint32(n-s.Base) < s.NumBits && s.bits.has(uint32(n-s.Base))
}

// Len counts the numbers in the set.
func (s *FragmentNumberSet) Len() int { return s.bits.count() }

// All yields the numbers in rising order.
func (s *FragmentNumberSet) All() iter.Seq[FragmentNumber] {
	return func(yield func(FragmentNumber) bool) {
		for i := range s.NumBits {
			if s.bits.has(i) && !yield(s.Base+FragmentNumber(i)) {
				return
			}
		}
	}
}

func (s *FragmentNumberSet) valid() bool {
	return s.Base >= 1 && s.NumBits <= MaxSetBits && uint64(s.Base)+uint64(s.NumBits) <= 1<<32
}

// String is base/count:bits.
func (s FragmentNumberSet) String() string { return setString(int64(s.Base), s.NumBits, &s.bits) }

func (r *in) fragmentSet(s *FragmentNumberSet) {
	s.Base = FragmentNumber(r.u32())
	s.NumBits = r.u32()
	s.bits.read(r, s.NumBits)
	if r.bad {
		*s = FragmentNumberSet{}
	}
}

func (w *out) fragmentSet(s *FragmentNumberSet) {
	w.u32(uint32(s.Base))
	w.u32(s.NumBits)
	s.bits.write(w, s.NumBits)
}

func setString(base int64, n uint32, m *bitmap) string {
	b := make([]byte, 0, n)
	for i := range min(n, MaxSetBits) {
		c := byte('0')
		if m.has(i) {
			c = '1'
		}
		b = append(b, c)
	}
	return fmt.Sprintf("%d/%d:%s", base, n, b)
}
