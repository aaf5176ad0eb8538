package fragment

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

func packet(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

func cut(t testing.TB, p []byte, id uint16, limit int) [][]byte {
	t.Helper()
	l, err := Plan(len(p), limit)
	if err != nil {
		t.Fatal(err)
	}
	var pieces [][]byte
	for i := range l.Count {
		b := make([]byte, l.Size(i), limit)
		if n := l.Put(b, id, i, p); n != len(b) || n > limit {
			t.Fatalf("piece %d of %d bytes at limit %d: %d bytes, Size said %d", i, len(p), limit, n, len(b))
		}
		pieces = append(pieces, append(b, make([]byte, rand.N(15))...)) // padding
	}
	return pieces
}

func TestPiecesInAnyOrderMakeThePacket(t *testing.T) {
	now := time.Unix(1, 0)
	for _, limit := range []int{512, 700, 1000, 1024, 1200, 1279} {
		for length := limit + 1; length < min(MaxPacket, 8*limit); length += 61 {
			p, r := packet(length), Reassembler{}
			pieces := cut(t, p, 9, limit)
			rand.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
			for i, piece := range pieces {
				got, err := r.Add(now, piece)
				if err != nil {
					t.Fatal(err)
				}
				if last := i == len(pieces)-1; last != (got != nil) || (last && !bytes.Equal(got, p)) {
					t.Fatalf("length %d, limit %d: after %d of %d pieces got %d bytes", length, limit, i+1, len(pieces), len(got))
				}
			}
			if r.pending != nil || r.Bytes() != 0 || !r.Next().IsZero() {
				t.Fatal("something was left behind")
			}
		}
	}
}

func TestPacketThatCannotBeCut(t *testing.T) {
	for _, c := range []struct{ length, limit int }{{0, 1000}, {MaxPacket + 1, 1280}, {1000, 6}, {1000, 13}, {9000, 500}} {
		if _, err := Plan(c.length, c.limit); err == nil {
			t.Errorf("Plan(%d, %d) succeeded", c.length, c.limit)
		}
	}
}

func TestReassemblyIsBoundedInNumberAndTime(t *testing.T) {
	now := time.Unix(1, 0)
	var r Reassembler
	p := packet(2000)
	for id := range uint16(1000) {
		if _, err := r.Add(now, cut(t, p, id, 1200)[0]); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.pending) != maxPending {
		t.Fatalf("%d packets in reassembly, bound is %d", len(r.pending), maxPending)
	}
	now = now.Add(Timeout + time.Millisecond)
	if got, err := r.Add(now, cut(t, p, 999, 1200)[1]); got != nil || err != nil {
		t.Fatalf("a piece came too late and still made a packet (%v)", err)
	}
	if len(r.pending) != 1 {
		t.Fatalf("%d packets in reassembly after the timeout", len(r.pending))
	}
}

func TestIdentificationReusedWithAnotherLength(t *testing.T) {
	now := time.Unix(1, 0)
	var r Reassembler
	r.Add(now, cut(t, packet(2000), 5, 1200)[0])
	p := packet(1700)
	pieces := cut(t, p, 5, 1200)
	r.Add(now, pieces[1])
	got, err := r.Add(now, pieces[0])
	if err != nil || !bytes.Equal(got, p) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}

func FuzzAdd(f *testing.F) {
	for _, piece := range cut(f, packet(2000), 1, 1000) {
		f.Add(piece)
	}
	f.Add([]byte{Type, 0xf0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Reassembler
		for range 3 {
			got, err := r.Add(time.Unix(1, 0), b)
			if err == nil && got != nil && b[1] != 0 {
				t.Fatalf("one piece of several made a packet: % x", b[:HeaderLen])
			}
			if len(got) > MaxPacket {
				t.Fatal("a packet beyond the limit")
			}
		}
	})
}
