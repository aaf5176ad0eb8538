package rtps

import (
	"encoding/binary"
	"net/netip"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	netOffset      = 0xfff00000 // SKF_NET_OFF: what follows counts from the IP header
	sourceOffset   = 8          // of an IPv6 header
	packetLoopback = 5          // PACKET_LOOPBACK: a copy of what this host sent to a group
	loopbackIndex  = 1          // of lo, in every network namespace

	maxGuarded = 64 // addresses
)

// guard makes the kernel drop what comes to an IPv6 socket by a network but has a source address of this host's. In IPv4 it does so by itself.
func guard(fd uintptr, own []netip.Addr) error {
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: packetLoopback, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffffffff},
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: loopbackIndex, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffffffff},
	}
	n := 0
	for _, a := range own {
		if !a.Is6() || a.IsLoopback() || n == maxGuarded {
			continue
		}
		n++
		b := a.As16()
		for i := range uint32(4) {
			program = append(program,
				bpf.LoadAbsolute{Off: netOffset + sourceOffset + 4*i, Size: 4},
				// To the next address: over what is left of this one.
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(b[4*i:]), SkipTrue: uint8(2*(3-i) + 1)})
		}
		program = append(program, bpf.RetConstant{})
	}
	program = append(program, bpf.RetConstant{Val: 0xffffffff})
	raw, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}))
}

// guard sets the filter of all IPv6 sockets.
func (n *network) guard(own []netip.Addr) {
	check := func(err error) {
		if err != nil {
			n.warn("guard", "datagrams from the network that pretend to come from this host are not dropped over IPv6", "error", err)
		}
	}
	if d := n.out[1]; d != nil {
		check(guard(d.fd, own))
	}
	for _, s := range n.sockets {
		if !s.six {
			continue
		}
		raw, err := s.conn.SyscallConn()
		if err == nil {
			_ = raw.Control(func(fd uintptr) { err = guard(fd, own) })
		}
		check(err)
	}
}
