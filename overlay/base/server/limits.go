package server

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// A rate is a token bucket's measure: one event per interval on average, and up to burst at once after a pause. The zero rate limits nothing.
type rate struct {
	interval time.Duration
	burst    int64
}

func perSecond(n float64, burst int) rate {
	return rate{interval: time.Duration(float64(time.Second) / n), burst: int64(burst)}
}

// limit is a token bucket in one word: the moment at which it will be full again, in nanoseconds of the server's clock. It may be used by several
// goroutines at once.
type limit struct{ full atomic.Int64 }

// take spends a token if there is one.
func (l *limit) take(now int64, r rate) bool {
	return l.spend(now, int64(r.interval), r.burst*int64(r.interval))
}

// spend takes what costs cost nanoseconds out of a bucket that holds depth nanoseconds. What is in the bucket must cover the cost, but for a
// bucket that is full: it lets anything pass, and is in debt after that.
func (l *limit) spend(now, cost, depth int64) bool {
	for {
		full := l.full.Load()
		from := max(full, now)
		if from+cost-now > depth && full > now {
			return false
		}
		if l.full.CompareAndSwap(full, from+cost) {
			return true
		}
	}
}

// ready is how long after now a full interval's token is there, in nanoseconds; 0 or less = at once.
func (l *limit) ready(now int64, r rate) int64 {
	return l.full.Load() + int64(r.interval) - r.burst*int64(r.interval) - now
}

// prefixLimits are token buckets by source prefix: IPv4 /24, IPv6 /48. Their number is fixed, and prefixes share buckets by a hash that no
// stranger can predict. So nothing grows, nothing is evicted, and a flood from one prefix takes the tokens of one bucket in thousands.
type prefixLimits struct {
	rate    rate
	seed    maphash.Seed
	buckets []limit
}

// newPrefixLimits makes n buckets, a power of two.
func newPrefixLimits(n int, r rate) *prefixLimits {
	return &prefixLimits{rate: r, seed: maphash.MakeSeed(), buckets: make([]limit, n)}
}

// take spends a token of the prefix of addr if there is one.
func (p *prefixLimits) take(now int64, addr netip.Addr) bool {
	if p.rate.interval == 0 {
		return true
	}
	prefix := prefixOf(addr)
	return p.buckets[maphash.Comparable(p.seed, prefix)&uint64(len(p.buckets)-1)].take(now, p.rate)
}

// prefixOf is what limits by source count as one source: the first 24 bits of an IPv4 address, the first 48 of an IPv6 address.
func prefixOf(addr netip.Addr) uint64 {
	if addr.Is4() || addr.Is4In6() {
		b := addr.As4()
		return 1<<63 | uint64(b[0])<<16 | uint64(b[1])<<8 | uint64(b[2])
	}
	b := addr.As16()
	return binary.BigEndian.Uint64(b[:8]) >> 16
}

// hostOf is what limits on connections count as one host: an IPv4 address, an IPv6 /64.
func hostOf(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		p, _ := addr.Prefix(64)
		return p.Addr()
	}
	return addr
}
