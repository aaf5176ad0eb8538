package anywhere

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// plot is a robot with a public address, one behind a NAT, whom both trust: a good peer and a bad one; and a third party.
type plot struct {
	*world
	open, home, good *fleet.Robot
	homeNAT, goodNAT netip.Addr
	host             *internet.Host // mallory's
	number           byte
	running          sync.WaitGroup
}

// scheme is one thing that mallory does to a victim of its own.
type scheme struct {
	*testing.T
	*mallory
	plot   *plot
	victim *internet.Host
	random *rand.Rand
}

func newPlot(t *testing.T) *plot {
	t.Helper()
	p := &plot{world: newWorld(t, "base1")}
	p.open, _ = p.robot(p.net.Site("datacentre", internet.Public, internet.Families(internet.IPv4)), "robot1")
	home := p.net.Site("home", internet.PortRestricted)
	p.home, _ = p.robot(home, "robot2")
	p.homeNAT = home.Router.Addr4("lan0")
	plant := p.net.Site("plant", internet.FullCone)
	p.good, _ = p.robot(plant, "robot3")
	p.goodNAT = plant.Router.Addr4("lan0")
	p.host = p.net.Site("nowhere", internet.Public, internet.Families(internet.IPv4)).Host("mallory")
	fleet.Trust(p.open, p.home, p.good)
	for _, r := range []*fleet.Robot{p.open, p.home} {
		r.Hnet("ping", p.good.Address.String(), "-c", "1")
		pathWithin(t, r, p.good, 10*time.Second, api.PathDirect)
	}
	return p
}

// run runs a scheme against a robot beside the others.
func (p *plot) run(name string, against *fleet.Robot, f func(s *scheme)) {
	p.number++
	n := p.number
	victim := p.net.Base(fmt.Sprintf("victim%d", n), internet.IPv4)
	p.running.Go(func() {
		p.Run(name, func(t *testing.T) { p.scheme(t, against, victim, n, f) })
	})
}

func (p *plot) scheme(t *testing.T, against *fleet.Robot, victim *internet.Host, n byte, f func(s *scheme)) {
	m := newMallory(t, against, identity.FromSeed([32]byte{9, n}))
	m.at(p.host.Host, netip.AddrPortFrom(p.host.Addrs()[0], 4000+uint16(n)), netip.AddrPortFrom(against.Addr4("lan0"), 5582))
	m.whitelisted(against)
	f(&scheme{t, m, p, victim, rand.New(rand.NewPCG(3, uint64(n)))})
}

func (s *scheme) third() netip.Addr { return s.victim.Addrs()[0] }

// bounded fails unless what the robot at an address sent to the victim is no more than probes may be.
func (s *scheme) bounded(frames []lab.Frame, from netip.Addr, took time.Duration) {
	s.Helper()
	n, busiest := arrivals(frames, func(x lab.Packet) bool { return x.Src == from })
	most := probesTo(took)
	s.Logf("%d datagrams to the victim in %v, %d in the busiest second", n, took.Round(time.Millisecond), busiest)
	if n > most {
		s.Errorf("%d datagrams to an address that never answered, %d at most in %v", n, most, took)
	}
}

