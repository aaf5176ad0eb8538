package engine

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

const (
	protocolTCP      = 6
	protocolICMPv6   = 58
	icmpUnreachable  = 1 // RFC 4443 §3.1
	icmpProhibited   = 1 // its code "communication administratively prohibited"
	icmpEchoRequest  = 128
	icmpEchoReply    = 129
	icmpHeaderLen    = 8
	hopLimit         = 64
	unreachPerSecond = 100
)

// unreachable answers a packet of this host that may not go out, so that its program fails at once with a reason and not after a timeout.
func (e *Engine) unreachable(now time.Time, offending []byte, code byte) {
	if offending[0]>>4 == 4 {
		e.unreachable4(now, offending)
		return
	}
	h, ok := parseIPv6(offending)
	if !ok || h.source != e.address || !e.unreach.allow(now) {
		return
	}
	if h.nextHeader == protocolICMPv6 && h.length > ipv6HeaderLen && offending[ipv6HeaderLen] < icmpEchoRequest {
		return // never an error for an error (RFC 4443 §2.4)
	}
	quote := offending[:min(len(offending), routeMTU-ipv6HeaderLen-icmpHeaderLen)]
	packet := newICMP(h.destination, e.address, icmpUnreachable, code, 0, quote)
	header := make([]byte, tun.HeaderLen)
	if err := e.cfg.Device.Write([][]byte{header, packet}); err != nil && !closed(err) {
		e.stats.WriteErrors.Add(1)
	}
}

// newICMP builds an ICMPv6 packet; rest is the header's last four bytes.
func newICMP(source, destination netip.Addr, kind, code byte, rest uint32, body []byte) []byte {
	b := make([]byte, ipv6HeaderLen+icmpHeaderLen+len(body))
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(icmpHeaderLen+len(body)))
	b[6], b[7] = protocolICMPv6, hopLimit
	copy(b[8:], source.AsSlice())
	copy(b[24:], destination.AsSlice())
	icmp := b[ipv6HeaderLen:]
	icmp[0], icmp[1] = kind, code
	binary.BigEndian.PutUint32(icmp[4:], rest)
	copy(icmp[icmpHeaderLen:], body)
	binary.BigEndian.PutUint16(icmp[2:], icmpChecksum(b))
	return b
}

// icmpChecksum sums the message and its pseudo header (RFC 8200 §8.1); the checksum field must be zero.
func icmpChecksum(packet []byte) uint16 {
	var sum uint64
	add := func(b []byte) {
		for ; len(b) > 1; b = b[2:] {
			sum += uint64(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint64(b[0]) << 8
		}
	}
	add(packet[8:])
	sum += uint64(len(packet)-ipv6HeaderLen) + protocolICMPv6
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// limiter lets unreachPerSecond events a second pass.
type limiter struct {
	mu    sync.Mutex
	start time.Time
	count int
}

func (l *limiter) allow(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.start) >= time.Second {
		l.start, l.count = now, 0
	}
	l.count++
	return l.count <= unreachPerSecond
}
