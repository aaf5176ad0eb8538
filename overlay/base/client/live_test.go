package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// patience is how long something may take on a machine that is busy with other tests.
const patience = 30 * time.Second

// seedOf returns the seed of testIdentity.
func seedOf(n int) (seed [32]byte) {
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	return seed
}

// liveBase is a simBase on real sockets of the loopback.
type liveBase struct {
	t    testing.TB
	udp  *net.UDPConn
	tcp  net.Listener
	mu   sync.Mutex
	base *simBase
	conn map[*simConn]net.Conn
	wg   sync.WaitGroup
	mute atomic.Bool // hears no UDP
	sni  atomic.Value
}

func newLiveBase(t testing.TB, n int) *liveBase {
	t.Helper()
	l := &liveBase{t: t, conn: make(map[*simConn]net.Conn)}
	s := newSimulation(t)
	s.now = time.Now()
	l.base = s.base(n, 0)
	var err error
	if l.udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.tcp = tls.NewListener(inner, &tls.Config{
		Certificates: []tls.Certificate{certificate(t, n)}, MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) { l.sni.Store(h.ServerName); return nil, nil },
	})
	l.base.addr = l.udp.LocalAddr().(*net.UDPAddr).AddrPort()
	l.base.server = Server{Address: l.base.id.Address(), Host: "127.0.0.1", UDP: l.base.addr.Port(), TCP: uint16(inner.Addr().(*net.TCPAddr).Port)}
	l.base.out = func(p []byte, to netip.AddrPort, conn *simConn) {
		if conn == nil {
			_, _ = l.udp.WriteToUDPAddrPort(p, to)
		} else if c := l.conn[conn]; c != nil {
			_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...))
		}
	}
	l.wg.Go(l.serveUDP)
	l.wg.Go(l.serveTCP)
	stop := make(chan struct{})
	l.wg.Go(func() { l.tick(stop) })
	t.Cleanup(func() {
		close(stop)
		l.udp.Close()
		l.tcp.Close()
		l.mu.Lock()
		for _, c := range l.conn {
			c.Close()
		}
		l.mu.Unlock()
		l.wg.Wait()
	})
	return l
}

// certificate is one whose dates and names are wrong.
func certificate(t testing.TB, n int) tls.Certificate {
	t.Helper()
	seed := seedOf(n)
	key := ed25519.NewKeyFromSeed(seed[:])
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (l *liveBase) arrive(p []byte, from netip.AddrPort, conn *simConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base.s.now = time.Now()
	l.base.arrive(bytes.Clone(p), from, conn, nil)
}

func (l *liveBase) serveUDP() {
	b := make([]byte, 65536)
	for {
		n, from, err := l.udp.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if !l.mute.Load() {
			l.arrive(b[:n], from, nil)
		}
	}
}

func (l *liveBase) serveTCP() {
	for {
		c, err := l.tcp.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() {
			defer c.Close()
			id := &simConn{base: l.base}
			l.mu.Lock()
			l.conn[id] = c
			l.mu.Unlock()
			from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
			for {
				var length [2]byte
				if _, err := io.ReadFull(c, length[:]); err != nil {
					break
				}
				b := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(c, b); err != nil {
					break
				}
				l.arrive(b, from, id)
			}
			l.mu.Lock()
			delete(l.conn, id)
			id.closed = true
			l.base.hungUp(id)
			l.mu.Unlock()
		})
	}
}

// tick lets the time of the sessions pass.
func (l *liveBase) tick(stop chan struct{}) {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-t.C:
			l.mu.Lock()
			s := l.base.s
			s.now = now
			for s.queue.Step(&s.now, now) {
			}
			l.mu.Unlock()
		}
	}
}

// liveNode is a Client on a socket of the loopback.
type liveNode struct {
	t      testing.TB
	id     *identity.Identity
	c      *Client
	udp    *net.UDPConn
	noUDP  atomic.Bool
	events chan Event
	inner  chan string
	stop   func()
}

