package engine

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// BenchmarkLookup finds peers as the data path does, in random order among so many: by the overlay address of what leaves, and by the index of what
// arrives.
func BenchmarkLookup(b *testing.B) {
	for _, peers := range []int{1, 100, 10_000} {
		s := newSide(b, 1, "192.0.2.1:5582")
		addresses, indices := make([]netip.Addr, peers), make([]uint32, peers)
		for i := range peers {
			addresses[i] = netip.AddrFrom16([16]byte{0xfc, 0x94, 12: byte(i >> 16), 13: byte(i >> 8), 14: byte(i), 15: 1})
			p := s.addPeer(s.lets(addresses[i]))
			door := peerIndices{&s.peers, p}
			index, ok := door.New()
			if !ok {
				b.Fatal("no index is left")
			}
			door.Bind(index, &wireguard.Keypair{})
			indices[i] = index
		}
		order := rand.New(rand.NewPCG(1, 2)).Perm(peers)
		b.Run(fmt.Sprintf("address/%d peers", peers), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if s.peerFor(addresses[order[i%peers]]) == nil {
					b.Fatal("a peer is missing")
				}
			}
		})
		b.Run(fmt.Sprintf("index/%d peers", peers), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if s.peers.index(indices[order[i%peers]]).keypair == nil {
					b.Fatal("an index is missing")
				}
			}
		})
	}
}

// lets has the side let a peer in whose key is not known.
func (s *side) lets(a netip.Addr) Contact {
	s.known.put(Contact{Address: a})
	c, _ := s.known.ByAddress(a)
	return c
}
