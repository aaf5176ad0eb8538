package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// echoSizes sends UDP payloads of every size from 0 to longest over the overlay and checks that each comes back as it was.
func echoSizes(t *testing.T, a, b *fleet.Robot, longest int) {
	t.Helper()
	const port = 7001
	there := listenUDP(t, b, netip.AddrPortFrom(b.Address, port))
	here := listenUDP(t, a, netip.AddrPortFrom(a.Address, 0))
	go func() {
		buffer := make([]byte, 65535)
		for {
			n, from, err := there.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			there.WriteToUDPAddrPort(buffer[:n], from)
		}
	}()
	random := rand.New(rand.NewPCG(5, 6))
	buffer := make([]byte, 65535)
	for size := range longest + 1 {
		sent := make([]byte, size)
		for i := range sent {
			sent[i] = byte(random.Uint32())
		}
		if _, err := here.WriteToUDPAddrPort(sent, netip.AddrPortFrom(b.Address, port)); err != nil {
			t.Fatalf("%d B: %v", size, err)
		}
		here.SetReadDeadline(time.Now().Add(2 * time.Second))
		n, _, err := here.ReadFromUDPAddrPort(buffer)
		if err != nil || !bytes.Equal(buffer[:n], sent) {
			t.Fatalf("%d B: %d B came back, %v", size, n, err)
		}
	}
}

// transfer sends up to so many random bytes by TCP from a to b, for as long as it may, and checks that all arrive as they were.
func transfer(t *testing.T, a, b *fleet.Robot, most int64, atMost time.Duration) {
	t.Helper()
	n, took, err := stream(a, b, most, atMost)
	if err != nil {
		t.Fatalf("TCP from %s to %s: %v after %d B and %v", a.Name(), b.Name(), err, n, took)
	}
	t.Logf("TCP from %s to %s: %.1f MB in %v, %.0f Mbit/s", a.Name(), b.Name(), float64(n)/1e6, took, float64(n)*8/took.Seconds()/1e6)
}

func stream(a, b *fleet.Robot, most int64, atMost time.Duration) (n int64, took time.Duration, err error) {
	var l net.Listener
	if err := b.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(b.Address, 0).String())
		return err
	}); err != nil {
		return 0, 0, err
	}
	defer l.Close()
	type received struct {
		n   int64
		sum []byte
		err error
	}
	end := make(chan received, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			end <- received{err: err}
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(atMost + 20*time.Second))
		h := sha256.New()
		n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{c}, make([]byte, 1<<20))
		end <- received{n, h.Sum(nil), err}
	}()
	var c net.Conn
	if err := a.Do(func() (err error) {
		c, err = (&net.Dialer{Timeout: 5 * time.Second}).Dial("tcp", l.Addr().String())
		return err
	}); err != nil {
		return 0, 0, err
	}
	defer c.Close()
	start := time.Now()
	c.SetDeadline(start.Add(atMost + 20*time.Second))
	sent, sum, err := pour(c, most, start.Add(atMost))
	if err == nil {
		err = c.(*net.TCPConn).CloseWrite()
	}
	if err != nil {
		return sent, time.Since(start), err
	}
	r := <-end
	took = time.Since(start)
	switch {
	case r.err != nil:
		return r.n, took, r.err
	case r.n != sent || !bytes.Equal(r.sum, sum.Sum(nil)):
		return r.n, took, fmt.Errorf("%d B were sent and %d received, or not the same", sent, r.n)
	}
	return sent, took, nil
}

// pour writes random bytes until there are enough or time is up, and returns their hash.
func pour(w io.Writer, most int64, until time.Time) (n int64, sum hash.Hash, err error) {
	source := rand.NewChaCha8([32]byte{byte(most)})
	block := make([]byte, 1<<20)
	sum = sha256.New()
	for n < most && time.Now().Before(until) {
		part := block[:min(int64(len(block)), most-n)]
		source.Read(part)
		sum.Write(part)
		written, err := w.Write(part)
		n += int64(written)
		if err != nil {
			return n, sum, err
		}
	}
	return n, sum, nil
}

func TestTCPBothWaysAtOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		link lab.Link
		most int64
	}{
		"clean":                {lab.Link{}, 200e6},
		"1 % loss":             {lab.Link{Loss: 0.01}, 20e6},
		"reordering and delay": {lab.Link{Reorder: 0.05, Delay: 2 * time.Millisecond, Jitter: time.Millisecond}, 20e6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, a, b := twoRobots(t, test.link, lab.Dual)
			fleet.Trust(a, b)
			a.Hnet("wait", "peer", "robot2", "--timeout", "5s")
			var wg sync.WaitGroup
			for _, way := range [][2]*fleet.Robot{{a, b}, {b, a}} {
				wg.Go(func() {
					n, took, err := stream(way[0], way[1], test.most, 2*time.Second)
					if err != nil || n == 0 {
						t.Errorf("from %s: %v after %d B and %v", way[0].Name(), err, n, took)
						return
					}
					t.Logf("from %s: %.0f MB in %v, %.0f Mbit/s", way[0].Name(), float64(n)/1e6, took, float64(n)*8/took.Seconds()/1e6)
				})
			}
			wg.Wait()
			t.Logf("resident: %d and %d kB", memory(t, a.Daemon, "VmHWM"), memory(t, b.Daemon, "VmHWM"))
		})
	}
}

// TestUDPSegments hands the kernel superpackets, which cross hnet0 whole where it takes them, and checks every datagram that arrives.
func TestUDPSegments(t *testing.T) {
	_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
	fleet.Trust(a, b)
	mustPing(t, a, b.Address)
	const port = 7002
	for _, size := range []int{1, 13, 100, 999, 1232} {
		t.Run(fmt.Sprintf("%d B", size), func(t *testing.T) {
			receiver := listenUDP(t, b, netip.AddrPortFrom(b.Address, port))
			sender := listenUDP(t, a, netip.AddrPortFrom(a.Address, 0))
			raw, err := sender.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var gso error
			if err := raw.Control(func(fd uintptr) { gso = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) }); err != nil || gso != nil {
				t.Fatalf("UDP_SEGMENT: %v %v", err, gso)
			}
			const trains = 100
			buffer := make([]byte, 2000)
			random := rand.New(rand.NewPCG(7, uint64(size)))
			for train := range trains {
				count := min(1+random.IntN(40), 60000/size)
				last := 1 + random.IntN(size) // the last may be shorter
				super := make([]byte, (count-1)*size+last)
				for i := range super {
					super[i] = byte(i/size + train + i%size*7)
				}
				if size >= 8 {
					for i := range count {
						if at := super[i*size:]; len(at) >= 8 {
							binary.BigEndian.PutUint32(at, uint32(train))
							binary.BigEndian.PutUint32(at[4:], uint32(i))
						}
					}
				}
				if _, err := sender.WriteToUDPAddrPort(super, netip.AddrPortFrom(b.Address, port)); err != nil {
					t.Fatalf("train %d of %d datagrams: %v", train, count, err)
				}
				// One train at a time fits every buffer on the way: all of it arrives, in order.
				for i := range count {
					want := super[i*size : min((i+1)*size, len(super))]
					receiver.SetReadDeadline(time.Now().Add(2 * time.Second))
					n, from, err := receiver.ReadFromUDPAddrPort(buffer)
					if errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatalf("train %d: datagram %d of %d did not arrive", train, i, count)
					}
					if err != nil || from.Addr() != a.Address || !bytes.Equal(buffer[:n], want) {
						t.Fatalf("train %d: datagram %d of %d is %x from %v (%v), want %x", train, i, count, buffer[:n], from, err, want)
					}
				}
			}
		})
	}
}
