package e2e

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// tContext is for commands that end by themselves.
var tContext = context.Background()

// listenUDP opens a UDP socket on a host or robot; it is closed at the end of the test.
func listenUDP(t *testing.T, on interface{ Do(func() error) error }, at netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	// The kernel takes some milliseconds to make a new address local.
	lab.Eventually(t, 5*time.Second, "a socket at "+at.String(), func() error {
		return on.Do(func() (err error) {
			c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
			return err
		})
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// timely does what has a limit in time, up to three times: once within the limit is enough, for a machine that is busy with other tests may stand still for
// a second, and what is slow by itself is slow each time. f returns how long it took.
func timely(t *testing.T, what string, limit time.Duration, f func() time.Duration) {
	t.Helper()
	for try := 1; ; try++ {
		took := f()
		t.Logf("%s took %v", what, took)
		switch {
		case took <= limit:
			return
		case try == 3:
			t.Fatalf("%s took longer than %v three times", what, limit)
		}
	}
}
