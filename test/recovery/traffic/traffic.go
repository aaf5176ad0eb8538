// Package traffic sends a steady stream of datagrams both ways between two hosts of a lab, and tells how long it was silent and what got lost.
package traffic

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

const (
	port = 7345
	// datagramLen is the payload in bytes: a small sensor message.
	datagramLen = 100
	// writeTimeout bounds a write that blocks, which one to a device that takes nothing does not.
	writeTimeout = time.Second
)

// End is where one half of a stream begins and the other ends.
type End struct {
	Host *lab.Host
	Addr netip.Addr // that the host has
}

// Stream is traffic both ways at a steady rate, until it is stopped or the test ends. Its methods are safe for concurrent use.
type Stream struct {
	ways [2]*way // from the first end, from the second
	stop func()
}

// way is one direction.
type way struct {
	mu      sync.Mutex
	sent    []time.Time // by number
	arrived []arrival   // in order of arrival
	got     map[uint32]bool
}

type arrival struct {
	at     time.Time
	number uint32
}

// Start begins a stream between two ends, one datagram per interval each way.
func Start(t lab.TB, a, b End, interval time.Duration) *Stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Stream{ways: [2]*way{{got: map[uint32]bool{}}, {got: map[uint32]bool{}}}}
	ca, cb := listen(t, a), listen(t, b)
	var running sync.WaitGroup
	running.Go(func() { s.ways[0].send(ctx, ca, b.Addr, interval) })
	running.Go(func() { s.ways[1].send(ctx, cb, a.Addr, interval) })
	running.Go(func() { s.ways[0].receive(cb) })
	running.Go(func() { s.ways[1].receive(ca) })
	s.stop = sync.OnceFunc(func() {
		cancel()
		ca.Close()
		cb.Close()
		running.Wait()
	})
	t.Cleanup(s.stop)
	return s
}

// listen opens a socket in the host's network. It is bound to the address, so that it lives only as long as the address does.
func listen(t lab.TB, e End) (c *net.UDPConn) {
	t.Helper()
	err := e.Host.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(e.Addr, port)))
		return err
	})
	if err != nil {
		t.Fatalf("traffic: %s: %v", e.Host.Name(), err)
	}
	return c
}

// Stop ends the stream. What was on its way is lost.
func (s *Stream) Stop() { s.stop() }

func (w *way) send(ctx context.Context, c *net.UDPConn, to netip.Addr, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	b := make([]byte, datagramLen)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		w.mu.Lock()
		binary.BigEndian.PutUint32(b, uint32(len(w.sent)))
		w.sent = append(w.sent, now)
		w.mu.Unlock()
		// What cannot be sent is lost, as it is for any program. The deadline is long, lest a busy machine lets it pass before the datagram was tried.
		_ = c.SetWriteDeadline(now.Add(writeTimeout))
		_, _ = c.WriteToUDPAddrPort(b, netip.AddrPortFrom(to, port))
	}
}

func (w *way) receive(c *net.UDPConn) {
	b := make([]byte, 2048)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if n == datagramLen {
			number := binary.BigEndian.Uint32(b)
			w.mu.Lock()
			if !w.got[number] {
				w.got[number] = true
				w.arrived = append(w.arrived, arrival{time.Now(), number})
			}
			w.mu.Unlock()
		}
	}
}

// Silence is a time without arrivals in one direction.
type Silence struct{ From, To time.Time }

// For is how long it lasted.
func (s Silence) For() time.Duration { return s.To.Sub(s.From) }

// Report is what happened to the stream in some time, in the direction from the first end and in that from the second.
type Report struct {
	Silence   [2]Silence       // the longest
	Lost      [2]int           // datagrams that were sent in the time and have not arrived until now
	Sent      [2]int           // datagrams that were sent in the time
	Reordered [2]int           // that arrived after one with a higher number
	Pause     [2]time.Duration // the longest time in which nothing was sent: the machine's fault, not the network's
}

// Worst is the longer of the silences.
func (r Report) Worst() time.Duration { return max(r.Silence[0].For(), r.Silence[1].For()) }

// AllLost is the datagrams lost both ways.
func (r Report) AllLost() int { return r.Lost[0] + r.Lost[1] }

func (r Report) String() string {
	return fmt.Sprintf("silent %v / %v, lost %d / %d of %d, reordered %d / %d, pause %v / %v", r.Silence[0].For().Round(time.Millisecond),
		r.Silence[1].For().Round(time.Millisecond), r.Lost[0], r.Lost[1], r.Sent[0], r.Reordered[0], r.Reordered[1],
		r.Pause[0].Round(time.Millisecond), r.Pause[1].Round(time.Millisecond))
}

// Report tells of the time between two moments. A silence that began before it counts from its beginning on, one that outlasts it up to its end.
func (s *Stream) Report(from, to time.Time) (r Report) {
	for i, w := range s.ways {
		w.mu.Lock()
		r.Silence[i] = w.silence(from, to)
		r.Pause[i] = w.pause(from, to)
		for n := w.sentBy(from); n < w.sentBy(to); n++ {
			r.Sent[i]++
			if !w.got[uint32(n)] {
				r.Lost[i]++
			}
		}
		highest := uint32(0)
		for _, x := range w.arrived[w.arrivedBy(from):w.arrivedBy(to)] {
			if x.number < highest {
				r.Reordered[i]++
			}
			highest = max(highest, x.number)
		}
		w.mu.Unlock()
	}
	return r
}

// sentBy is how many datagrams were sent before a moment, arrivedBy how many arrived.
func (w *way) sentBy(at time.Time) int {
	return sort.Search(len(w.sent), func(i int) bool { return !w.sent[i].Before(at) })
}

func (w *way) arrivedBy(at time.Time) int {
	return sort.Search(len(w.arrived), func(i int) bool { return !w.arrived[i].at.Before(at) })
}

func (w *way) silence(from, to time.Time) Silence {
	longest, last := Silence{from, from}, from
	end := func(at time.Time) {
		if at.Sub(last) > longest.For() {
			longest = Silence{last, at}
		}
		last = at
	}
	for _, x := range w.arrived[w.arrivedBy(from):w.arrivedBy(to)] {
		end(x.at)
	}
	end(to)
	return longest
}

func (w *way) pause(from, to time.Time) (longest time.Duration) {
	last := from
	for _, at := range w.sent[w.sentBy(from):w.sentBy(to)] {
		longest = max(longest, at.Sub(last))
		last = at
	}
	return max(longest, to.Sub(last))
}

// Flows waits until datagrams that were sent after this call arrive both ways. The result is false if they do not within the time.
func (s *Stream) Flows(within time.Duration) bool {
	from := time.Now()
	for deadline := from.Add(within); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if s.ways[0].fresh(from) && s.ways[1].fresh(from) {
			return true
		}
	}
	return false
}

func (w *way) fresh(from time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range slices.Backward(w.arrived) {
		if x.at.Before(from) {
			return false
		}
		if w.sent[x.number].After(from) {
			return true
		}
	}
	return false
}
