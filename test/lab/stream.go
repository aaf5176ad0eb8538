package lab

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Stream is a TCP connection between two hosts that carries as much as it can.
type Stream struct {
	listener net.Listener
	conn     net.Conn
	received atomic.Int64
}

// StartStream opens a connection from a host to an address of another, and sends zeros on it until the Stream is closed.
func StartStream(t TB, from, to *Host, at netip.Addr) *Stream {
	t.Helper()
	s := &Stream{}
	if err := to.Do(func() (err error) {
		s.listener, err = net.Listen("tcp", netip.AddrPortFrom(at, 0).String())
		return err
	}); err != nil {
		t.Fatalf("stream to %v: %v", at, err)
	}
	go s.receive()
	if err := from.Do(func() (err error) {
		s.conn, err = net.DialTimeout("tcp", s.listener.Addr().String(), 10*time.Second)
		return err
	}); err != nil {
		s.listener.Close()
		t.Fatalf("stream to %v: %v", at, err)
	}
	go io.Copy(s.conn, zeros{})
	return s
}

func (s *Stream) receive() {
	c, err := s.listener.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	buffer := make([]byte, 1<<20)
	for {
		n, err := c.Read(buffer)
		s.received.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// Received counts the bytes that arrived.
func (s *Stream) Received() *atomic.Int64 { return &s.received }

// Mbits measures the stream for a while, in Mbit/s. A third of that passes before: slow start and the first key exchange are not what is measured.
func (s *Stream) Mbits(span time.Duration) float64 {
	time.Sleep(span / 3)
	start, before := time.Now(), s.received.Load()
	time.Sleep(span)
	return float64(s.received.Load()-before) * 8 / time.Since(start).Seconds() / 1e6
}

// Close ends the stream.
func (s *Stream) Close() {
	s.conn.Close()
	s.listener.Close()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
