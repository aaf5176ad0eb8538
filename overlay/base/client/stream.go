package client

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

const (
	// maxWaiting is how many bytes wait for a connection before its Relays refuse more: packets are better off in the engine's lanes, where the
	// urgent overtake the others.
	maxWaiting = 64 << 10
	// maxQueued bounds each queue of a connection in bytes. Datagrams beyond are dropped; a Base that lets control messages pile up is hung up on.
	maxQueued = 192 << 10
	// maxFrames is how many control messages of one connection may wait to be handled.
	maxFrames = 16

	writeTimeout = 15 * time.Second
	lingerFor    = 500 * time.Millisecond
)

var (
	errStuck = errors.New("the Base reads nothing")
	errFrame = errors.New("an empty message: what answers is no Base")
)

// stream is a TLS connection to a Base: messages of up to 65535 bytes, each behind its length as two bytes. One goroutine writes, one reads.
type stream struct {
	conn net.Conn
	wake chan struct{}
	done chan struct{} // closed with the stream
	slot chan struct{} // of control messages that wait to be handled

	mu      sync.Mutex
	urgent  []byte // control messages
	bulk    []byte // relayed datagrams
	writing int    // bytes of the write under way
	closed  bool
	err     error // why, if it was not close
}

func newStream(conn net.Conn) *stream {
	keepUnsentSmall(conn)
	return &stream{conn: conn, wake: make(chan struct{}, 1), done: make(chan struct{}), slot: make(chan struct{}, maxFrames)}
}

func (s *stream) control(message []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.urgent)+2+len(message) > maxQueued {
		s.shut(errStuck)
		return
	}
	s.urgent = append(binary.BigEndian.AppendUint16(s.urgent, uint16(len(message))), message...)
	s.poke()
}

func (s *stream) relay(trains []underlay.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range trains {
		m := &trains[i]
		stride := len(m.Buf)
		if m.Segment > 0 {
			stride = m.Headroom + m.Segment
		}
		for b := m.Buf; len(b) > wire.RelayHeaderLen; {
			n := min(stride, len(b))
			if n > 65535 || len(s.bulk)+2+n > maxQueued {
				break
			}
			s.bulk = append(binary.BigEndian.AppendUint16(s.bulk, uint16(n)), b[:n]...)
			b = b[n:]
		}
	}
	s.poke()
}

func (s *stream) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.urgent) + len(s.bulk) + s.writing
}

// close ends the stream after what is urgent was written, if that goes fast.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut(nil)
}

// shut ends the stream. The lock is held.
func (s *stream) shut(err error) {
	if s.closed {
		return
	}
	s.closed, s.err = true, err
	s.bulk = nil
	close(s.done)
	_ = s.conn.SetDeadline(time.Now().Add(lingerFor))
}

func (s *stream) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// write sends what is queued until the stream ends, and closes the connection.
func (s *stream) write() {
	defer s.conn.Close()
	var urgent, bulk []byte
	for {
		ended := false
		select {
		case <-s.wake:
		case <-s.done:
			ended = true
		}
		s.mu.Lock()
		urgent, s.urgent = s.urgent, urgent[:0]
		bulk, s.bulk = s.bulk, bulk[:0]
		s.writing = len(urgent) + len(bulk)
		if !s.closed {
			_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		}
		s.mu.Unlock()
		err := s.writeAll(urgent)
		if err == nil {
			err = s.writeAll(bulk)
		}
		s.mu.Lock()
		s.writing = 0
		if err != nil {
			s.shut(err)
		}
		s.mu.Unlock()
		if ended || err != nil {
			return
		}
	}
}

func (s *stream) writeAll(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := s.conn.Write(b)
	return err
}

// read hands relayed datagrams to relayed and all other messages, copied, to control, until the stream ends; the error says why. It reads no further
// while maxFrames messages wait to be handled.
func (s *stream) read(relayed func(b []byte), control func(b []byte)) error {
	r := bufio.NewReaderSize(s.conn, 32<<10)
	room := make([]byte, 65535)
	err := func() error {
		for {
			var length [2]byte
			if _, err := io.ReadFull(r, length[:]); err != nil {
				return err
			}
			b := room[:binary.BigEndian.Uint16(length[:])]
			if len(b) == 0 {
				return errFrame
			}
			if _, err := io.ReadFull(r, b); err != nil {
				return err
			}
			switch wire.TypeOf(b) {
			case wire.TypeRelayed:
				relayed(b)
			case wire.TypeCookie, wire.TypeWelcome, wire.TypeBaseControl, wire.TypeUnknown:
				select {
				case s.slot <- struct{}{}:
					control(append([]byte(nil), b...))
				case <-s.done:
					return net.ErrClosed
				}
			}
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		err = s.err
	}
	s.shut(err)
	return err
}

// handled tells that a control message was handled.
func (s *stream) handled() {
	select {
	case <-s.slot:
	default:
	}
}

// remoteOf returns the other end of a connection, none if it has no such.
func remoteOf(conn net.Conn) netip.AddrPort {
	if conn.RemoteAddr() == nil {
		return netip.AddrPort{}
	}
	e, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(e.Addr().Unmap(), e.Port())
}
