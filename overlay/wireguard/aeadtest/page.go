//go:build unix

package aeadtest

import (
	"bytes"
	"os"
	"syscall"
	"testing"
)

// fenced returns memory of some pages between two that can be neither read nor written.
func fenced(t *testing.T, pages int) []byte {
	t.Helper()
	page := os.Getpagesize()
	whole, err := syscall.Mmap(-1, 0, (pages+2)*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(whole) })
	for _, fence := range [][]byte{whole[:page], whole[(pages+1)*page:]} {
		if err := syscall.Mprotect(fence, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return whole[page : (pages+1)*page : (pages+1)*page]
}

// Nothing outside of the slices is read or written, even where nobody would see it: a message begins behind a page that is not there, or ends before one.
func (p Pair) besideNoMemory(t *testing.T) {
	s := newSource(t, 8)
	ours, standard := p.with(t, s.bytes(KeySize))
	first, second, third := fenced(t, 3), fenced(t, 3), fenced(t, 1)
	atEnd := func(b []byte, n int) []byte { return b[len(b)-n:] }
	atStart := func(b []byte, n int) []byte { return b[:n] }
	for _, place := range []func([]byte, int) []byte{atEnd, atStart} {
		nonce := place(third, nonceSize)
		lengths := []int{1279, 1280, 1281, 1452, 4000, 8952}
		for n := range 600 {
			lengths = append(lengths, n)
		}
		for _, n := range lengths {
			s.Read(nonce)
			plaintext := s.bytes(n)
			want := standard.Seal(nil, nonce, plaintext, nil)
			both := func(what string, in, out []byte) {
				t.Helper()
				got := ours.Seal(out[:0], nonce, in, nil)
				if !bytes.Equal(got, want) || &got[0] != &out[0] {
					t.Fatalf("%s, %d bytes sealed otherwise", what, n)
				}
				in = in[:0] // what was sealed goes back to where it came from
				back, err := ours.Open(in, nonce, got, nil)
				if err != nil || !bytes.Equal(back, plaintext) {
					t.Fatalf("%s, %d bytes opened otherwise: %v", what, n, err)
				}
			}
			in, out := place(first, n), place(second, n+tagSize)
			copy(in, plaintext)
			both("apart", in, out)
			copy(out, plaintext)
			both("in place", out[:n], out)
		}
	}
}

// A forged message is cleared within its bounds, too.
func (p Pair) forgedBesideNoMemory(t *testing.T) {
	s := newSource(t, 9)
	ours, standard := p.with(t, s.bytes(KeySize))
	memory := fenced(t, 1)
	for n := range 600 {
		nonce := s.bytes(nonceSize)
		b := memory[len(memory)-n-tagSize:]
		copy(b, standard.Seal(nil, nonce, s.bytes(n), nil))
		b[s.below(len(b))] ^= 0x10
		if _, err := ours.Open(b[:0], nonce, b, nil); err == nil {
			t.Fatalf("%d forged bytes opened", n)
		}
		if !bytes.Equal(b[:n], make([]byte, n)) {
			t.Fatalf("%d forged bytes not cleared", n)
		}
	}
}
