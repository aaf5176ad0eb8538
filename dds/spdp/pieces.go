package spdp

import (
	"net/netip"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Bounds of discovery data in fragments of DDS. It hardly ever is: only with very many addresses, properties or user data.
const (
	maxFragmented  = 64 << 10 // bytes of a sample
	leastPiece     = 256      // bytes of a fragment but the last
	maxFragmentSet = 512      // samples of one peer, in one direction, that are remembered
)

// fragments remembers, of samples in fragments, where their parameter lists are at the beginning of each fragment.
type fragments struct {
	mu    sync.Mutex
	peers map[direction]*fragmentSet
}

// direction is a peer, and whether it is the receiver.
type direction struct {
	peer netip.Addr
	out  bool
}

// fragmentSet is what is remembered of one peer's; when it is full, the oldest makes room.
type fragmentSet struct {
	samples map[sampleKey]*fragmented
	order   [maxFragmentSet]sampleKey
	added   int
}

type sampleKey struct {
	prefix wire.GuidPrefix
	writer wire.EntityID
	sn     wire.SequenceNumber
}

// fragmented is one sample. What is known of it does not change any more: whoever sends a fragment twice, says the same.
type fragmented struct {
	bigEndian bool
	size      uint32
	fragment  uint16
	left      []uint32 // at the beginning of fragments, from the second on, as for walk
	known     []bool
}

// forget lets go what is remembered of peers that are none any more.
func (f *fragments) forget(peer func(netip.Addr) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for d := range f.peers {
		if !peer(d.peer) {
			delete(f.peers, d)
		}
	}
}

// sample finds a sample, or makes it if it is new. The caller has the lock.
func (f *fragments) sample(d direction, k sampleKey, create func() *fragmented) *fragmented {
	set := f.peers[d]
	if set == nil {
		if create == nil {
			return nil
		}
		if f.peers == nil {
			f.peers = map[direction]*fragmentSet{}
		}
		set = &fragmentSet{samples: map[sampleKey]*fragmented{}}
		f.peers[d] = set
	}
	s := set.samples[k]
	if s == nil && create != nil {
		slot := &set.order[set.added%maxFragmentSet]
		if set.added++; set.added > maxFragmentSet {
			delete(set.samples, *slot)
		}
		s = create()
		*slot, set.samples[k] = k, s
	}
	return s
}

// fragment looks at fragments of a sample of discovery data. Those whose list begins in one that has not been here are
// refused: they are asked for again. A sample's first fragment has to come first, then.
func (c *check) fragment(prefix wire.GuidPrefix, d *wire.DataFrag) bool {
	if !c.list(d.InlineQoS, true) {
		return false
	}
	first, size := d.FirstFragment == 1, uint32(len(d.Payload))
	if first && size >= d.SampleSize || !c.mask {
		if !first {
			return true
		}
		list, err := wire.ParseParameterPayload(d.Payload)
		return err == nil && c.list(list, size >= d.SampleSize)
	}
	if d.SampleSize > maxFragmented || d.FragmentSize < leastPiece || d.FragmentSize&3 != 0 {
		return false
	}
	list, left := wire.ParameterList{Bytes: d.Payload}, uint32(0)
	var create func() *fragmented
	if first {
		var err error
		if list, err = wire.ParseParameterPayload(d.Payload); err != nil {
			return false
		}
		create = func() *fragmented {
			n := d.FragmentCount()
			return &fragmented{list.BigEndian, d.SampleSize, d.FragmentSize, make([]uint32, n), make([]bool, n)}
		}
	}
	f := &c.guard.fragments
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sample(direction{c.peer, c.out}, sampleKey{prefix, d.Writer, d.SN}, create)
	if s == nil {
		c.early = true
		return false
	}
	if s.size != d.SampleSize || s.fragment != d.FragmentSize {
		return false
	}
	if first && s.bigEndian != list.BigEndian {
		return false
	}
	if !first {
		at := d.FirstFragment - 1
		if !s.known[at] {
			c.early = true
			return false
		}
		left, list.BigEndian = s.left[at], s.bigEndian
	}
	left, ok := c.walk(list, left)
	if !ok {
		return false
	}
	if next := int(d.FirstFragment) - 1 + int(d.Fragments); next < len(s.left) {
		if s.known[next] && s.left[next] != left {
			return false
		}
		s.known[next], s.left[next] = true, left
	}
	return true
}
