package engine

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// The robot's uplinks, and its peer.
const (
	wifi, lte = 3, 4
	wifiAt    = "192.0.2.1:5582"
	lteAt     = "198.51.100.1:5582"
	peerAt    = "203.0.113.9:5582"
)

// robot has two uplinks, of which routing chooses Wi-Fi.
type robot struct {
	*node
	net   *network
	peer  *node
	sent  [2]uint32 // packets of the robot, of the peer
	came  [2]map[uint32]int
	lasts [2]time.Time
	gap   time.Duration
}

func newRobot(t *testing.T, treatment Treatment) *robot {
	n := newNetwork()
	inspect := func(c *Config) { c.Inspect = func() Inspector { return everything(treatment) } }
	r := &robot{net: n, came: [2]map[uint32]int{{}, {}}}
	r.node = newNode(t, n, 1, wifiAt, inspect, func(c *Config) {
		c.Route = func(netip.Addr) uint32 {
			p := c.IPv4.(*port)
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.routed
		}
		p := c.IPv4.(*port)
		p.join(wifi, wifiAt)
		p.join(lte, lteAt)
		p.route(wifi)
	})
	r.peer = newNode(t, n, 2, peerAt, inspect)
	r.knows(r.peer, peerAt)
	r.peer.knows(r.node)
	n.setFilter(faultless)
	return r
}

// faultless is a network without faults.
func faultless(from, to netip.AddrPort, b []byte) []delivery {
	return []delivery{{after: 10 * time.Millisecond, from: from, to: to, b: b}}
}

// without loses what passes some endpoints.
func without(endpoints ...string) func(from, to netip.AddrPort, b []byte) []delivery {
	return func(from, to netip.AddrPort, b []byte) []delivery {
		for _, e := range endpoints {
			if x := netip.MustParseAddrPort(e); from == x || to == x {
				return nil
			}
		}
		return faultless(from, to, b)
	}
}

// uplinks tells the robot's engine what its kernel has.
func (r *robot) tell(routed uint32, indices ...uint32) {
	r.port.route(routed)
	var list []Uplink
	for _, i := range []uint32{wifi, lte} {
		gone := true
		for _, x := range indices {
			gone = gone && x != i
		}
		r.port.leave(i, gone)
		if !gone {
			list = append(list, Uplink{Interface: i, IPv4: netip.MustParseAddrPort(map[uint32]string{wifi: wifiAt, lte: lteAt}[i]).Addr()})
		}
	}
	r.SetUplinks(list)
	r.LinksChanged(func(p Path) Fate {
		switch at := p.Local.Interface; {
		case at == 0 || at == routed:
			return Stands
		case (at == wifi || at == lte) && len(list) == 2:
			return Rerouted
		}
		return Lost
	})
}

// chat exchanges packets at 100 Hz.
func (r *robot) chat(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for i, x := range []*node{r.node, r.peer} {
			other := r.peer
			if i == 1 {
				other = r.node
			}
			x.send(udpPacket(x.id.Address(), other.id.Address(), r.sent[i], 200))
			r.sent[i]++
			for _, p := range other.received() {
				r.came[i][binary.BigEndian.Uint32(p[48:])]++
				if !r.lasts[i].IsZero() {
					r.gap = max(r.gap, time.Since(r.lasts[i]))
				}
				r.lasts[i] = time.Now()
			}
		}
	}
}

// mustHave demands every packet from the given ones on, once.
func (r *robot) mustHave(t *testing.T, from [2]uint32) {
	t.Helper()
	for i, name := range []string{"the robot", "the peer"} {
		lost, twice := 0, 0
		for n := from[i]; n+5 < r.sent[i]; n++ { // the last are on their way
			switch r.came[i][n] {
			case 0:
				lost++
			case 1:
			default:
				twice++
			}
		}
		if lost+twice > 0 {
			t.Errorf("of %d packets of %s %d were lost and %d came twice", r.sent[i]-from[i], name, lost, twice)
		}
	}
}

// carries reports by which of the robot's endpoints traffic goes: out of it, and into it.
func (r *robot) carries(t *testing.T, outward, inward string) {
	t.Helper()
	mark := len(r.net.sightings())
	r.chat(time.Second)
	var out, in int
	for _, s := range r.net.sightings()[mark:] {
		switch {
		case len(s.b) < 200:
		case s.from == netip.MustParseAddrPort(outward):
			out++
		case s.to == netip.MustParseAddrPort(inward):
			in++
		}
	}
	if out < 100 || in < 100 {
		t.Errorf("%d packets left by %s and %d came by %s in a second of 100", out, outward, in, inward)
	}
}

func TestCopiesByTwoUplinks(t *testing.T) {
	for _, cut := range []string{wifiAt, lteAt} {
		t.Log("cut", cut)
		synctest.Test(t, func(t *testing.T) {
			r := newRobot(t, Treatment{Redundant: true})
			r.tell(wifi, wifi, lte)
			r.chat(10 * time.Second)
			from := r.sent
			r.chat(time.Second)
			r.net.setFilter(without(cut))
			r.chat(15 * time.Second)
			r.net.setFilter(faultless)
			r.chat(60 * time.Second)
			r.mustHave(t, from)
			for _, x := range []*node{r.node, r.peer} {
				if x.Stats().Copies.Load() == 0 || x.Stats().Replayed.Load() > 0 {
					t.Errorf("%d copies, %d replays", x.Stats().Copies.Load(), x.Stats().Replayed.Load())
				}
			}
			s, _ := r.Peer(r.peer.id.Address())
			if s.Path.Local.Interface != wifi {
				t.Errorf("the robot's path leaves by %v", s.Path.Local)
			}
			r.carries(t, wifiAt, wifiAt)
			r.carries(t, lteAt, lteAt) // copies
		})
	}
}

func TestSpareUplinkIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRobot(t, Treatment{})
		r.tell(wifi, wifi, lte)
		r.chat(time.Minute)
		for _, s := range r.net.sightings() {
			if s.from == netip.MustParseAddrPort(lteAt) {
				t.Fatal("something was sent by the uplink that routing does not choose")
			}
		}
	})
}

// Wi-Fi goes, LTE takes over; Wi-Fi comes back, and all traffic with it, both ways, without a packet lost on the way home.
func TestTrafficComesHome(t *testing.T) {
	for _, begins := range []uint32{wifi, lte} {
		t.Log("begins with", begins)
		synctest.Test(t, func(t *testing.T) {
			r := newRobot(t, Treatment{})
			if begins == wifi {
				r.tell(wifi, wifi, lte)
				r.chat(20 * time.Second)
				r.carries(t, wifiAt, wifiAt)
				r.gap = 0
			}
			r.tell(lte, lte)
			r.chat(20 * time.Second)
			if r.gap > time.Second {
				t.Errorf("traffic stopped for %v when Wi-Fi went", r.gap)
			}
			r.carries(t, lteAt, lteAt)
			from := r.sent
			r.chat(time.Second)
			r.tell(wifi, wifi, lte)
			r.chat(5 * time.Second)
			r.carries(t, wifiAt, wifiAt)
			r.mustHave(t, from)
		})
	}
}

// Routing changes its mind while both uplinks stay: traffic follows, without a packet lost, both ways.
func TestRoutingChangesItsMind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRobot(t, Treatment{})
		r.tell(wifi, wifi, lte)
		r.chat(10 * time.Second)
		from := r.sent
		for _, x := range []struct {
			index uint32
			at    string
		}{{lte, lteAt}, {wifi, wifiAt}, {lte, lteAt}} {
			r.tell(x.index, wifi, lte)
			r.chat(10 * time.Second)
			r.carries(t, x.at, x.at)
		}
		r.mustHave(t, from)
	})
}

// The session ends while Wi-Fi is silent: the next handshake goes by LTE.
func TestHandshakeBySpareUplink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRobot(t, Treatment{})
		r.tell(wifi, wifi, lte)
		r.chat(5 * time.Second)
		r.net.setFilter(without(wifiAt))
		time.Sleep(10 * time.Minute)
		flowsWithin(t, r.node, r.peer, 5*time.Second)
	})
}

// What a peer sends to the uplink that routing does not choose, unasked, draws no traffic there.
func TestTheSpareUplinkIsNotChosenByThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRobot(t, Treatment{})
		// The peer knows LTE alone, and begins; Wi-Fi is slow.
		r.peer.knows(r.node, lteAt)
		r.known.put(Contact{Address: r.peer.id.Address(), Key: r.peer.id.PublicKey(), Native: true})
		r.tell(wifi, wifi, lte)
		r.net.setFilter(func(from, to netip.AddrPort, b []byte) []delivery {
			d := faultless(from, to, b)
			if x := netip.MustParseAddrPort(wifiAt); from == x || to == x {
				d[0].after = 100 * time.Millisecond
			}
			return d
		})
		flowsWithin(t, r.peer, r.node, time.Second)
		r.chat(10 * time.Second)
		r.knows(r.peer, peerAt)
		r.Refresh(r.peer.id.Address())
		r.chat(20 * time.Second)
		r.carries(t, wifiAt, wifiAt)
	})
}

// Wi-Fi comes back and leads nowhere: traffic stays where it works.
func TestUplinkThatLeadsNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRobot(t, Treatment{})
		r.tell(lte, lte)
		r.chat(20 * time.Second)
		from := r.sent
		r.net.setFilter(without(wifiAt))
		r.tell(wifi, wifi, lte)
		r.chat(20 * time.Second)
		r.mustHave(t, from)
		r.carries(t, lteAt, lteAt)
		r.net.setFilter(faultless)
		r.chat(time.Minute)
		r.carries(t, wifiAt, wifiAt)
		r.mustHave(t, from)
	})
}

// The peer is behind a NAT that lets in only whom it sent to: it learns from inside the tunnel where the robot is by LTE, as long as copies flow.
func TestSpareEndpointsAreTold(t *testing.T) {
	for _, redundant := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newRobot(t, Treatment{})
			open := map[netip.AddrPort]bool{netip.MustParseAddrPort(wifiAt): true}
			r.net.setFilter(func(from, to netip.AddrPort, b []byte) []delivery {
				if from == netip.MustParseAddrPort(peerAt) {
					open[to] = true
				} else if !open[from] {
					return nil
				}
				return faultless(from, to, b)
			})
			r.tell(wifi, wifi, lte)
			r.chat(3 * time.Second)
			if redundant {
				p := r.peers.get(r.peer.id.Address())
				p.mu.Lock()
				p.routes.machine.Copying(time.Now())
				p.mu.Unlock()
				r.chat(time.Second)
			}
			wanted := r.happened(CopiesWanted)
			r.SetSpareEndpoints([]netip.AddrPort{netip.MustParseAddrPort(lteAt)})
			r.chat(3 * time.Second)
			p := r.peer.peers.get(r.id.Address())
			p.mu.Lock()
			_, _, _, second := p.routes.machine.Backup()
			p.mu.Unlock()
			if second != redundant || (wanted > 0) != redundant {
				t.Errorf("redundant %v: the peer has a second path: %v; endpoints were wanted %d times", redundant, second, wanted)
			}
		})
	}
}
