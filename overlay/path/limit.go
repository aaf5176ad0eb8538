package path

import (
	"net/netip"
	"time"
)

// Bounds on what is sent.
const (
	// probeRate and probeBurst bound all probes to one peer, those of a Spray apart: in any t seconds at most probeBurst + t*probeRate.
	probeRate  = 60
	probeBurst = 30
	// quotaBurst and quotaInterval bound the probes to one IP address, whatever the port, that never answered: at most quotaBurst at once, which is
	// more than a punching round takes, and 2*quotaBurst in any minute.
	quotaBurst    = 12
	quotaInterval = 5 * time.Second
	maxQuotas     = 32
)

// limit is a token bucket.
type limit struct{ full instant }

// ready is the earliest time at which take succeeds.
func (l *limit) ready(burst int, interval time.Duration) instant {
	return l.full - instant(time.Duration(burst-1)*interval)
}

func (l *limit) take(now instant, burst int, interval time.Duration) bool {
	if now < l.ready(burst, interval) {
		return false
	}
	l.full = max(l.full, now).add(interval)
	return true
}

// quota limits the probes to an address that never answered.
type quota struct {
	addr netip.Addr
	limit
}

// admit reports whether a probe may go to an address. A table that is full admits nobody new: a peer that names more addresses than that in a
// minute harms only itself.
func (m *Machine) admit(now instant, addr netip.Addr) bool {
	for i := range m.quotas {
		if m.quotas[i].addr == addr {
			return m.quotas[i].take(now, quotaBurst, quotaInterval)
		}
	}
	q := quota{addr: addr}
	q.take(now, quotaBurst, quotaInterval)
	for i := range m.quotas {
		if m.quotas[i].full <= now {
			m.quotas[i] = q
			return true
		}
	}
	if len(m.quotas) >= maxQuotas {
		return false
	}
	m.quotas = append(m.quotas, q)
	return true
}

// settleQuotas forgets addresses that are owed nothing.
func (m *Machine) settleQuotas(now instant) {
	for _, q := range m.quotas {
		if q.full > now {
			return
		}
	}
	m.quotas = nil
}
