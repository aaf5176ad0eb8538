package rtps

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/machine"
)

// Datagrams arrive in order and whole, however many are written at once, and one that cannot be sent keeps no other back.
func TestDirect(t *testing.T) {
	for _, c := range []struct{ six, poll bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		six := c.six
		to := netip.MustParseAddr("127.0.0.1")
		if six {
			to = netip.IPv6Loopback()
		}
		a, err := openDirect(six, 0, false, c.poll)
		if err != nil {
			if six {
				continue // no IPv6 here
			}
			t.Fatal(err)
		}
		defer a.close()
		// The port is chosen by the kernel: sent to itself.
		port := boundPort(t, a)
		target := netip.AddrPortFrom(to, port)
		nowhere := netip.AddrPortFrom(to, 0) // port 0 is refused
		var ds []machine.Datagram
		for i := range 150 {
			ds = append(ds, machine.Datagram{To: target, Payload: bytes.Repeat([]byte{byte(i)}, 1+i*20)})
			if i == 70 {
				ds = append(ds, machine.Datagram{To: nowhere, Payload: []byte("lost")})
			}
		}
		failed, why := a.write(new(outbox), ds)
		if failed != 1 || why == nil {
			t.Errorf("%d could not be sent: %v", failed, why)
		}
		in := newInbox()
		for i := 0; i < 150; {
			n, err := a.read(in)
			if err != nil {
				t.Fatal(err)
			}
			for k := range n {
				b, from := a.at(in, k)
				if len(b) != 1+i*20 || b[0] != byte(i) || b[len(b)-1] != byte(i) {
					t.Fatalf("datagram %d has %d bytes of %d", i, len(b), b[0])
				}
				if from.From != target || from.Local.Addr() != to || from.Interface == 0 {
					t.Fatalf("it came from %v to %v by %d", from.From, from.Local, from.Interface)
				}
				i++
			}
		}
	}
}

// A read that waits ends when the socket is stopped.
func TestDirectStops(t *testing.T) {
	for _, poll := range []bool{false, true} {
		t.Run(fmt.Sprint("poll ", poll), func(t *testing.T) { directStops(t, poll) })
	}
}

func directStops(t *testing.T, poll bool) {
	a, err := openDirect(false, 0, true, poll)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := a.read(newInbox())
		ended <- err
	}()
	for {
		a.stop()
		select {
		case err := <-ended:
			if !errors.Is(err, os.ErrClosed) {
				t.Error(err)
			}
			a.close()
			return
		case <-time.After(10 * time.Millisecond):
			// It had not begun to wait; now it must not.
		}
	}
}

func boundPort(t *testing.T, d *direct) uint16 {
	t.Helper()
	name, err := unix.Getsockname(int(d.fd))
	if err != nil {
		t.Fatal(err)
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port)
	case *unix.SockaddrInet6:
		return uint16(a.Port)
	}
	t.Fatal("no port")
	return 0
}
