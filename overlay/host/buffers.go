package host

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

func (h *host) GrowBuffers(c syscall.Conn, bytes int) error {
	conn, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot grow the buffers of a socket: %w", err)
	}
	var inner error
	if err := conn.Control(func(fd uintptr) {
		inner = h.growBuffer(int(fd), bytes, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF)
		if inner == nil {
			inner = h.growBuffer(int(fd), bytes, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF)
		}
	}); err != nil {
		inner = err
	}
	if inner != nil {
		return fmt.Errorf("cannot grow the buffers of a socket to %d bytes: %w", bytes, inner)
	}
	return nil
}

// growBuffer asks with privilege first: without it, the kernel silently takes its limit instead.
func (h *host) growBuffer(fd, bytes, force, plain int) error {
	// The kernel doubles what is asked, for its own bookkeeping, and reports the double.
	if have, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, plain); err != nil || have/2 >= bytes {
		return err
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, bytes) == nil {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, bytes); err != nil {
		return err
	}
	have, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, plain)
	if err == nil && have/2 < bytes {
		h.smallBuffers.Do(func() {
			h.log.Warn("socket buffers are smaller than wanted, bursts may be lost",
				"bytes", have/2, "wanted", bytes, "fix", fmt.Sprintf("sysctl net.core.rmem_max=%d net.core.wmem_max=%[1]d, or run with CAP_NET_ADMIN", bytes))
		})
	}
	return err
}
