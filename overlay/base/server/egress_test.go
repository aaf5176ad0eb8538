package server

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// TestFullSocket: when the socket is full, what several clients send goes through the fair queue, and afterwards past it again.
func TestFullSocket(t *testing.T) {
	x := newSim(t, Limits{RelayRate: Unlimited}, nil)
	a, b := pair(t, x)
	out := &forwarder{s: x.s}
	send := func() {
		d := make([]byte, 100)
		wire.PutRelay(d, a.welcome.Session, a.welcome.Token, 3)
		m := underlay.Message{Buf: d, N: len(d), Remote: a.at}
		at := from(&m, x.sock)
		x.s.take(x.now, &at, &m, d, 0, out)
		out.flush()
	}
	send()
	if sent := x.sock.take(); len(sent) != 1 || sent[0].Remote != b.at {
		t.Fatalf("sent %v", sent)
	}
	x.sock.full = true
	send()
	if x.s.Stats().DroppedSend.Load() != 1 || x.s.egress.congested.Load() == 0 {
		t.Fatal("the full socket was not noticed")
	}
	x.sock.full = false
	// The forwarder looks at the clock of the machine, from which the virtual one is years apart.
	x.s.egress.congested.Store(1 << 62)
	send()
	if len(x.sock.take()) != 0 || x.s.Gauges().Trains != 1 {
		t.Error("it did not wait in the queue")
	}
	x.s.egress.congested.Store(0)
	send()
	if len(x.sock.take()) != 0 || x.s.Gauges().Trains != 2 {
		t.Error("it went past what waits")
	}
	x.pumpAll()
	if len(x.sock.take()) != 2 || x.s.Gauges().Trains != 0 {
		t.Error("the queue was not sent")
	}
	send()
	if len(x.sock.take()) != 1 {
		t.Error("it goes through the queue without need")
	}
}

// TestControlFirst: control datagrams leave before relayed ones that came before them.
func TestControlFirst(t *testing.T) {
	x := newSim(t, Limits{RelayRate: Unlimited}, nil)
	a, _ := pair(t, x)
	d := make([]byte, 1000)
	for range 100 {
		wire.PutRelay(d, a.welcome.Session, a.welcome.Token, 3)
		x.train(a.at, d, 0)
	}
	a.ping()
	x.pumpAll()
	sent := x.sock.take()
	if len(sent) != 101 || wire.TypeOf(sent[0].Buf) != wire.TypeBaseControl {
		t.Errorf("%d datagrams, the first is %v", len(sent), wire.TypeOf(sent[0].Buf))
	}
}

// stuckSocket is a socket on which a write never ends before it is closed.
type stuckSocket struct {
	wireSocket
	closed chan struct{}
}

func (s *stuckSocket) WriteBatch(ms []underlay.Message) (int, error) {
	<-s.closed
	return len(ms), nil
}

// TestHandleNeverBlocks: on a socket that takes nothing, Handle returns at once, and what waits is bounded.
func TestHandleNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Identity: identityOf(1 << 30), Limits: Limits{RelayRate: Unlimited}})
		if err != nil {
			t.Fatal(err)
		}
		sock := &stuckSocket{closed: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			_ = s.Run(ctx)
			close(done)
		}()
		number, token := link(t, s, 1, endpointOf(2), endpointOf(3), sock)
		start := time.Now()
		buf := make([]byte, 1400*40)
		m := underlay.Message{Buf: buf, N: len(buf), Segment: 1400, Remote: endpointOf(2)}
		for i := range 1000 {
			for off := 0; off < len(buf); off += 1400 {
				wire.PutRelay(buf[off:], number, token, 1)
			}
			s.Handle(time.Now(), &m, buf, sock)
			for j := range 10 {
				from := netip.AddrPortFrom(endpointOf(1000*j+i).Addr(), 9)
				request := underlay.Message{Buf: stun.AppendRequest(nil, [12]byte{}), N: 20, Remote: from}
				s.Handle(time.Now(), &request, request.Buf, sock)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("it took %v", waited)
		}
		synctest.Wait()
		if g := s.Gauges(); g.TrainBytes > waitingBytes || g.Letters > lettersWaiting || s.Stats().DroppedQueue.Load() == 0 || s.Stats().DroppedControl.Load() == 0 {
			t.Errorf("%+v, %d and %d dropped", g, s.Stats().DroppedQueue.Load(), s.Stats().DroppedControl.Load())
		}
		cancel()
		close(sock.closed)
		<-done
	})
}

// TestRun: workers, pump and timers together, in virtual time: a client registers, and is forgotten when it falls silent.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Identity: identityOf(1 << 30)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			_ = s.Run(ctx)
			close(done)
		}()
		x := &sim{t: t, s: s, now: time.Now(), sock: &wireSocket{}, other: &wireSocket{}, clients: map[netip.AddrPort]*simClient{}}
		c := x.client(1)
		bring := func() {
			synctest.Wait()
			for _, m := range x.sock.take() {
				c.receive(m.Buf)
			}
		}
		x.pump = &pump{e: &s.egress} // finds nothing: Run has its own
		c.register()
		for range 5 {
			bring()
		}
		if g := s.Gauges(); g.UDP != 1 || len(c.pongs) != 1 {
			t.Fatalf("%+v, %d pongs", g, len(c.pongs))
		}
		if err := s.Alive(ctx); err != nil {
			t.Error(err)
		}
		time.Sleep(149 * time.Second)
		if s.Gauges().UDP != 1 {
			t.Error("forgotten too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s.Gauges().UDP != 0 {
			t.Error("not forgotten")
		}
		cancel()
		<-done
	})
}
