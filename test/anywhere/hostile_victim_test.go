package anywhere

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// plot is a robot with a public address, one behind a NAT, whom both trust: a good peer and a bad one; and a third party.
type plot struct {
	*world
	open, home, good *fleet.Robot
	homeNAT          netip.Addr
	host             *internet.Host // mallory's
	victim           *internet.Host
	random           *rand.Rand
	number           byte
}

func newPlot(t *testing.T) *plot {
	t.Helper()
	p := &plot{world: newWorld(t, "base1"), random: rand.New(rand.NewPCG(3, 4))}
	p.open, _ = p.robot(p.net.Site("datacentre", internet.Public, internet.Families(internet.IPv4)), "robot1")
	home := p.net.Site("home", internet.PortRestricted)
	p.home, _ = p.robot(home, "robot2")
	p.homeNAT = home.Router.Addr4("lan0")
	p.good, _ = p.robot(p.net.Site("plant", internet.FullCone), "robot3")
	p.host = p.net.Site("nowhere", internet.Public, internet.Families(internet.IPv4)).Host("mallory")
	p.victim = p.net.Base("victim", internet.IPv4)
	fleet.Trust(p.open, p.home, p.good)
	for _, r := range []*fleet.Robot{p.open, p.home} {
		r.Hnet("ping", p.good.Address.String(), "-c", "1")
		pathWithin(t, r, p.good, 10*time.Second, api.PathDirect)
	}
	return p
}

func (p *plot) third() netip.Addr { return p.victim.Addrs()[0] }

// mallory is a new bad peer of a robot's.
func (p *plot) mallory(t *testing.T, of *fleet.Robot) *mallory {
	t.Helper()
	p.number++
	m := newMallory(t, of, identity.FromSeed([32]byte{9, p.number}))
	m.at(p.host.Host, netip.AddrPortFrom(p.host.Addrs()[0], 4000+uint16(p.number)), netip.AddrPortFrom(of.Addr4("lan0"), 5582))
	m.whitelisted(of)
	return m
}

// atVictim is what a capture saw come from one address: how much, and in the busiest second.
func atVictim(c *lab.Capture, from netip.Addr) (n, busiest int) {
	return arrivals(c.Stop(), func(x lab.Packet) bool { return x.Src == from })
}

