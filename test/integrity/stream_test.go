package integrity

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
)

// end is one end of a transfer: a robot and the address of it inside the overlay that is used.
type end struct {
	*fleet.Robot
	at netip.Addr
}

// stream is one TCP connection that carries so many random bytes.
type stream struct {
	from, to end
	bytes    int64
	seed     byte
	progress *progress // nil if nobody looks
	// stop, if it is not nil, ends the sending early.
	stop <-chan struct{}
}

// run returns nil if what arrived is what was sent.
func (s stream) run() error {
	var l net.Listener
	if err := s.to.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(s.to.at, 0).String())
		return err
	}); err != nil {
		return err
	}
	defer l.Close()
	type received struct {
		bytes int64
		sum   []byte
		err   error
	}
	arrived := make(chan received, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			arrived <- received{err: err}
			return
		}
		defer c.Close()
		h := sha256.New()
		n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(h, s.progress)}, struct{ io.Reader }{idle{c}}, make([]byte, 1<<20))
		arrived <- received{n, h.Sum(nil), err}
	}()
	var c net.Conn
	if err := s.from.Do(func() (err error) {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: s.from.at.AsSlice()}}
		c, err = d.Dial("tcp", l.Addr().String())
		return err
	}); err != nil {
		return err
	}
	defer c.Close()
	sent, sum, err := s.pour(idle{c})
	if err == nil {
		err = c.(*net.TCPConn).CloseWrite()
	}
	if err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	switch r := <-arrived; {
	case r.err != nil:
		return fmt.Errorf("receiving: %w after %d B", r.err, r.bytes)
	case r.bytes != sent:
		return fmt.Errorf("%d B were sent and %d arrived", sent, r.bytes)
	case !bytes.Equal(r.sum, sum):
		return errors.New("what arrived has another hash than what was sent")
	}
	return nil
}

// pour writes what the stream carries and returns its hash.
func (s stream) pour(w io.Writer) (sent int64, sum []byte, err error) {
	source := rand.NewChaCha8([32]byte{s.seed, 1})
	block := make([]byte, 1<<20)
	h := sha256.New()
	for sent < s.bytes {
		select {
		case <-s.stop:
			return sent, h.Sum(nil), nil
		default:
		}
		part := block[:min(int64(len(block)), s.bytes-sent)]
		source.Read(part)
		h.Write(part)
		n, err := w.Write(part)
		sent += int64(n)
		if err != nil {
			return sent, nil, err
		}
	}
	return sent, h.Sum(nil), nil
}

// progress counts what arrives, and lets others wait for more.
type progress struct {
	mu      sync.Mutex
	changed sync.Cond
	bytes   int64
	ended   bool
}

func newProgress() *progress {
	p := &progress{}
	p.changed.L = &p.mu
	return p
}

// Write counts; a nil progress does not.
func (p *progress) Write(b []byte) (int, error) {
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.bytes += int64(len(b))
		p.changed.Broadcast()
	}
	return len(b), nil
}

// end has nobody wait any longer.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.changed.Broadcast()
}

// more waits until so many more bytes have arrived; false says that there will be none.
func (p *progress) more(bytes int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for until := p.bytes + bytes; p.bytes < until; p.changed.Wait() {
		if p.ended {
			return false
		}
	}
	return true
}

// idle is a connection that fails when nothing moves for as long as the test has patience.
type idle struct{ net.Conn }

func (c idle) Read(b []byte) (int, error) {
	c.SetReadDeadline(time.Now().Add(patience))
	return c.Conn.Read(b)
}

func (c idle) Write(b []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(patience))
	return c.Conn.Write(b)
}

// streams runs several at once and fails the test for each that did not arrive as it was sent.
func streams(t *testing.T, what string, list ...stream) {
	t.Helper()
	start := time.Now()
	var wg sync.WaitGroup
	total := int64(0)
	for i, s := range list {
		s.seed = byte(i)
		total += s.bytes
		wg.Go(func() {
			if err := s.run(); err != nil {
				t.Errorf("%s: TCP from %s to %s, stream %d of %d: %v", what, s.from.Name(), s.to.Name(), i+1, len(list), err)
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	t.Logf("%s: %.0f MB by %d TCP streams in %.1f s, %.0f Mbit/s", what, float64(total)/1e6, len(list), took.Seconds(), float64(total)*8/took.Seconds()/1e6)
}
