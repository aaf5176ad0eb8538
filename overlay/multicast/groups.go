package multicast

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// MaxGroups bounds the groups of one host.
const MaxGroups = 64

// parseIGMP6 reads the groups joined on an interface from the kernel's list (/proc/net/igmp6) and adds those carried.
func parseIGMP6(list []netip.Addr, r io.Reader, name string) ([]netip.Addr, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text()) // index, interface, group, users, ...
		if len(f) < 3 {
			return nil, fmt.Errorf("list of IPv6 groups: unexpected line %q", lines.Text())
		}
		if f[1] != name {
			continue
		}
		b, err := hex.DecodeString(f[2])
		if err != nil || len(b) != 16 {
			return nil, fmt.Errorf("list of IPv6 groups: unexpected address %q", f[2])
		}
		list = add(list, netip.AddrFrom16([16]byte(b)))
	}
	return list, lines.Err()
}

// parseIGMP is parseIGMP6 for IPv4 (/proc/net/igmp), where lines of groups follow the line of their interface.
func parseIGMP(list []netip.Addr, r io.Reader, name string) ([]netip.Addr, error) {
	lines := bufio.NewScanner(r)
	lines.Scan() // the heading
	here := false
	for lines.Scan() {
		text := lines.Text()
		f := strings.Fields(text)
		switch {
		case len(f) < 2:
			return nil, fmt.Errorf("list of IPv4 groups: unexpected line %q", text)
		case !strings.HasPrefix(text, "\t"):
			here = strings.TrimSuffix(f[1], ":") == name
		case here:
			n, err := strconv.ParseUint(f[0], 16, 32)
			if err != nil {
				return nil, fmt.Errorf("list of IPv4 groups: unexpected address %q", f[0])
			}
			var b [4]byte // printed as a number of the machine
			binary.NativeEndian.PutUint32(b[:], uint32(n))
			list = add(list, netip.AddrFrom4(b))
		}
	}
	return list, lines.Err()
}

func add(list []netip.Addr, group netip.Addr) []netip.Addr {
	if !carried(group) || len(list) >= MaxGroups || slices.Contains(list, group) {
		return list
	}
	return append(list, group)
}
