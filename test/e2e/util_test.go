package e2e

import (
	"context"
	"net"
	"net/netip"
	"testing"
)

// tContext is for commands that end by themselves.
var tContext = context.Background()

// listenUDP opens a UDP socket on a host or robot; it is closed at the end of the test.
func listenUDP(t *testing.T, on interface{ Do(func() error) error }, at netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	err := on.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
