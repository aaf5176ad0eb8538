package anywhere

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// Messages inside the tunnel, see package engine.
const (
	innerHello     = 0x02
	innerProbe     = 0x03
	innerReply     = 0x04
	innerEndpoints = 0x05

	flagSelected = 1
	flagMoved    = 2

	signalSpray = 3

	mappingIndependent = 1
	mappingDependent   = 2
)

// mallory is a whitelisted node played by the test: it has keys, and no manners.
type mallory struct {
	t      testing.TB
	id     *identity.Identity
	local  *wireguard.Local
	socket *net.UDPConn
	robot  netip.AddrPort
	base   netip.AddrPort // it goes through this Base if valid
	forger *forger

	mu       sync.Mutex
	machine  *wireguard.Peer
	keypairs map[uint32]*wireguard.Keypair
	keypair  *wireguard.Keypair // the newest
	sealer   wireguard.Sealer
	opener   wireguard.Opener
	index    uint32
	answers  bool // it answers probes
	got      int  // packets of the robot's that it got

	hello   *session.Client
	session *session.Session
	welcome wire.WelcomePayload
	signed  []byte
	here    bool // the Base says that the robot is there

	robotAddress netip.Addr // in the overlay
}

// channel is mallory's number for the robot at a Base.
const channel = 1

func newMallory(t testing.TB, to *fleet.Robot, id *identity.Identity) *mallory {
	t.Helper()
	var robot struct{ WireGuard string }
	to.JSON(&robot, "id")
	remote, err := identity.ParsePublicKey(robot.WireGuard)
	if err != nil {
		t.Fatal(err)
	}
	m := &mallory{t: t, id: id, keypairs: make(map[uint32]*wireguard.Keypair), answers: true}
	m.local = wireguard.NewLocal(id.PrivateKey(), id.PublicKey(), false)
	stamp := time.Now()
	m.machine = wireguard.NewPeer(wireguard.PeerConfig{
		Local: m.local, Remote: remote, Indices: m, Native: true, Stamp: func() time.Time { stamp = stamp.Add(50 * time.Millisecond); return stamp },
	})
	return m
}

// New, Bind and Free are the indices of a node with one peer. The lock is held.
func (m *mallory) New() (uint32, bool) { m.index++; return m.index, true }

func (m *mallory) Bind(index uint32, k *wireguard.Keypair) { m.keypairs[index], m.keypair = k, k }

func (m *mallory) Free(index uint32) { delete(m.keypairs, index) }

// at gives mallory a socket on a host.
func (m *mallory) at(h *lab.Host, endpoint, robot netip.AddrPort) {
	m.socket, m.robot, m.forger = listenUDP(m.t, h, endpoint), robot, newForger(m.t, h)
	go m.loop()
}

func (m *mallory) endpoint() netip.AddrPort { return m.socket.LocalAddr().(*net.UDPAddr).AddrPort() }

func (m *mallory) loop() {
	b := make([]byte, 1<<16)
	for {
		n, from, err := m.socket.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if m.base.IsValid() && from != m.base {
			continue // it is found by the Base alone
		}
		m.mu.Lock()
		m.arrived(b[:n])
		m.mu.Unlock()
	}
}

// arrived takes a datagram. The lock is held, here and below.
func (m *mallory) arrived(b []byte) {
	now := time.Now()
	switch wire.TypeOf(b) {
	case wire.TypeCookie:
		if register, _, err := m.hello.HandleCookie(now, b, m.signed); err == nil {
			m.socket.WriteToUDPAddrPort(register, m.base)
		}
		return
	case wire.TypeWelcome:
		if s, welcome, err := m.hello.HandleWelcome(now, b); err == nil {
			m.session, m.welcome = s, welcome
			_ = s.Queue(wire.KindInterest, wire.Interest{Links: []wire.Link{{Channel: channel, Address: m.robotAddress}}}.Append(nil))
			m.flush()
		}
		return
	case wire.TypeBaseControl:
		if m.session == nil {
			return
		}
		_, _ = m.session.Receive(now, b, func(kind wire.Kind, body []byte) {
			if p, err := wire.ParsePeer(body); kind == wire.KindPeer && err == nil {
				m.here = p.Here
			}
		})
		m.flush()
		return
	case wire.TypeRelayed:
		b = b[wire.RelayHeaderLen:]
	}
	switch wireguard.TypeOf(b) {
	case wireguard.TypeInitiation:
		if init, err := m.local.ReadInitiation(b); err == nil {
			if response, err := m.machine.Respond(now, init); err == nil {
				m.out(response, netip.AddrPort{})
			}
		}
	case wireguard.TypeResponse:
		_, _ = m.machine.Complete(now, b)
	case wireguard.TypeTransport:
		k := m.keypairs[wireguard.ReceiverIndex(b)]
		if k == nil {
			return
		}
		plain, ok := m.opener.Open(k, b)
		switch {
		case !ok || len(plain) == 0:
		case plain[0] == innerProbe:
			if m.answers {
				reply := append([]byte(nil), plain[:16]...)
				reply[0] = innerReply
				m.say(reply, netip.AddrPort{})
			}
		case plain[0]>>4 == 6:
			m.got++
		}
	}
}

