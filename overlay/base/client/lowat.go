package client

import (
	"crypto/tls"
	"net"

	"golang.org/x/sys/unix"
)

// unsent is how many bytes the kernel takes beyond what it has sent already. Its send buffer may be megabytes; what lies there waits for seconds on a
// slow link, and nothing urgent can overtake it.
const unsent = 32 << 10

// keepUnsentSmall sets TCP_NOTSENT_LOWAT on the connection below, if it is one of the kernel's. Where that fails, delays are longer and no more.
func keepUnsentSmall(conn net.Conn) {
	for {
		inner, ok := conn.(*tls.Conn)
		if !ok {
			break
		}
		conn = inner.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent) })
}
