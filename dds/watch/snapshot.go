package watch

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
)

// Traffic is what was seen until a moment.
type Traffic struct {
	Since time.Time
	Peers []PeerTraffic // by address
}

// PeerTraffic is what was seen with one peer.
type PeerTraffic struct {
	Address netip.Addr
	Topics  []TopicTraffic // those with traffic, by kind and name
}

// TopicTraffic is a row of the table.
type TopicTraffic struct {
	Name string
	Kind Kind
	Type string // of ROS, "" if it is not known
	// Treatment is that of what this host sends; of several writers, the most urgent's.
	Treatment engine.Treatment
	Tx, Rx    Flow
}

// Snapshot returns what was seen until now. It forgets what has been idle for half an hour.
func (w *Watch) Snapshot(now time.Time) Traffic {
	t := &w.table
	at := now.Sub(w.begun)
	out := Traffic{Since: w.begun}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.peers {
		t.sweep(at, p, forgottenRow)
		treated := t.settle(at, p)
		pt := PeerTraffic{Address: p.address}
		add := func(r *row) {
			if flow, used := r.flows(at); used {
				pt.Topics = append(pt.Topics, TopicTraffic{Name: r.text, Kind: r.kind, Type: r.typ, Treatment: treated[r], Tx: flow[tx], Rx: flow[rx]})
			}
		}
		for _, r := range p.rows {
			add(r)
		}
		for _, r := range p.class {
			add(r)
		}
		slices.SortFunc(pt.Topics, func(a, b TopicTraffic) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
		out.Peers = append(out.Peers, pt)
	}
	slices.SortFunc(out.Peers, func(a, b PeerTraffic) int { return a.Address.Compare(b.Address) })
	return out
}

// settle folds all runs and lets the seconds pass in all windows, and returns how what this host sends is treated. The table's lock is held.
func (t *table) settle(at time.Duration, p *peer) map[*row]engine.Treatment {
	sec := int64(at / time.Second)
	treated := map[*row]engine.Treatment{p.class[classDiscovery]: {Lane: engine.Urgent}}
	for _, w := range p.ring {
		d := w.direction()
		r := w.lock(d)
		for i := range w.windows {
			w.windows[i].fold(t, w, &r.flow[d])
			r.flow[d].lost += w.windows[i].turn(sec)
		}
		if d == tx {
			t := w.treatment
			if w.large > sec {
				t.Lane = engine.Bulk
			}
			if known, ok := treated[r]; ok {
				t = join(known, t)
			}
			treated[r] = t
		}
		r.flow[d].mu.Unlock()
	}
	return treated
}

// flows is what a row counted; used says that it is anything.
func (r *row) flows(at time.Duration) (f [2]Flow, used bool) {
	for d := range r.flow {
		c := &r.flow[d]
		c.mu.Lock()
		c.fold()
		f[d] = c.flow(at)
		used = used || c.bytes > 0
		c.mu.Unlock()
	}
	return f, used
}
