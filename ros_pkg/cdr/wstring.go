package cdr

import (
	"math"
	"unicode/utf16"
	"unicode/utf8"
)

// WString writes a wstring: a u32 count of UTF-16 code units, then each unit as a u32, without NUL.
//
// XTypes has two bytes a unit; ROS 2's middlewares agree on four in XCDR version 1: rmw_fastrtps writes each unit as a uint32 "for interoperability",
// rmw_cyclonedds as a wchar_t. Bytes of s that are not UTF-8 become U+FFFD.
func (e *Encoder) WString(s string) { e.WStringMax(s, math.MaxInt) }

// WStringMax writes a wstring of at most max code units. A longer one is an error and is cut at the last whole character that fits.
func (e *Encoder) WStringMax(s string, max int) {
	units, fit, cut := 0, 0, len(s)
	for i, r := range s {
		units += utf16.RuneLen(r)
		if units <= max {
			fit = units
		} else if cut == len(s) {
			cut = i
		}
	}
	if units > max {
		e.fail("wstring of %d code units, bound %d", units, max)
	}
	e.Uint32(uint32(fit))
	for _, r := range s[:cut] {
		if utf16.RuneLen(r) == 2 {
			hi, lo := utf16.EncodeRune(r)
			e.Uint32(uint32(hi))
			r = lo
		}
		e.Uint32(uint32(r))
	}
}

// WStrings writes elements.
func (e *Encoder) WStrings(v []string) { e.WStringsMax(v, math.MaxInt) }

// WStringsMax writes elements of at most max code units each.
func (e *Encoder) WStringsMax(v []string, max int) {
	for _, x := range v {
		e.WStringMax(x, max)
	}
}

// WString reads a wstring. Half a surrogate pair becomes U+FFFD.
func (d *Decoder) WString() (s string) {
	d.WStringMax(&s, math.MaxInt)
	return s
}

// WStringTo reads a wstring into *s. Unlike strings, wide strings allocate even if they do not change.
func (d *Decoder) WStringTo(s *string) { d.WStringMax(s, math.MaxInt) }

// WStringMax reads a wstring of at most max code units into *s. A longer one is an error.
func (d *Decoder) WStringMax(s *string, max int) {
	n := d.SequenceLenMax(4, max)
	b := make([]byte, 0, n)
	for i := 0; i < n; i++ {
		r := d.unit()
		if utf16.IsSurrogate(r) && i+1 < n {
			ahead := *d
			if pair := utf16.DecodeRune(r, ahead.unit()); pair != utf8.RuneError {
				r = pair
				d.unit()
				i++
			}
		}
		b = utf8.AppendRune(b, r) // a lone surrogate becomes U+FFFD
	}
	if string(b) != *s {
		*s = string(b)
	}
}

// WStrings fills v.
func (d *Decoder) WStrings(v []string) { d.WStringsMax(v, math.MaxInt) }

// WStringsMax fills v with wstrings of at most max code units each.
func (d *Decoder) WStringsMax(v []string, max int) {
	for i := range v {
		d.WStringMax(&v[i], max)
	}
}

// unit reads one UTF-16 code unit.
func (d *Decoder) unit() rune {
	u := d.Uint32()
	if u > 0xffff {
		d.fail(ErrValue)
		return 0
	}
	return rune(u)
}
