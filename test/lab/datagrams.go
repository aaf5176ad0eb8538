package lab

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Datagrams are UDP datagrams that go from a host to another.
type Datagrams struct {
	Flow
	from, to *net.UDPConn
	came     chan struct{} // some have arrived
	done     chan struct{}
	stopped  chan struct{}
}

// DatagramsConfig says what is sent.
type DatagramsConfig struct {
	// Payload is what each carries. It is not changed.
	Payload []byte
	// Stamp, if set, is called before a datagram is sent: n counts from 1.
	Stamp func(payload []byte, n uint64)
	// Window is how many may be on their way at most: then next to none is lost, and each that is sent is one that arrives. 0 = as many are sent as go.
	Window int
}

const (
	datagramBatch = 32
	// skb is what a small datagram takes of a socket's buffer.
	skb = 4 << 10
	// stall is after how long without any arriving those on their way count as lost.
	stall = 20 * time.Millisecond
)

// StartDatagrams sends from an address of a host to one of another until the Datagrams are closed.
func StartDatagrams(t TB, from *Host, source netip.Addr, to *Host, at netip.Addr, c DatagramsConfig) *Datagrams {
	t.Helper()
	d := &Datagrams{came: make(chan struct{}, 1), done: make(chan struct{}), stopped: make(chan struct{})}
	for _, end := range []struct {
		host    *Host
		address netip.Addr
		conn    **net.UDPConn
	}{{from, source, &d.from}, {to, at, &d.to}} {
		if err := end.host.Do(func() (err error) {
			*end.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(end.address, 0)))
			return err
		}); err != nil {
			t.Fatalf("datagrams to %v: %v", at, err)
		}
	}
	c.Window = min(c.Window, receiveBuffer(d.to, 4<<20)/skb)
	go d.receive(len(c.Payload))
	go d.send(c)
	return d
}

// receiveBuffer makes a socket's buffer as large as it may be, and returns its size.
func receiveBuffer(c *net.UDPConn, size int) (got int) {
	_ = c.SetReadBuffer(size)
	raw, err := c.SyscallConn()
	if err != nil {
		return skb
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
		got, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	})
	return max(got, skb)
}

func (d *Datagrams) receive(size int) {
	c, ms := ipv6.NewPacketConn(d.to), datagrams(make([]byte, size), nil)
	for {
		n, err := c.ReadBatch(ms, 0)
		if err != nil {
			return
		}
		d.Add(n * size)
		select {
		case d.came <- struct{}{}:
		default:
		}
	}
}

func (d *Datagrams) send(config DatagramsConfig) {
	defer close(d.stopped)
	c, ms := ipv6.NewPacketConn(d.from), datagrams(config.Payload, d.to.LocalAddr())
	size := int64(len(config.Payload))
	timer := time.NewTimer(stall)
	defer timer.Stop()
	gone := int64(0) // sent, and not known to be lost
	for n := uint64(1); ; {
		d.Pass(datagramBatch * int(size))
		for config.Window > 0 && gone+datagramBatch > d.Received()/size+int64(config.Window) {
			timer.Reset(stall)
			select {
			case <-d.came:
			case <-timer.C:
				gone = d.Received() / size
			case <-d.done:
				return
			}
		}
		select {
		case <-d.done:
			return
		default:
		}
		if config.Stamp != nil {
			for i := range ms {
				config.Stamp(ms[i].Buffers[0], n)
				n++
			}
		}
		sent, _ := c.WriteBatch(ms, 0)
		gone += int64(max(sent, 0))
	}
}

func datagrams(payload []byte, to net.Addr) []ipv6.Message {
	ms := make([]ipv6.Message, datagramBatch)
	for i := range ms {
		ms[i].Buffers, ms[i].Addr = [][]byte{slices.Clone(payload)}, to
	}
	return ms
}

// Close ends them.
func (d *Datagrams) Close() {
	close(d.done)
	d.Resume()
	d.from.Close()
	<-d.stopped
	d.to.Close()
}