// TestMaliciousPeer is what a whitelisted peer with valid keys can have a robot do to somebody else, and to itself.
func TestMaliciousPeer(t *testing.T) {
	p := newPlot(t)
	none := netip.AddrPort{}
	hello := append([]byte{innerHello, 1}, make([]byte, 14)...)
	p.run("names a victim with changing ports", p.open, func(s *scheme) {
		s.handshake(none)
		packets(s, p.open, s.id.Address(), 50)
		c := s.victim.Capture(s, "lan0")
		began := time.Now()
		for i := 0; time.Since(began) < 7*time.Second; i++ {
			s.tell(byte(i%3), mappingIndependent, none, ports(s.third(), 16, s.random)...)
			time.Sleep(50 * time.Millisecond)
		}
		s.bounded(c.Stop(), p.open.Addr4("lan0"), time.Since(began))
	})

	p.run("falls silent after naming a victim", p.open, func(s *scheme) {
		s.handshake(none)
		packets(s, p.open, s.id.Address(), 50)
		s.tell(0, mappingIndependent, none, ports(s.third(), 16, s.random)...)
		c := s.victim.Capture(s, "lan0")
		began := time.Now()
		s.socket.Close()
		time.Sleep(9 * time.Second)
		s.bounded(c.Stop(), p.open.Addr4("lan0"), time.Since(began))
	})

	p.run("confirms handshakes with a forged source", p.open, func(s *scheme) {
		s.handshake(none)
		packets(s, p.open, s.id.Address(), 200)
		c := s.victim.Capture(s, "lan0")
		began := time.Now()
		victim := netip.AddrPortFrom(s.third(), 6000)
		s.deaf(true) // so that the way by which it is really reached dies
		for time.Since(began) < 7*time.Second {
			s.handshake(victim)
			for range 10 {
				s.sayAs(victim, hello)
				time.Sleep(30 * time.Millisecond)
			}
		}
		s.bounded(c.Stop(), p.open.Addr4("lan0"), time.Since(began))
	})

	p.run("probes with forged sources", p.open, func(s *scheme) {
		s.handshake(none)
		packets(s, p.open, s.id.Address(), 200)
		c := s.victim.Capture(s, "lan0")
		began := time.Now()
		sent := 0
		for ; time.Since(began) < 6*time.Second; sent++ {
			from := netip.AddrPortFrom(s.third(), uint16(7000+sent%200))
			kind := byte(innerProbe + sent%2) // a reply answers nothing that was asked
			s.sayAs(from, append(be32([]byte{kind, flagSelected | flagMoved, 0, 0}, uint32(sent)), make([]byte, 8)...))
			time.Sleep(5 * time.Millisecond)
		}
		const answer = 16 + wireguard.TransportOverhead
		took := time.Since(began)
		frames := c.Stop()
		all, _ := arrivals(frames, func(x lab.Packet) bool { return x.Src == p.open.Addr4("lan0") })
		traffic, _ := arrivals(frames, func(x lab.Packet) bool { return x.Src == p.open.Addr4("lan0") && x.PayloadLen > 400 })
		s.Logf("%d datagrams to the victim for %d with its address, %d of them traffic", all, sent, traffic)
		if traffic > 0 {
			s.Errorf("%d datagrams of traffic went where nobody had proved to be", traffic)
		}
		if all > sent/2+1+probesTo(took) {
			s.Errorf("%d datagrams for %d probes of %d bytes", all, sent/2, answer)
		}
	})

	p.run("lies about lengths and floods", p.open, func(s *scheme) {
		s.handshake(none)
		packets(s, p.open, s.id.Address(), 50)
		before := resident(s, p.open.Daemon)
		lost := loss(s.T, [][2]*fleet.Robot{{p.open, p.good}}, func() {
			for range 4000 {
				b := randomBytes(s.random, 1+s.random.IntN(300))
				if b[0] = byte(s.random.IntN(16)); b[0] == innerEndpoints && len(b) > 3 {
					b[3] = byte(s.random.IntN(256))
				}
				s.sayAs(none, b)
				if s.random.IntN(8) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
		after := resident(s, p.open.Daemon)
		s.Logf("%d kB resident before, %d after", before, after)
		if after-before > maxGrowth || lost[0] > 0.01 {
			s.Errorf("%d kB resident before, %d after; %.2f %% of another peer's were lost", before, after, 100*lost[0])
		}
	})

	p.run("flaps between paths", p.open, func(s *scheme) {
		s.handshake(none)
		packets(s, p.open, s.id.Address(), 100)
		other := netip.AddrPortFrom(s.endpoint().Addr(), 4999)
		lost := loss(s.T, [][2]*fleet.Robot{{p.open, p.good}}, func() {
			for i := uint32(0); i < 600; i++ {
				from := none
				if i%2 == 1 {
					from = other
				}
				s.sayAs(from, append(be32([]byte{innerProbe, flagSelected | flagMoved, 0, 0}, i), make([]byte, 8)...))
				time.Sleep(5 * time.Millisecond)
			}
		})
		if lost[0] > 0.01 {
			s.Errorf("%.2f %% of another peer's were lost", 100*lost[0])
		}
	})

	p.run("moves its registration to a victim", p.home, func(s *scheme) {
		s.register(p.bases[0])
		s.handshake(none)
		packets(s, p.home, s.id.Address(), 200)
		lab.Eventually(s, 10*time.Second, "packets by the relay", func() error {
			if n := s.packets(); n < 20 {
				return fmt.Errorf("%d so far", n)
			}
			return nil
		})
		c := s.victim.Capture(s, "lan0")
		victim := netip.AddrPortFrom(s.third(), 6000)
		began := time.Now()
		moves := 0
		for ; time.Since(began) < 8*time.Second; moves++ {
			s.pingBaseAs(victim)
			s.tell(signalSpray, mappingDependent, victim, victim)
			time.Sleep(250 * time.Millisecond)
		}
		took := time.Since(began)
		frames := c.Stop()
		relayed, _ := arrivals(frames, func(x lab.Packet) bool { return x.Src == s.base.Addr() })
		s.Logf("%d datagrams from the Base to the victim for %d with its address", relayed, 2*moves)
		// Nothing proves that anybody there wants more than an answer each.
		if relayed > 2*2*moves {
			s.Errorf("the Base sent %d datagrams to an address that never answered, for %d that seemed to come from there", relayed, 2*moves)
		}
		s.bounded(frames, p.homeNAT, took)
	})
	// Port prediction is at nobody's cost but the one's whom a Base sees and who names himself; and there are bounds to that too.
	p.run("asks for port prediction again and again", p.good, func(s *scheme) {
		s.register(p.bases[0])
		s.handshake(none)
		packets(s, p.good, s.id.Address(), 50)
		c := p.host.Capture(s, "lan0")
		began := time.Now()
		for time.Since(began) < 9*time.Second {
			s.tell(signalSpray, mappingDependent, none, s.endpoint(), netip.AddrPortFrom(s.third(), 6000))
			time.Sleep(250 * time.Millisecond)
		}
		n, busiest := arrivals(c.Stop(), func(x lab.Packet) bool { return x.Src == p.goodNAT })
		s.Logf("%d datagrams in %v, %d in the busiest second", n, time.Since(began).Round(time.Millisecond), busiest)
		if n > maxSpray+probesTo(time.Since(began)) || busiest > maxSprayRate {
			s.Errorf("%d datagrams in %v, %d in the busiest second", n, time.Since(began), busiest)
		}
		if n < 200 {
			s.Errorf("%d datagrams: no port was guessed, and nothing is proved", n)
		}
	})
	p.running.Wait()
	for _, r := range []*fleet.Robot{p.open, p.home} {
		r.Hnet("ping", p.good.Address.String(), "-c", "1")
	}
}