// TestMaliciousPeer is what a whitelisted peer with valid keys can have a robot do to somebody else, and to itself.
func TestMaliciousPeer(t *testing.T) {
	p := newPlot(t)
	none := netip.AddrPort{}

	t.Run("names a victim with changing ports", func(t *testing.T) {
		m := p.mallory(t, p.open)
		m.handshake(none)
		packets(t, p.open, m.id.Address(), 50)
		c := p.victim.Capture(t, "lan0")
		began := time.Now()
		for i := 0; time.Since(began) < 6*time.Second; i++ {
			m.tell(byte(i%3), mappingIndependent, none, ports(p.third(), 16, p.random)...)
			time.Sleep(50 * time.Millisecond)
		}
		n, busiest := atVictim(c, p.open.Addr4("lan0"))
		t.Logf("%d datagrams to the victim in %v, %d in the busiest second", n, time.Since(began), busiest)
		if most := probesTo(time.Since(began)); n > most {
			t.Errorf("%d datagrams to an address that never answered, %d at most", n, most)
		}
	})

	t.Run("falls silent after naming a victim", func(t *testing.T) {
		m := p.mallory(t, p.open)
		m.handshake(none)
		packets(t, p.open, m.id.Address(), 50)
		m.tell(0, mappingIndependent, none, ports(p.third(), 16, p.random)...)
		c := p.victim.Capture(t, "lan0")
		began := time.Now()
		m.socket.Close()
		time.Sleep(10 * time.Second)
		fs:=c.Stop()
		for _, f := range fs { x := f.Decode(); t.Log(f.Time.Sub(began), x, x.PayloadLen, x.Payload[:min(4,len(x.Payload))]) }
		n, busiest := atVictim(c, p.open.Addr4("lan0"))
		t.Logf("%d datagrams to the victim in %v, %d in the busiest second", n, time.Since(began), busiest)
		if most := probesTo(time.Since(began)); n > most {
			t.Errorf("%d datagrams to an address that never answered, %d at most", n, most)
		}
	})

	t.Run("confirms a handshake with a forged source", func(t *testing.T) {
		m := p.mallory(t, p.open)
		m.handshake(none)
		packets(t, p.open, m.id.Address(), 200)
		c := p.victim.Capture(t, "lan0")
		began := time.Now()
		victim := netip.AddrPortFrom(p.third(), 6000)
		m.mu.Lock()
		m.answers = false // so that the way it is really found by dies
		m.mu.Unlock()
		for time.Since(began) < 6*time.Second {
			m.handshake(victim)
			for range 10 {
				m.mu.Lock()
				m.say(append([]byte{innerHello, 1}, make([]byte, 14)...), victim)
				m.mu.Unlock()
				time.Sleep(30 * time.Millisecond)
			}
		}
		n, busiest := atVictim(c, p.open.Addr4("lan0"))
		t.Logf("%d datagrams to the victim in %v, %d in the busiest second", n, time.Since(began), busiest)
		if most := probesTo(time.Since(began)); n > most {
			t.Errorf("%d datagrams to an address that never answered, %d at most: the robot's traffic follows a forged source", n, most)
		}
	})

	t.Run("sends data with a forged source", func(t *testing.T) {
		m := p.mallory(t, p.open)
		m.handshake(none)
		packets(t, p.open, m.id.Address(), 200)
		c := p.victim.Capture(t, "lan0")
		began := time.Now()
		for i := uint32(0); time.Since(began) < 3*time.Second; i++ {
			// Probes, replies to nothing, and both as if the path had changed.
			from := netip.AddrPortFrom(p.third(), uint16(7000+i%200))
			for _, kind := range []byte{innerProbe, innerReply} {
				b := append(be32([]byte{kind, flagSelected | flagMoved, 0, 0}, i), make([]byte, 8)...)
				m.mu.Lock()
				m.say(b, from)
				m.mu.Unlock()
			}
			time.Sleep(5 * time.Millisecond)
		}
		frames := c.Stop()
		replies, _ := arrivals(frames, func(x lab.Packet) bool { return x.Src == p.open.Addr4("lan0") && x.PayloadLen == 48 })
		others, _ := arrivals(frames, func(x lab.Packet) bool { return x.Src == p.open.Addr4("lan0") && x.PayloadLen != 48 })
		t.Logf("%d answers and probes, %d others to the victim", replies, others)
		for _, f := range frames { if x := f.Decode(); x.Src == p.open.Addr4("lan0") && x.PayloadLen != 48 { t.Log(x, x.PayloadLen, x.Payload[:4]) } }
		if others > 0 {
			t.Errorf("%d datagrams of traffic went to a forged source", others)
		}
		// Each probe is answered the way it came, and no more.
		if sent := int(time.Since(began)/(5*time.Millisecond)) + 1; replies > sent+probesTo(3*time.Second) {
			t.Errorf("%d datagrams in answer to %d", replies, sent)
		}
	})

	t.Run("lies about lengths and floods", func(t *testing.T) {
		m := p.mallory(t, p.open)
		m.handshake(none)
		packets(t, p.open, m.id.Address(), 50)
		before := resident(t, p.open.Daemon)
		lost := loss(t, [][2]*fleet.Robot{{p.open, p.good}}, func() {
			for range 4000 {
				b := randomBytes(p.random, 1+p.random.IntN(300))
				b[0] = byte(p.random.IntN(16))
				if b[0] == innerEndpoints && len(b) > 3 {
					b[3] = byte(p.random.IntN(256))
				}
				m.mu.Lock()
				m.say(b, none)
				m.mu.Unlock()
				if p.random.IntN(8) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
		after := resident(t, p.open.Daemon)
		t.Logf("%d kB resident before, %d after; %.2f %% lost of another peer's", before, after, 100*lost[0])
		if after-before > maxGrowth || lost[0] > 0.01 {
			t.Errorf("%d kB resident before, %d after; %.2f %% lost of another peer's", before, after, 100*lost[0])
		}
	})

	t.Run("flaps between paths", func(t *testing.T) {
		m := p.mallory(t, p.open)
		m.handshake(none)
		stop := packets(t, p.open, m.id.Address(), 100)
		other := netip.AddrPortFrom(m.endpoint().Addr(), 4999)
		lost := loss(t, [][2]*fleet.Robot{{p.open, p.good}}, func() {
			for i := uint32(0); i < 600; i++ {
				from := none
				if i%2 == 1 {
					from = other
				}
				b := append(be32([]byte{innerProbe, flagSelected | flagMoved, 0, 0}, i), make([]byte, 8)...)
				m.mu.Lock()
				m.say(b, from)
				m.mu.Unlock()
				time.Sleep(3 * time.Millisecond)
			}
		})
		stop()
		if lost[0] > 0.01 {
			t.Errorf("%.2f %% of another peer's were lost", 100*lost[0])
		}
	})

	t.Run("moves its registration to a victim", func(t *testing.T) {
		m := p.mallory(t, p.home)
		m.register(p.bases[0])
		m.handshake(none)
		packets(t, p.home, m.id.Address(), 200)
		lab.Eventually(t, 10*time.Second, "packets by the relay", func() error {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.got < 20 {
				return errFew
			}
			return nil
		})
		c := p.victim.Capture(t, "lan0")
		victim := netip.AddrPortFrom(p.third(), 6000)
		began := time.Now()
		for time.Since(began) < 8*time.Second {
			m.mu.Lock()
			m.raw(m.session.Unsequenced(time.Now(), wire.KindPing, wire.Ping{}.Append(nil)), victim, m.base)
			m.mu.Unlock()
			m.tell(signalSpray, mappingDependent, victim, victim)
			time.Sleep(250 * time.Millisecond)
		}
		took := time.Since(began)
		frames := c.Stop()
		relayed, _ := arrivals(frames, func(x lab.Packet) bool { return x.Src == m.base.Addr() })
		sprayed, busiest := arrivals(frames, func(x lab.Packet) bool { return x.Src == p.homeNAT })
		t.Logf("in %v the victim got %d datagrams from the Base, %d from the robot, %d in the busiest second", took, relayed, sprayed, busiest)
		// For every datagram that seemed to come from there the Base may send a few; nothing proves that anybody wants more.
		if most := 4 * 2 * int(took/(250*time.Millisecond)); relayed > most {
			t.Errorf("the Base sent %d datagrams to an address that never answered, %d at most", relayed, most)
		}
		if most := probesTo(took); sprayed > most {
			t.Errorf("the robot sent %d datagrams to an address that nobody proved, %d at most", sprayed, most)
		}
	})

	for _, r := range []*fleet.Robot{p.open, p.home} {
		r.Hnet("ping", p.good.Address.String(), "-c", "1")
	}
}
