package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// patience is how long tests wait for what must come.
const patience = 20 * time.Second

// served is a server on real sockets of the loopback interface.
type served struct {
	*Server
	socket              underlay.Socket // of udp
	udp, tcp, alternate netip.AddrPort
	stop                func()
}

func serveReal(t testing.TB, limits Limits) *served {
	t.Helper()
	s, err := New(Config{Identity: identityOf(1 << 30), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	open := func() *underlay.UDP {
		sock, err := underlay.Listen("udp4", 0, underlay.Options{RecvTTL: true, RecvBuffer: 4 << 20, SendBuffer: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return sock
	}
	udp, alternate := open(), open()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.Serve(ctx, ListenConfig{UDP: Sockets{IPv4: udp}, Alternate: Sockets{IPv4: alternate}, TLS: []net.Listener{l}})
	}()
	stopped := false
	r := &served{Server: s, socket: udp, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}}
	loopback := netip.MustParseAddr("127.0.0.1")
	r.udp, r.alternate = netip.AddrPortFrom(loopback, udp.LocalPort()), netip.AddrPortFrom(loopback, alternate.LocalPort())
	r.tcp = l.Addr().(*net.TCPAddr).AddrPort()
	t.Cleanup(r.stop)
	return r
}

// realClient is a client on a real socket or connection.
type realClient struct {
	t       testing.TB
	conn    net.Conn
	stream  bool
	id      *identity.Identity
	session *session.Session
	welcome wire.WelcomePayload
	peers   chan wire.Peer
	pongs   chan wire.Pong
	drained chan struct{}
	relayed chan []byte
}

func (c *realClient) send(b []byte) {
	if c.stream {
		b = appendFrame(nil, b)
	}
	if _, err := c.conn.Write(b); err != nil {
		c.t.Error(err)
	}
}

func (c *realClient) read() ([]byte, error) {
	if !c.stream {
		b := make([]byte, 1<<16)
		n, err := c.conn.Read(b)
		return b[:n], err
	}
	var head [2]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err := io.ReadFull(c.conn, b)
	return b, err
}

// dialTLS connects and checks the certificate as clients do.
func dialTLS(t testing.TB, s *served) net.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", s.tcp.String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, VerifyConnection: func(state tls.ConnectionState) error {
		key, err := identity.SigningKey(state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)).WireGuard()
		if err != nil || key.Address() != s.cfg.Identity.Address() {
			t.Errorf("the certificate's key is that of %v (%v)", key.Address(), err)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// connect registers a client by UDP or TCP.
func connect(t testing.TB, s *served, n int, overTCP bool) *realClient {
	t.Helper()
	c := &realClient{t: t, stream: overTCP, id: identityOf(n), peers: make(chan wire.Peer, 100), pongs: make(chan wire.Pong, 100),
		drained: make(chan struct{}, 10), relayed: make(chan []byte, 100_000)}
	if overTCP {
		c.conn = dialTLS(t, s)
	} else {
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.udp))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadBuffer(4 << 20)
		c.conn = conn
		t.Cleanup(func() { conn.Close() })
	}
	hs, err := session.NewClient(session.ClientConfig{Identity: c.id, Base: s.cfg.Identity.Address(), Index: rand.Uint32(), OverTCP: overTCP})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	c.send(hs.Hello(time.Now()))
	b, err := c.read()
	if err != nil {
		t.Fatal(err)
	}
	register, _, err := hs.HandleCookie(time.Now(), b, signedRecord(t, c.id, 1))
	if err != nil {
		t.Fatal(err)
	}
	c.send(register)
	if b, err = c.read(); err != nil {
		t.Fatal(err)
	}
	if c.session, c.welcome, err = hs.HandleWelcome(time.Now(), b); err != nil {
		t.Fatal(err)
	}
	c.send(c.session.Unsequenced(time.Now(), wire.KindPing, make([]byte, 8)))
	if b, err = c.read(); err != nil {
		t.Fatal(err)
	}
	c.receive(b)
	<-c.pongs
	_ = c.conn.SetReadDeadline(time.Time{})
	return c
}