func newLiveNode(t testing.TB, n int, change func(*Config)) *liveNode {
	t.Helper()
	d := &liveNode{t: t, id: testIdentity(2000 + n), events: make(chan Event, 1000), inner: make(chan string, 1000)}
	var err error
	if d.udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Identity: d.id, Log: slog.New(slog.DiscardHandler),
		Send: func(to netip.AddrPort, b []byte) error {
			if d.noUDP.Load() {
				return nil
			}
			_, err := d.udp.WriteToUDPAddrPort(b, to)
			return err
		},
		Relay: func(ms []underlay.Message) (int, error) {
			for i, m := range ms {
				stride := len(m.Buf)
				if m.Segment > 0 {
					stride = m.Segment
				}
				for b := m.Buf; len(b) > 0; b = b[min(stride, len(b)):] {
					if _, err := d.udp.WriteToUDPAddrPort(b[:min(stride, len(b))], m.Remote); err != nil {
						return i, err
					}
				}
			}
			return len(ms), nil
		},
		Deliver: func(r *Relay, inner []byte) { d.inner <- string(inner) },
		Notify:  func(e Event) { d.events <- e },
	}
	if change != nil {
		change(&cfg)
	}
	d.c = New(cfg)
	r := record.Record{Sequence: 1, Lifetime: time.Hour}
	signed, err := r.Sign(d.id)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.c.SetRecord(signed); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg, reader sync.WaitGroup
	wg.Go(func() {
		if err := d.c.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	reader.Go(d.read)
	d.stop = sync.OnceFunc(func() {
		cancel()
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("Run does not end")
		}
		d.udp.Close()
		reader.Wait()
	})
	t.Cleanup(d.stop)
	return d
}

func (d *liveNode) read() {
	b := make([]byte, 65536)
	for {
		n, from, err := d.udp.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if d.noUDP.Load() {
			continue
		}
		if wire.TypeOf(b[:n]) == wire.TypeRelayed {
			if r, inner := d.c.Relayed(b[:n], from); r != nil {
				d.inner <- string(inner)
			}
			continue
		}
		d.c.Control(time.Now(), b[:n], from, underlay.Source{})
	}
}

// wait returns the next event of a type.
func (d *liveNode) wait(t EventType) Event {
	d.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e := <-d.events:
			if e.Type == t {
				return e
			}
		case <-timeout:
			d.t.Fatalf("no event of type %d; %+v", t, d.c.Status())
		}
	}
}

// until waits for a condition.
func (d *liveNode) until(what string, done func() bool) {
	d.t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			d.t.Fatalf("%s: not in time; %+v", what, d.c.Status())
		}
	}
}

func (d *liveNode) send(r *Relay, texts ...string) {
	d.t.Helper()
	var b []byte
	for _, text := range texts {
		b = append(append(b, make([]byte, wire.RelayHeaderLen)...), text...)
	}
	if _, err := r.Send([]underlay.Message{{Buf: b, Headroom: wire.RelayHeaderLen, Segment: len(texts[0])}}); err != nil {
		d.t.Fatal(err)
	}
}

