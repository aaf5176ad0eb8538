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

// parseSockets reads the kernel's list of UDP sockets of one family (proc_net_udp, proc_net_udp6), that of the address.
// It keeps those that receive there.
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
		b, err := hex.DecodeString(address)
		if err != nil || len(b) != own.BitLen()/8 {
			return nil, fmt.Errorf("list of UDP sockets: unexpected address %q", fields[1])
		}
		// Words of four bytes, each in the machine's byte order.
		for i := 0; i < len(b); i += 4 {
			binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
		}
		if a, _ := netip.AddrFromSlice(b); a != own && !a.IsUnspecified() {
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
		list = append(list, Socket{Port: uint16(number), Inode: inode, IPv4: own.Is4()})
	}
	return list, lines.Err()
}
