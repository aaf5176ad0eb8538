package integrity

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// A datagram is its number, the SHA-256 of number and body, and a body out of random bytes at a place that the number says.
const (
	datagramLen = 1200
	numberLen   = 8
	bodyAt      = numberLen + sha256.Size
	bodyLen     = datagramLen - bodyAt
	// train is how many datagrams one superpacket holds: UDP_SEGMENT takes 64 KiB.
	train = 48
	// window is how many datagrams are under way at the most: no queue on the way is shorter, so that nothing need be lost.
	window = 768
	// stall is after how long without an arrival all that is under way is given up.
	stall = 500 * time.Millisecond
)

// randomness holds the bodies; they overlap.
var randomness = func() []byte {
	b := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{9, 9}).Read(b)
	return b
}()

// compose writes datagram number n and returns its hash.
func compose(b []byte, n uint64) [sha256.Size]byte {
	binary.LittleEndian.PutUint64(b, n)
	at := n * 7919 % uint64(len(randomness)-bodyLen)
	copy(b[bodyAt:], randomness[at:][:bodyLen])
	sum := hashOf(b)
	copy(b[numberLen:], sum[:])
	return sum
}

// hashOf is the hash of number and body.
func hashOf(b []byte) [sha256.Size]byte {
	var whole [numberLen + bodyLen]byte
	copy(whole[:], b[:numberLen])
	copy(whole[numberLen:], b[bodyAt:])
	return sha256.Sum256(whole[:])
}

// digest is a hash of a set of datagrams, whatever their order.
type digest [sha256.Size]byte

func (d *digest) add(sum [sha256.Size]byte) {
	for i := range d {
		d[i] ^= sum[i]
	}
}

// flow is a stream of datagrams.
type flow struct {
	from, to end
	count    uint64
	segments bool // handed to the kernel as superpackets
	// unchecked sends without waiting for arrivals, as fast as it goes for as long as it takes: queues on the way overflow.
	unchecked bool
	// stop, if it is not nil, ends the sending early.
	stop <-chan struct{}
}

// tally is what became of a flow.
type tally struct {
	sent, received, twice, corrupted uint64
	late                             uint64 // arrived in another order
	missing                          string // numbers of the first and the last that did not arrive
	took                             time.Duration
	sentSum, receivedSum             digest
}

func (x tally) lost() uint64 { return x.sent - x.received }

// run sends and receives; an error says that it could not.
func (f flow) run() (x tally, err error) {
	from, err := f.socket(f.from)
	if err != nil {
		return x, err
	}
	defer from.Close()
	to, err := f.socket(f.to)
	if err != nil {
		return x, err
	}
	arrivals := &arrivals{news: make(chan struct{}, 1), seen: make([]uint64, f.count/64+1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		arrivals.receive(to, netip.AddrPortFrom(f.from.at, portOf(from)))
	}()
	start := time.Now()
	err = f.send(&x, from, to.LocalAddr().(*net.UDPAddr), arrivals)
	// Until all are there or no more come. A loaded machine may do nothing else for a while.
	for silent := 0; err == nil && uint64(arrivals.count.Load()) < x.sent && silent < f.silences(); {
		arrivals.givenUp = 0
		if !arrivals.waitFor(x.sent) {
			silent++
		}
	}
	x.took = time.Since(start)
	to.Close()
	<-ended
	x.missing = arrivals.missing(x.sent)
	x.received, x.twice, x.corrupted, x.late, x.receivedSum = uint64(arrivals.count.Load()), arrivals.twice, arrivals.corrupted, arrivals.late, arrivals.sum
	return x, err
}

// silences is for how many times stall the last datagrams are waited for: longer where none may be lost.
func (f flow) silences() int {
	if f.unchecked || f.stop != nil {
		return 1
	}
	return 20
}

func portOf(c *net.UDPConn) uint16 { return c.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

func (f flow) socket(e end) (c *net.UDPConn, err error) {
	err = e.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(e.at, 0)))
		return err
	})
	if err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) != nil {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20) // what may be had
		}
		if f.segments {
			inner = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, datagramLen)
		}
	})
	if err == nil {
		err = inner
	}
	return c, err
}

func (f flow) send(x *tally, c *net.UDPConn, to *net.UDPAddr, a *arrivals) error {
	super := make([]byte, train*datagramLen)
	batch := make([]ipv4.Message, train)
	for i := range batch {
		batch[i] = ipv4.Message{Buffers: [][]byte{super[i*datagramLen:][:datagramLen]}, Addr: to}
	}
	packets := ipv4.NewPacketConn(c)
	for x.sent < f.count {
		select {
		case <-f.stop:
			return nil
		default:
		}
		n := int(min(train, f.count-x.sent))
		for !f.unchecked && x.sent+uint64(n) > a.settled()+window {
			a.waitFor(x.sent)
		}
		for i := range n {
			x.sentSum.add(compose(super[i*datagramLen:], x.sent+uint64(i)))
		}
		if f.segments {
			if _, err := c.WriteToUDP(super[:n*datagramLen], to); err != nil {
				return fmt.Errorf("a superpacket was not sent: %w", err)
			}
		}
		for done := 0; !f.segments && done < n; {
			k, err := packets.WriteBatch(batch[done:n], 0)
			if err != nil {
				return fmt.Errorf("datagrams were not sent: %w", err)
			}
			done += k
		}
		x.sent += uint64(n)
	}
	return nil
}

