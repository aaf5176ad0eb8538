package spdp

import (
	"bytes"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// pieces are the messages of a sample in fragments.
func pieces(payload []byte, sn wire.SequenceNumber, size int) (list [][]byte) {
	for at := 0; at < len(payload); at += size {
		end := min(at+size, len(payload))
		list = append(list, six(guardMessage(prefixPeer, func(b *wire.Builder) {
			b.DataFrag(&wire.DataFrag{Writer: wire.EntitySEDPPublicationsWriter, SN: sn, FirstFragment: wire.FragmentNumber(at/size + 1), Fragments: 1,
				FragmentSize: uint16(size), SampleSize: uint32(len(payload)), Payload: payload[at:end]})
		})))
	}
	return list
}

// joined is the sample in fragments.
func joined(t *testing.T, packets [][]byte) (payload []byte) {
	t.Helper()
	for _, p := range packets {
		r, err := wire.NewReader(rtps(p))
		if err != nil {
			t.Fatal(err)
		}
		for s, ok := r.Next(); ok; s, ok = r.Next() {
			if d, ok := s.(*wire.DataFrag); ok {
				payload = append(payload, d.Payload...)
			}
		}
	}
	return payload
}

// TestPieces: discovery data in fragments is masked wherever it is cut.
func TestPieces(t *testing.T) {
	for _, big := range []bool{false, true} {
		for _, all := range [][]wire.Locator{append(elsewhere(), atPeer()...), elsewhere(), atPeer()} {
			payload := told(big, prefixPeer, all...)
			for size := leastPiece; size < len(payload); size += 4 {
				g, packets := maskGuard(), pieces(payload, 1, size)
				if len(packets) > 1 && g.Admit(guardPeer, bytes.Clone(packets[1])) {
					t.Fatal("a later fragment is let in before the first")
				}
				if g.Barred() != 0 {
					t.Fatal("the peer is blamed for what the network does")
				}
				for range 2 { // sent again, too
					for i, p := range packets {
						work := checked(bytes.Clone(p))
						sum := sumOver(work)
						if !g.Admit(guardPeer, work) || sumOver(work) != sum {
							t.Fatalf("fragment %d of %d bytes is refused, or its sum is another", i+1, size)
						}
						if i == len(packets)-1 {
							copy(p, work)
						}
						packets[i] = work
					}
				}
				_, others, _, _ := parameters(rtps(six(guardMessage(prefixPeer, tells(wire.EntitySEDPPublicationsWriter, payload)))))
				_, same, are, _ := parameters(rtps(six(guardMessage(prefixPeer, tells(wire.EntitySEDPPublicationsWriter, joined(t, packets))))))
				if len(others) != len(same) {
					t.Fatalf("fragments of %d bytes: %d other parameters, want %d", size, len(same), len(others))
				}
				for _, l := range are {
					if !(place{guardPeer, fourOf(2)}).holds(l) {
						t.Fatalf("fragments of %d bytes: %v is left", size, l)
					}
				}
				out := pieces(payload, 1, size)
				for _, p := range out {
					g.Depart(guardPeer, p)
				}
				_, _, are, _ = parameters(rtps(six(guardMessage(prefixPeer, tells(wire.EntitySEDPPublicationsWriter, joined(t, out))))))
				for _, l := range are {
					if !(place{guardOwn, fourOf(1)}).holds(l) {
						t.Fatalf("on its way out %v is left", l)
					}
				}
			}
		}
	}
}

// TestPiecesHostile: nobody has one list read here and another where it goes.
func TestPiecesHostile(t *testing.T) {
	payload := told(false, prefixPeer, elsewhere()...)
	shifted := append(bytes.Clone(payload[:4]), 0, 0, 4, 0)
	shifted = append(append(shifted, 1, 2, 3, 4), payload[4:len(payload)-8]...)
	a, b := pieces(payload, 1, 400), pieces(shifted, 1, 400)
	g := maskGuard()
	if !g.Admit(guardPeer, a[0]) || g.Admit(guardPeer, b[0]) {
		t.Error("a fragment comes with two contents")
	}
	for name, bad := range map[string][]byte{
		"of another size":       pieces(append(bytes.Clone(payload), 0, 0, 0, 0), 1, 400)[1],
		"cut in another way":    pieces(payload, 1, 404)[1],
		"of an odd size":        pieces(payload, 3, 402)[0],
		"too small":             pieces(payload, 3, 100)[0],
		"of too large a sample": pieces(make([]byte, maxFragmented+1), 3, 1000)[0],
		"of none that began":    pieces(payload, 2, 400)[1],
		"another's":             pieces(told(false, prefixOther), 4, 256)[0],
	} {
		if g.Admit(guardPeer, checked(bad)) {
			t.Errorf("a fragment %s is let in", name)
		}
	}
	for i := range 3 * maxFragmentSet {
		g.Admit(guardPeer, pieces(payload, wire.SequenceNumber(i+10), 400)[0])
	}
	if n := len(g.fragments.peers[direction{peer: guardPeer}].samples); n != maxFragmentSet {
		t.Errorf("%d samples are remembered", n)
	}
	g.settle(place{six: guardOwn}, nil)
	if len(g.fragments.peers) != 0 {
		t.Error("a peer that is none any more is remembered")
	}
}