// say seals a plaintext and sends it: as from, if that is valid.
func (m *mallory) say(plain []byte, from netip.AddrPort) {
	if m.keypair == nil {
		return
	}
	padded := make([]byte, (len(plain)+15)/16*16)
	copy(padded, plain)
	b := make([]byte, len(padded)+wireguard.TransportOverhead)
	m.out(b[:m.sealer.Seal(m.keypair, b, padded)], from)
}

// out sends a datagram of the tunnel's to the robot, by the Base if there is one.
func (m *mallory) out(b []byte, from netip.AddrPort) {
	to := m.robot
	if m.base.IsValid() {
		framed := make([]byte, wire.RelayHeaderLen, wire.RelayHeaderLen+len(b))
		wire.PutRelay(framed, m.welcome.Session, m.welcome.Token, channel)
		b, to = append(framed, b...), m.base
	}
	m.raw(b, from, to)
}

func (m *mallory) raw(b []byte, from, to netip.AddrPort) {
	if from.IsValid() {
		m.forger.send(from, to, b)
	} else {
		m.socket.WriteToUDPAddrPort(b, to)
	}
}

// flush sends what the session with the Base has to say.
func (m *mallory) flush() {
	for b := m.session.Poll(time.Now()); b != nil; b = m.session.Poll(time.Now()) {
		m.socket.WriteToUDPAddrPort(b, m.base)
	}
}

// handshake makes new keys with the robot; the message that confirms them comes as from, if that is valid.
func (m *mallory) handshake(confirmAs netip.AddrPort) {
	m.t.Helper()
	m.mu.Lock()
	before := m.keypair
	m.mu.Unlock()
	lab.Eventually(m.t, 5*time.Second, "a session with the robot", func() error {
		m.mu.Lock()
		if m.keypair != before {
			m.mu.Unlock()
			return nil
		}
		b, err := m.machine.Initiation(time.Now())
		if err == nil {
			m.out(b, netip.AddrPort{})
		}
		m.mu.Unlock()
		time.Sleep(60 * time.Millisecond)
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.keypair == before {
			return fmt.Errorf("no answer")
		}
		return nil
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.say(append([]byte{innerHello, 1}, make([]byte, 14)...), confirmAs)
}

// tell says inside the tunnel where mallory is.
func (m *mallory) tell(signal, mapping byte, from netip.AddrPort, list ...netip.AddrPort) {
	b := append([]byte{innerEndpoints, signal, mapping, byte(len(list))}, make([]byte, 12)...)
	for _, e := range list {
		b = wire.AppendEndpoint(b, e)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.say(b, from)
}

// sayAs says something inside the tunnel, as from if that is valid.
func (m *mallory) sayAs(from netip.AddrPort, plain []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.say(plain, from)
}

// deaf has mallory answer no probes.
func (m *mallory) deaf(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answers = !on
}

// packets is how many packets the robot sent here.
func (m *mallory) packets() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.got
}

// pingBaseAs sends the Base a ping that is authentic but for its source.
func (m *mallory) pingBaseAs(from netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.raw(m.session.Unsequenced(time.Now(), wire.KindPing, wire.Ping{}.Append(nil)), from, m.base)
}

// register registers with the robot's Base and waits until that says that the robot is there.
func (m *mallory) register(b *fleet.Base) {
	m.t.Helper()
	m.base = netip.AddrPortFrom(b.Addr4("lan0"), 5582)
	var err error
	m.mu.Lock()
	m.hello, err = session.NewClient(session.ClientConfig{Identity: m.id, Base: b.Address, Index: 7})
	m.signed = signedRecord(m.t, m.id, m.endpoint())
	m.mu.Unlock()
	if err != nil {
		m.t.Fatal(err)
	}
	lab.Eventually(m.t, 10*time.Second, "the robot at the Base", func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		switch {
		case m.session == nil:
			m.socket.WriteToUDPAddrPort(m.hello.Hello(time.Now()), m.base)
		case m.here:
			return nil
		default:
			m.flush()
		}
		return fmt.Errorf("not there yet")
	})
}

// whitelisted puts mallory on a robot's whitelist, to the end of the test.
func (m *mallory) whitelisted(r *fleet.Robot) {
	m.t.Helper()
	m.robotAddress = r.Address
	key := m.id.PublicKey()
	r.Hnet("whitelist", "add", key.String())
	m.t.Cleanup(func() { r.TryHnet("whitelist", "rm", key.Address().String()) })
}

// packets has the robot send to mallory without a pause, until the test ends or stop is called: rate datagrams of 400 bytes a second.
func packets(t testing.TB, from *fleet.Robot, to netip.Addr, rate int) (stop func()) {
	t.Helper()
	c := listenUDP(t, from.Host, netip.AddrPortFrom(from.Address, 0))
	ended := make(chan struct{})
	var once sync.Once
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		b := make([]byte, 400)
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				_, _ = c.WriteToUDPAddrPort(b, netip.AddrPortFrom(to, 9))
			}
		}
	})
	stop = func() { once.Do(func() { close(ended) }); done.Wait() }
	t.Cleanup(stop)
	return stop
}

// ports are endpoints of one address.
func ports(a netip.Addr, n int, random *rand.Rand) (list []netip.AddrPort) {
	for range n {
		list = append(list, netip.AddrPortFrom(a, uint16(1024+random.IntN(60000))))
	}
	return list
}

func be32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
