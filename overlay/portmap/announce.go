package portmap

import (
	"context"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// listen hears the announcements of servers that restarted: to all hosts, at clientPort (RFC 6887 section 14.1.3, RFC 6886
// section 3.2.1). Every host is in those groups. Where the port is not to be had, the checks must do.
func (m *Mapper) listen(ctx context.Context, network string) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// Other clients on this host hear the same.
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	}}
	pc, err := lc.ListenPacket(ctx, network, ":"+strconv.Itoa(clientPort))
	if err != nil {
		m.log.Debug("cannot listen to announcements of routers", "err", err)
		return
	}
	defer pc.Close()
	defer context.AfterFunc(ctx, func() { pc.Close() })()
	conn := pc.(*net.UDPConn)
	b := make([]byte, pcpMaxLen+1)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(b)
		if err != nil {
			if ctx.Err() == nil {
				m.log.Debug("cannot listen to announcements of routers any longer", "err", err)
			}
			return
		}
		if a, ok := parseAnswer(b[:n]); ok && from.Port() == serverPort && a.op == opAnnounce && a.result == 0 {
			m.heard(from.Addr().Unmap(), a.epoch)
		}
	}
}
