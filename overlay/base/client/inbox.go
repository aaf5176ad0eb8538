package client

import (
	"net/netip"
	"sync"
)

const (
	maxInbox      = 1024 // datagrams
	maxInboxShare = 128  // of one endpoint, so that no Base can crowd out another
)

// item is what arrived for the machine: a datagram, or something about a TCP connection.
type item struct {
	b    []byte
	from netip.AddrPort
	do   func() // in place of a datagram; runs with the Client's lock held
}

// inbox keeps what arrived until Run takes it.
type inbox struct {
	wake chan struct{}

	mu    sync.Mutex
	items []item
	share map[netip.AddrPort]int
}

func newInbox() *inbox {
	return &inbox{wake: make(chan struct{}, 1), share: make(map[netip.AddrPort]int)}
}

// datagram puts a copy of a datagram in, or drops it if too many wait.
func (x *inbox) datagram(b []byte, from netip.AddrPort) {
	x.mu.Lock()
	if len(x.items) >= maxInbox || x.share[from] >= maxInboxShare {
		x.mu.Unlock()
		return
	}
	x.share[from]++
	x.items = append(x.items, item{b: append([]byte(nil), b...), from: from})
	x.mu.Unlock()
	x.poke()
}

// call puts in what is to be done. Those who call have bounds of their own.
func (x *inbox) call(do func()) {
	x.mu.Lock()
	x.items = append(x.items, item{do: do})
	x.mu.Unlock()
	x.poke()
}

func (x *inbox) poke() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

func (x *inbox) take() []item {
	x.mu.Lock()
	defer x.mu.Unlock()
	items := x.items
	x.items = nil
	clear(x.share)
	return items
}