func (c *realClient) receive(b []byte) {
	switch wire.TypeOf(b) {
	case wire.TypeBaseControl:
		_, err := c.session.Receive(time.Now(), b, func(kind wire.Kind, body []byte) {
			switch kind {
			case wire.KindPeer:
				p, _ := wire.ParsePeer(bytes.Clone(body))
				c.peers <- p
			case wire.KindPong:
				p, _ := wire.ParsePong(body)
				c.pongs <- p
			case wire.KindDrain:
				c.drained <- struct{}{}
			}
		})
		if err != nil {
			c.t.Error(err)
		}
	case wire.TypeRelayed:
		select {
		case c.relayed <- b[wire.RelayHeaderLen:]:
		default:
		}
	}
}

// interest asks for a peer; run must not run yet.
func (c *realClient) interest(channel uint32, in *realClient) {
	if err := c.session.Queue(wire.KindInterest, wire.Interest{Links: []wire.Link{{Channel: channel, Address: in.id.Address()}}}.Append(nil)); err != nil {
		c.t.Error(err)
	}
	c.send(c.session.Poll(time.Now()))
}

// run reads until the connection ends.
func (c *realClient) run() {
	for {
		b, err := c.read()
		if err != nil {
			return
		}
		c.receive(b)
	}
}

func (c *realClient) relay(channel uint32, payload []byte) {
	b := make([]byte, wire.RelayHeaderLen, wire.RelayHeaderLen+len(payload))
	wire.PutRelay(b, c.welcome.Session, c.welcome.Token, channel)
	c.send(append(b, payload...))
}

func wait[T any](t testing.TB, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
	}
	return v
}

// TestServe: clients by UDP and TCP find each other and are relayed in all four combinations.
func TestServe(t *testing.T) {
	s := serveReal(t, Limits{})
	for name, over := range map[string][2]bool{
		"UDP to UDP": {false, false}, "UDP to TCP": {false, true}, "TCP to UDP": {true, false}, "TCP to TCP": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := connect(t, s, 1, over[0]), connect(t, s, 2, over[1])
			if a.welcome.AlternatePort != s.alternate.Port() || (a.welcome.Hops == 0) == over[0] {
				t.Errorf("welcome %+v", a.welcome)
			}
			a.interest(1, b)
			b.interest(2, a)
			go a.run()
			go b.run()
			pa, pb := wait(t, "peer", a.peers), wait(t, "peer", b.peers)
			if !pa.Here || !pb.Here || pa.Observed.IsValid() == over[1] || pb.Observed.IsValid() == over[0] {
				t.Errorf("peers %+v, %+v", pa, pb)
			}
			for size := range 50 {
				payload := bytes.Repeat([]byte{byte(size)}, 1+size*28)
				a.relay(1, payload)
				if got := wait(t, "relayed datagram", b.relayed); !bytes.Equal(got, payload) {
					t.Fatalf("%d bytes came, %d were sent", len(got), len(payload))
				}
			}
			b.relay(2, []byte("back"))
			if got := wait(t, "relayed datagram", a.relayed); string(got) != "back" {
				t.Errorf("got %q", got)
			}
			a.conn.Close()
			if over[0] {
				if p := wait(t, "news of the end", b.peers); p.Here {
					t.Error("the connection ended, the peer was not told")
				}
			}
		})
	}
}

func TestServeSTUN(t *testing.T) {
	s := serveReal(t, Limits{})
	for _, to := range []netip.AddrPort{s.udp, s.alternate} {
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, _ = conn.Write(stun.AppendRequest(nil, [12]byte{9}))
		b := make([]byte, 100)
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if id, mapped, ok := stun.ParseSuccess(b[:n]); !ok || id[0] != 9 || mapped != conn.LocalAddr().(*net.UDPAddr).AddrPort() {
			t.Errorf("answer %v", mapped)
		}
	}
}

