package api

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Group is the group whose members may change things.
const Group = "hnet"

// Credentials are those of the process at the other end of a Unix socket, when it connected.
type Credentials struct {
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary
	PID    int32
}

// peerCredentials asks the kernel who is at the other end.
func peerCredentials(c *net.UnixConn) (cred Credentials, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return cred, err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		var u *unix.Ucred
		if u, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); inner != nil {
			return
		}
		cred = Credentials{UID: u.Uid, GID: u.Gid, PID: u.Pid}
		cred.Groups, inner = peerGroups(fd)
	})
	if err := errors.Join(err, inner); err != nil {
		return Credentials{}, fmt.Errorf("cannot tell who connected: %w", err)
	}
	return cred, nil
}

// peerGroups reads SO_PEERGROUPS, for which x/sys has no call.
func peerGroups(fd uintptr) ([]uint32, error) {
	buf := make([]byte, 4*64)
	for {
		size := uint32(len(buf))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == unix.ERANGE && int(size) > len(buf):
			buf = make([]byte, size) // the kernel said how much it needs
			continue
		case errno == unix.ENODATA:
			return nil, nil // the peer has none
		case errno != 0:
			return nil, os.NewSyscallError("getsockopt SO_PEERGROUPS", errno)
		}
		groups := make([]uint32, 0, size/4)
		for b := buf[:size]; len(b) >= 4; b = b[4:] {
			groups = append(groups, binary.NativeEndian.Uint32(b))
		}
		return groups, nil
	}
}

// lookupGroup finds the gid of [Group].
func lookupGroup() (gid uint32, ok bool) {
	g, err := user.LookupGroup(Group)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(n), err == nil
}

// mayChange judges who may change things: root, the daemon's own user, members of the group.
func (s *Server) mayChange(c Credentials) bool {
	if c.UID == 0 || c.UID == s.uid {
		return true
	}
	gid, ok := s.group()
	return ok && (c.GID == gid || slices.Contains(c.Groups, gid))
}

// Warnings are the server's own, for the node to show among its own.
func (s *Server) Warnings() []Warning {
	if _, ok := s.group(); ok {
		return nil
	}
	return []Warning{{
		Code: "group_missing",
		Text: "there is no group " + Group + ", so that root alone may change the whitelist and the names",
		Fix:  "create it with 'groupadd --system " + Group + "' (or 'hnet service-install') and add users with 'usermod -aG " + Group + " USER'",
	}}
}