func (d *liveNode) expect(texts ...string) {
	d.t.Helper()
	for _, want := range texts {
		select {
		case got := <-d.inner:
			if got != want {
				d.t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(patience):
			d.t.Fatalf("%q does not arrive", want)
		}
	}
}

// reach sends by the best relay until it arrives: while a registration moves, a datagram may be lost.
func (d *liveNode) reach(other *liveNode, text string) {
	d.t.Helper()
	d.until(text+" arrives", func() bool {
		if all := d.c.Relays(other.id.Address()); len(all) > 0 {
			d.send(all[0], text)
		}
		select {
		case got := <-other.inner:
			return got == text
		case <-time.After(20 * time.Millisecond):
			return false
		}
	})
}

func TestLive(t *testing.T) {
	t.Parallel()
	x := newLiveBase(t, 1)
	a := newLiveNode(t, 1, nil)
	b := newLiveNode(t, 2, nil)
	b.noUDP.Store(true)
	for _, d := range []*liveNode{a, b} {
		d.c.SetServers([]Server{x.base.server})
		d.c.SetInterests([]netip.Addr{a.id.Address(), b.id.Address()})
	}
	if e := a.wait(Registered); e.Transport != UDP || e.Observed != a.udp.LocalAddr().(*net.UDPAddr).AddrPort() {
		t.Errorf("%+v", e)
	}
	if e := b.wait(Registered); e.Transport != TCP {
		t.Errorf("%+v", e)
	}
	if x.sni.Load() != "" {
		t.Errorf("SNI %v for an IP address", x.sni.Load())
	}
	ab, ba := a.wait(PeerHere).Relay, b.wait(PeerHere).Relay
	if ab.TCP() || !ba.TCP() || ba.Peer() != a.id.Address() || len(a.c.Relays(b.id.Address())) != 1 {
		t.Errorf("%+v %+v", ab, ba)
	}
	a.send(ab, "one", "two", "x")
	b.expect("one", "two", "x")
	b.send(ba, "three", "x")
	a.expect("three", "x")
	if home := a.c.Home(); len(home) != 1 || home[0] != x.base.id.Address() {
		t.Errorf("%v", home)
	}

	// UDP takes over.
	b.noUDP.Store(false)
	b.c.LinksChanged()
	if e := b.wait(Registered); e.Transport != UDP {
		t.Errorf("%+v", e)
	}
	b.until("one live relay over UDP", func() bool {
		all := b.c.Relays(a.id.Address())
		return len(all) == 1 && !all[0].TCP() && !ba.Live()
	})
	b.reach(a, "four")

	// It takes leave.
	b.stop()
	a.wait(PeerGone)
	if ab.Live() {
		t.Error("the relay is not withdrawn")
	}
}

func TestLiveWrongKey(t *testing.T) {
	t.Parallel()
	x := newLiveBase(t, 1)
	d := newLiveNode(t, 1, nil)
	server := x.base.server
	server.Address, server.UDP = testIdentity(9).Address(), 0
	d.c.SetServers([]Server{server})
	d.until("an error that says so", func() bool { return strings.Contains(d.c.Status()[0].Err, "correct the Base's host or address") })
	if len(d.c.Home()) != 0 {
		t.Error("registered")
	}
}

// A server that accepts and says nothing must not keep Run from ending.
func TestLiveSilence(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	x := newLiveBase(t, 1)
	d := newLiveNode(t, 1, nil)
	d.c.SetServers([]Server{
		{Address: testIdentity(9).Address(), Host: "127.0.0.1", TCP: uint16(silent.Addr().(*net.TCPAddr).Port)}, x.base.server,
	})
	d.wait(Registered)
	defer (<-accepted).Close()
	d.stop()
}

// proxy is an HTTP proxy that knows CONNECT, for one user.
func proxy(t *testing.T) (at *url.URL, names *sync.Map) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	names = new(sync.Map)
	var wg sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil || r.Method != http.MethodConnect {
			return
		}
		if r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("robot:s3cret")) {
			_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
			return
		}
		host, port, _ := net.SplitHostPort(r.Host)
		names.Store(host, true)
		to, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
			return
		}
		defer to.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(to, c)
			to.Close()
		}()
		_, _ = io.Copy(c, to)
		c.Close()
		<-done
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return &url.URL{Scheme: "http", User: url.UserPassword("robot", "s3cret"), Host: l.Addr().String()}, names
}

func TestLiveProxy(t *testing.T) {
	t.Parallel()
	at, names := proxy(t)
	x := newLiveBase(t, 1)
	wrong := *at
	wrong.User = url.UserPassword("robot", "guess")
	var use atomic.Pointer[url.URL]
	use.Store(&wrong)
	d := newLiveNode(t, 1, func(c *Config) {
		c.Proxy = func(string, uint16) (*url.URL, error) { return use.Load(), nil }
		c.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) { <-ctx.Done(); return nil, ctx.Err() }
	})
	server := x.base.server
	server.Host = "base.example"
	d.c.SetServers([]Server{server})
	d.until("an error that says so", func() bool { return strings.Contains(d.c.Status()[0].Err, "wants a user and password") })
	if err := d.c.Status()[0].Err; strings.Contains(err, "guess") {
		t.Errorf("the password shows: %s", err)
	}
	use.Store(at)
	d.c.LinksChanged()
	if e := d.wait(Registered); e.Transport != TCP {
		t.Errorf("%+v", e)
	}
	if _, ok := names.Load("base.example"); !ok {
		t.Error("the name did not reach the proxy")
	}
	if x.sni.Load() != "base.example" {
		t.Errorf("SNI %v", x.sni.Load())
	}
}
