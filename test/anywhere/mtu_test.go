package anywhere

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// An access network that swallows what is longer than its MTU, without a word: what fits is found by probing.
func TestBlackHoles(t *testing.T) {
	for _, mtu := range []int{1100, 1180, 1420} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			w := newWorld(t, "base1")
			home := w.net.Site("home", internet.PortRestricted)
			home.Access.Set(lab.Link{PathMTU: mtu})
			a, _ := w.robot(home, "robot1")
			b, _ := w.robot(w.net.Site("plant", internet.PortRestricted), "robot2")
			fleet.Trust(a, b)
			pathWithin(t, a, b, 10*time.Second, api.PathDirect)
			pathWithin(t, b, a, 10*time.Second, api.PathDirect)
			carries(t, a, b, 1<<20, 20*time.Second)
			carries(t, b, a, 1<<20, 20*time.Second)
			p, _ := a.Peer(b.Address)
			for _, x := range p.Paths {
				if x.Selected && (x.MTU > mtu || x.MTU < mtu-100) {
					t.Errorf("the path's MTU is %d, found was %d", mtu, x.MTU)
				}
			}
		})
	}
}

// carries sends bytes over TCP through the overlay.
func carries(t *testing.T, from, to *fleet.Robot, bytes int64, within time.Duration) {
	t.Helper()
	var l net.Listener
	if err := to.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(to.Address, 0).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	arrived := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			arrived <- 0
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(within))
		n, _ := io.Copy(io.Discard, c)
		arrived <- n
	}()
	var c net.Conn
	if err := from.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", l.Addr().String(), within)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c.SetDeadline(start.Add(within))
	_, err := io.CopyN(c, zeros{}, bytes)
	c.Close()
	if n := <-arrived; n != bytes || err != nil {
		t.Errorf("%d of %d bytes arrived (%v)", n, bytes, err)
		return
	}
	t.Logf("%d bytes in %v", bytes, time.Since(start))
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