// arrivals are what came of a flow.
type arrivals struct {
	count   atomic.Int64
	news    chan struct{} // something came
	givenUp uint64        // belongs to the sender

	seen             []uint64 // a bit for each number
	next             uint64
	twice, corrupted uint64
	late             uint64
	sum              digest
}

// settled is how many datagrams are no longer under way.
func (a *arrivals) settled() uint64 { return uint64(a.count.Load()) + a.givenUp }

// waitFor waits for an arrival; false says that there is nothing to wait for, or that nothing came and all that were sent are given up.
func (a *arrivals) waitFor(sent uint64) bool {
	before := a.count.Load()
	if a.settled() >= sent {
		return false
	}
	select {
	case <-a.news:
	case <-time.After(stall):
		if a.count.Load() == before {
			a.givenUp = sent - uint64(before)
			return false
		}
	}
	return true
}

func (a *arrivals) receive(c *net.UDPConn, from netip.AddrPort) {
	packets := ipv4.NewPacketConn(c)
	batch := make([]ipv4.Message, 64)
	for i := range batch {
		batch[i].Buffers = [][]byte{make([]byte, 2*datagramLen)}
	}
	for {
		n, err := packets.ReadBatch(batch, 0)
		if err != nil {
			return // closed
		}
		fresh := int64(0)
		for i := range batch[:n] {
			if a.take(batch[i].Buffers[0][:batch[i].N], batch[i].Addr, from) {
				fresh++
			}
		}
		a.count.Add(fresh)
		select {
		case a.news <- struct{}{}:
		default:
		}
	}
}

// missing tells the first and the last number that did not come.
func (a *arrivals) missing(sent uint64) string {
	first, last := sent, uint64(0)
	for n := range sent {
		if a.seen[n/64]&(1<<(n%64)) == 0 {
			first, last = min(first, n), n
		}
	}
	if first == sent {
		return "none"
	}
	return fmt.Sprintf("%d to %d", first, last)
}

// take judges one datagram.
func (a *arrivals) take(b []byte, addr net.Addr, from netip.AddrPort) (fresh bool) {
	source := addr.(*net.UDPAddr).AddrPort()
	source = netip.AddrPortFrom(source.Addr().Unmap(), source.Port())
	var sum [sha256.Size]byte
	if len(b) == datagramLen {
		sum = hashOf(b)
	}
	if len(b) != datagramLen || source != from || sum != [sha256.Size]byte(b[numberLen:bodyAt]) {
		a.corrupted++
		return false
	}
	n := binary.LittleEndian.Uint64(b)
	if n/64 >= uint64(len(a.seen)) {
		a.corrupted++
		return false
	}
	if a.seen[n/64]&(1<<(n%64)) != 0 {
		a.twice++
		return false
	}
	a.seen[n/64] |= 1 << (n % 64)
	if n < a.next {
		a.late++
	}
	a.next = max(a.next, n+1)
	a.sum.add(sum)
	return true
}

// whole fails the test if anything of a flow was lost that no queue counts as dropped, came twice, or was changed.
func (f flow) whole(t *testing.T, what string, q queues) tally {
	t.Helper()
	before, paths := q.read(t), q.paths()
	thrown := q.thrown(t)
	x, err := f.run()
	if err != nil {
		t.Errorf("%s: UDP: %v", what, err)
		return x
	}
	dropped := q.read(t).since(before)
	t.Logf("%s: %d datagrams in %.1f s, %.0f kpps; %d lost, %d late; dropped by %v", what, x.sent, x.took.Seconds(), float64(x.received)/x.took.Seconds()/1e3,
		x.lost(), x.late, dropped)
	if x.twice != 0 || x.corrupted != 0 {
		t.Errorf("%s: %d datagrams came twice and %d were corrupted", what, x.twice, x.corrupted)
	}
	if x.lost() != 0 && dropped.total() == 0 {
		t.Errorf("%s: %d of %d datagrams were lost (%s), and no queue has dropped any; thrown away: %v; paths before %s, and after %s", what, x.lost(), x.sent,
			x.missing, q.thrown(t).since(thrown), paths, q.paths())
	}
	if x.lost() == 0 && x.sentSum != x.receivedSum {
		t.Errorf("%s: what arrived has another hash than what was sent", what)
	}
	return x
}
