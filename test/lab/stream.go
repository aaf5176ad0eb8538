package lab

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Stream is a TCP connection between two hosts that carries as much as it can.
type Stream struct {
	Flow
	listener net.Listener
	conn     net.Conn
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
	go s.send()
	return s
}

func (s *Stream) send() {
	zeros := make([]byte, 64<<10)
	for {
		s.Pass(len(zeros))
		if _, err := s.conn.Write(zeros); err != nil {
			return
		}
	}
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
		s.Add(n)
		if err != nil {
			return
		}
	}
}

// Mbits measures the stream for a while, in Mbit/s. A third of that passes before: slow start and the first key exchange are not what is measured.
func (s *Stream) Mbits(span time.Duration) float64 {
	time.Sleep(span / 3)
	return s.Rate(span) * 8 / 1e6
}

// Close ends the stream.
func (s *Stream) Close() {
	s.conn.Close()
	s.listener.Close()
	s.Resume()
}

// Flow is what a Stream, Datagrams and others have in common: it is measured, and halts.
type Flow struct {
	received atomic.Int64
	gate     atomic.Pointer[chan struct{}] // closed by Resume; nil: the flow goes
	rate     atomic.Int64                  // bytes per second; 0 = as many as go
	next     time.Time                     // when the sender may go on
}

// Add counts bytes that have arrived.
func (f *Flow) Add(bytes int) { f.received.Add(int64(bytes)) }

// Received is how many bytes have arrived.
func (f *Flow) Received() int64 { return f.received.Load() }

// Rate is how many bytes arrive per second, measured for a while.
func (f *Flow) Rate(span time.Duration) float64 {
	start, before := time.Now(), f.Received()
	time.Sleep(span)
	return float64(f.Received()-before) / time.Since(start).Seconds()
}

// Pause stops sending, until Resume. What is on its way still arrives.
func (f *Flow) Pause() {
	gate := make(chan struct{})
	f.gate.CompareAndSwap(nil, &gate)
}

// Resume goes on sending.
func (f *Flow) Resume() {
	if gate := f.gate.Swap(nil); gate != nil {
		close(*gate)
	}
}

// Pace has the flow send so many bytes per second; 0 = as many as go.
func (f *Flow) Pace(rate int64) { f.rate.Store(rate) }

// Pass waits while the flow is paused, and until its pace lets so many bytes go: who sends calls it before.
func (f *Flow) Pass(bytes int) {
	if gate := f.gate.Load(); gate != nil {
		<-*gate
	}
	rate := f.rate.Load()
	if rate == 0 {
		return
	}
	now := time.Now()
	if now.Sub(f.next) > 10*time.Millisecond { // it does not catch up on a pause
		f.next = now
	}
	time.Sleep(f.next.Sub(now))
	f.next = f.next.Add(time.Duration(int64(bytes) * int64(time.Second) / rate))
}
