package spdp

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// maxListed bounds the sockets read from the kernel's list.
const maxListed = 65536

// parseSockets reads the kernel's list of IPv6 UDP sockets (proc_net_udp6), of which it keeps those that receive at the
// overlay address.
func parseSockets(r io.Reader, own netip.Addr) ([]Socket, error) {
	var list []Socket
	lines := bufio.NewScanner(r)
	lines.Scan() // the heading
	for n := 0; lines.Scan() && n < maxListed; n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 {
			return nil, fmt.Errorf("list of UDP sockets: unexpected line %q", lines.Text())
		}
		address, port, _ := strings.Cut(fields[1], ":")
		addr, err := hex.DecodeString(address)
		if err != nil || len(addr) != 16 {
			return nil, fmt.Errorf("list of UDP sockets: unexpected address %q", fields[1])
		}
		// Four words, each in the machine's byte order.
		for i := 0; i < 16; i += 4 {
			binary.BigEndian.PutUint32(addr[i:], binary.NativeEndian.Uint32(addr[i:]))
		}
		if a := netip.AddrFrom16([16]byte(addr)); a != own && !a.IsUnspecified() {
			continue
		}
		number, err := strconv.ParseUint(port, 16, 16)
		if err != nil {
			return nil, fmt.Errorf("list of UDP sockets: unexpected port %q", fields[1])
		}
		inode, err := strconv.ParseUint(fields[9], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("list of UDP sockets: unexpected inode %q", fields[9])
		}
		list = append(list, Socket{uint16(number), inode})
	}
	return list, lines.Err()
}