// TestFrozenConnection: a client that reads nothing costs what is sent to it, and nobody else anything.
func TestFrozenConnection(t *testing.T) {
	s := serveReal(t, Limits{RelayRate: Unlimited})
	a, frozen, b := connect(t, s, 1, false), connect(t, s, 2, true), connect(t, s, 3, true)
	a.interest(1, frozen)
	frozen.interest(1, a)
	a.interest(2, b)
	b.interest(1, a)
	go a.run()
	go b.run()
	wait(t, "peer", a.peers)
	wait(t, "peer", a.peers)
	wait(t, "peer", b.peers)
	payload := make([]byte, 1400)
	for sent := 0; s.Stats().DroppedSlow.Load() < 1000; sent++ {
		a.relay(1, payload)
		if sent%100 == 0 {
			a.relay(2, []byte("alive"))
			wait(t, "what is relayed to others", b.relayed)
		}
		if sent > 1_000_000 {
			t.Fatal("nothing is dropped")
		}
	}
	if g := s.Gauges(); g.ConnectionBytes > 2*bulkBytes || g.TCP != 2 {
		t.Errorf("%+v", g)
	}
}

// TestConnectionLimits: what is no client of ours, or one too many, is closed.
func TestConnectionLimits(t *testing.T) {
	s := serveReal(t, Limits{ConnectionsPerHost: 3})
	web := dialTLS(t, s)
	_, _ = web.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	_ = web.SetReadDeadline(time.Now().Add(patience))
	if n, err := web.Read(make([]byte, 10)); err == nil || n > 0 {
		t.Error("a web browser gets an answer")
	} else if err, ok := err.(net.Error); ok && err.Timeout() {
		t.Error("a web browser is not sent away")
	}
	for start := time.Now(); s.Gauges().Connections > 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatal("the connection stays")
		}
	}
	for range 3 {
		dialTLS(t, s)
	}
	raw, err := net.Dial("tcp", s.tcp.String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetReadDeadline(time.Now().Add(patience))
	if _, err := raw.Read(make([]byte, 1)); err == nil || s.Stats().RefusedConnections.Load() != 1 {
		t.Errorf("a fourth connection stays (%v)", err)
	}
}

// TestStrangersMakeRoom: connections that never register keep no client out.
func TestStrangersMakeRoom(t *testing.T) {
	s := serveReal(t, Limits{Connections: 3})
	a := connect(t, s, 1, true)
	strangers := []net.Conn{dialTLS(t, s), dialTLS(t, s)}
	b := connect(t, s, 2, true)
	_ = strangers[0].SetReadDeadline(time.Now().Add(patience))
	if _, err := strangers[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the oldest stranger stays (%v)", err)
	}
	for _, c := range []*realClient{a, b} {
		c.send(c.session.Unsequenced(time.Now(), wire.KindPing, make([]byte, 8)))
		go c.run()
		wait(t, "pong", c.pongs)
	}
}

// TestDrain: clients are told, and who leaves makes the end come sooner.
func TestDrain(t *testing.T) {
	s := serveReal(t, Limits{})
	a, b := connect(t, s, 1, false), connect(t, s, 2, true)
	done := make(chan struct{})
	go func() {
		s.Drain(context.Background())
		close(done)
	}()
	for _, c := range []*realClient{a, b} {
		for {
			raw, err := c.read()
			if err != nil {
				t.Fatal(err)
			}
			if c.receive(raw); len(c.drained) > 0 {
				break
			}
		}
		c.send(c.session.Unsequenced(time.Now(), wire.KindClose, nil))
	}
	wait(t, "the end", done)
	if g := s.Gauges(); g.UDP+g.TCP != 0 {
		t.Errorf("%+v", g)
	}
	s.stop()
}
