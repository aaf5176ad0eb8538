package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

// maxEchoes bounds the pings that may be under way at once.
const maxEchoes = 256

// errTooManyPings says that maxEchoes are under way.
var errTooManyPings = errors.New("too many pings at once: try again in a moment")

// echoes are the pings of ours that wait for an answer. Such a ping is an ordinary ICMPv6 echo that the peer's kernel answers, so it
// proves the whole way, to stock WireGuard peers too. A random token tells its answer from those to ping programs of this host.
type echoes struct {
	pending atomic.Int32
	mu      sync.Mutex
	waiting map[[16]byte]echo
}

type echo struct {
	peer netip.Addr
	done chan time.Time
}

func newEchoes() echoes { return echoes{waiting: make(map[[16]byte]echo)} }

// Ping sends an echo request to a peer and waits for its reply. The time includes contact if there was none.
func (e *Engine) Ping(ctx context.Context, address netip.Addr) (time.Duration, error) {
	p := e.peerFor(address)
	if p == nil {
		return 0, e.contact(address, false)
	}
	token := [16]byte{}
	rand.Read(token[:])
	w := echo{peer: address, done: make(chan time.Time, 1)}
	if !e.echoes.add(token, w) {
		return 0, errTooManyPings
	}
	defer e.echoes.remove(token)
	packet := newICMP(e.address, address, icmpEchoRequest, 0, binary.BigEndian.Uint32(token[:]), token[:])
	start := time.Now()
	e.controlMu.Lock()
	e.control.packet(start, append(make([]byte, tun.HeaderLen), packet...))
	e.control.flush()
	e.controlMu.Unlock()
	select {
	case at := <-w.done:
		return at.Sub(start), nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (es *echoes) add(token [16]byte, w echo) bool {
	es.mu.Lock()
	defer es.mu.Unlock()
	if len(es.waiting) >= maxEchoes {
		return false
	}
	es.waiting[token] = w
	es.pending.Add(1)
	return true
}

func (es *echoes) remove(token [16]byte) {
	es.mu.Lock()
	defer es.mu.Unlock()
	if _, ok := es.waiting[token]; ok {
		delete(es.waiting, token)
		es.pending.Add(-1)
	}
}

// answer reports whether an ICMPv6 packet, whose source was judged, is the reply to a ping of ours, which then ends here.
func (es *echoes) answer(now time.Time, packet []byte) bool {
	if es.pending.Load() == 0 || len(packet) != ipv6HeaderLen+icmpHeaderLen+16 || packet[ipv6HeaderLen] != icmpEchoReply {
		return false
	}
	es.mu.Lock()
	defer es.mu.Unlock()
	w, ok := es.waiting[[16]byte(packet[ipv6HeaderLen+icmpHeaderLen:])]
	if !ok || w.peer != netip.AddrFrom16([16]byte(packet[8:24])) {
		return false
	}
	select {
	case w.done <- now:
	default:
	}
	return true
}
