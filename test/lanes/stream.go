package main

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/lanes/topic"
)

const (
	streamEvery = 20 * time.Millisecond
	streamBytes = 100
	// grace is how long what was sent may still arrive.
	grace = 3 * time.Second

	classEF  = 46 << 2
	classCS1 = 8 << 2
)

// stream are datagrams marked EF, 50 a second.
type stream struct {
	from, to *net.UDPConn
	ended    chan struct{}
	wg       sync.WaitGroup

	mu  sync.Mutex
	got delays
}

// listen opens a UDP socket on the receiving robot, dial one on the other with a traffic class.
func (p *pair) listen(t lab.TB) *net.UDPConn {
	var c *net.UDPConn
	if err := p.b.Do(func() (err error) {
		c, err = net.ListenUDP("udp6", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.b.Address, 0)))
		return err
	}); err != nil {
		t.Fatalf("lanes: %v", err)
	}
	_ = c.SetReadBuffer(8 << 20)
	return c
}

func (p *pair) dial(t lab.TB, to net.Addr, class int) *net.UDPConn {
	var c *net.UDPConn
	if err := p.a.Do(func() (err error) {
		d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, class) }); e != nil {
				return e
			}
			return err
		}}
		x, err := d.Dial("udp6", to.String())
		if err == nil {
			c = x.(*net.UDPConn)
		}
		return err
	}); err != nil {
		t.Fatalf("lanes: %v", err)
	}
	return c
}

func startStream(t lab.TB, p *pair) *stream {
	s := &stream{to: p.listen(t), ended: make(chan struct{})}
	s.from = p.dial(t, s.to.LocalAddr(), classEF)
	s.wg.Go(func() {
		tick := time.NewTicker(streamEvery)
		defer tick.Stop()
		b := make([]byte, streamBytes)
		for {
			select {
			case <-tick.C:
			case <-s.ended:
				return
			}
			binary.BigEndian.PutUint64(b, uint64(topic.Now()))
			if _, err := s.from.Write(b); err == nil {
				s.mu.Lock()
				s.got.sent++
				s.mu.Unlock()
			}
		}
	})
	s.wg.Go(func() {
		b := make([]byte, 2*streamBytes)
		for {
			n, err := s.to.Read(b)
			if err != nil {
				return
			}
			if n == streamBytes {
				s.mu.Lock()
				s.got.list = append(s.got.list, topic.Now()-time.Duration(binary.BigEndian.Uint64(b)))
				s.mu.Unlock()
			}
		}
	})
	return s
}

func (s *stream) stop() delays {
	close(s.ended)
	s.to.SetReadDeadline(time.Now().Add(grace))
	s.wg.Wait()
	s.from.Close()
	s.to.Close()
	return s.got
}

// commands is /cmd_vel by DDS.
type commands struct {
	pub, sub *topic.Peer
	from     time.Duration
}

func startCommands(t lab.TB, p *pair) *commands {
	c := topic.Config{Name: "/cmd_vel", Type: topic.Twist, Size: 48, Rate: 50}
	x := &commands{sub: topic.Subscribe(t, p.b.Host, c), pub: topic.Publish(t, p.a.Host, c)}
	x.sub.WaitLine(`^sample `, 30*time.Second)
	return x
}

// count has everything before forgotten.
func (x *commands) count() { x.from = topic.Now() }

// stop returns what was sent until then; that is some time ago.
func (x *commands) stop(until time.Duration) (d delays) {
	x.pub.Stop()
	x.sub.Stop()
	wanted := func(s topic.Sample) bool { return s.At >= x.from && s.At < until }
	for _, s := range x.pub.Samples() {
		if wanted(s) {
			d.sent++
		}
	}
	for _, s := range x.sub.Samples() {
		if wanted(s) {
			d.list = append(d.list, s.Took)
		}
	}
	return d
}
