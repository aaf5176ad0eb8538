package fragment

import (
	"bytes"
	"testing"
	"time"
)

// TestIdentificationComesRound loses one piece and sends so many packets, all of one length, that the identification is used again while the first
// packet still waits: nothing may be joined of pieces of two packets.
func TestIdentificationComesRound(t *testing.T) {
	const length, limit = 1280, 1228
	l, err := Plan(length, limit)
	if err != nil {
		t.Fatal(err)
	}
	piece := func(n, i int) []byte {
		b := make([]byte, l.Size(i))
		l.Put(b, uint16(n), i, bytes.Repeat([]byte{byte(n), byte(n >> 8), byte(n >> 16), 1}, length/4))
		return b
	}
	whole := func(n int) []byte { return bytes.Repeat([]byte{byte(n), byte(n >> 8), byte(n >> 16), 1}, length/4) }
	for name, c := range map[string]struct {
		lostPiece int // of packet 0
		from, to  int // packets of which nothing arrives
	}{
		"first piece lost":            {0, 0, 0},
		"last piece lost":             {l.Count - 1, 0, 0},
		"and a third of all silent":   {0, 10, 20_000},
		"and most of all silent":      {0, 10, 50_000},
		"and nearly all of it silent": {0, 10, 61_000},
	} {
		t.Run(name, func(t *testing.T) {
			var r Reassembler
			now := time.Unix(1_000_000, 0)
			for n := range 1<<16 + 10 {
				now = now.Add(20 * time.Microsecond) // 50,000 a second: once round in 1.3 s
				if n > c.from && n < c.to {
					continue
				}
				for i := range l.Count {
					if n == 0 && i == c.lostPiece {
						continue
					}
					got, err := r.Add(now, piece(n, i))
					if err != nil {
						t.Fatal(err)
					}
					if got != nil && !bytes.Equal(got, whole(n)) {
						t.Fatalf("packet %d was joined of pieces of two packets", n)
					}
					if complete := i == l.Count-1 && n > 0; complete && got == nil && n != 1<<16 {
						t.Fatalf("packet %d was not joined", n)
					}
				}
			}
		})
	}
}
