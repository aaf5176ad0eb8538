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
