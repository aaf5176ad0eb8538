package caller

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Linux is the [System] of this process's network and user namespaces.
type Linux struct{}

// Interfaces implements [System], as do the methods below.
func (Linux) Interfaces() ([]Interface, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []Interface
	for _, i := range list {
		in := Interface{Index: i.Index, Name: i.Name, Loopback: i.Flags&net.FlagLoopback != 0}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has just gone
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					in.Addresses = append(in.Addresses, ip.Unmap())
				}
			}
		}
		out = append(out, in)
	}
	return out, nil
}

// Sockets asks SOCK_DIAG or, where the kernel was built without it for UDP, /proc.
func (Linux) Sockets() (list []Socket, err error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := diag(family)
		if err != nil {
			if sockets, err = proc(family, err); err != nil {
				return nil, err
			}
		}
		list = append(list, sockets...)
	}
	return list, nil
}

func diag(family uint8) (list []Socket, err error) {
	for range 3 {
		sockets, err := netlink.SocketDiagUDP(family)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("SOCK_DIAG: %w", err)
		}
		for _, s := range sockets {
			list = append(list, Socket{Port: s.ID.SourcePort, UID: s.UID})
		}
		return list, nil
	}
	return nil, errors.New("SOCK_DIAG: the list of sockets changed all the time")
}

// maxProc bounds what is read of the list of sockets: a line has 128 bytes, a host 65,535 ports and many addresses.
const maxProc = 64 << 20

// proc reads the list of sockets because SOCK_DIAG failed.
func proc(family uint8, because error) ([]Socket, error) {
	path := "/proc/self/net/udp"
	if family == unix.AF_INET6 {
		path = "/proc/self/net/udp6"
	}
	f, err := os.Open(path)
	if err != nil {
		if family == unix.AF_INET6 && errors.Is(err, os.ErrNotExist) {
			return nil, nil // a kernel without IPv6
		}
		return nil, errors.Join(because, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxProc))
	if err != nil {
		return nil, errors.Join(because, err)
	}
	list, err := parseProc(text)
	if err != nil {
		return nil, errors.Join(because, fmt.Errorf("%s: %w", path, err))
	}
	return list, nil
}

// parseProc reads /proc/net/udp: a head line, then "sl: address:port …", of which the eighth word is the user.
func parseProc(text []byte) (list []Socket, err error) {
	_, rest, _ := bytes.Cut(text, []byte("\n"))
	for line := range bytes.Lines(rest) {
		words := strings.Fields(string(line))
		if len(words) == 0 {
			continue
		}
		if len(words) < 8 {
			return nil, fmt.Errorf("cannot read %q", line)
		}
		_, port, ok := strings.Cut(words[1], ":")
		p, err := hex.DecodeString(port)
		uid, err2 := strconv.ParseUint(words[7], 10, 32)
		if !ok || err != nil || len(p) != 2 || err2 != nil {
			return nil, fmt.Errorf("cannot read %q", line)
		}
		list = append(list, Socket{Port: uint16(p[0])<<8 | uint16(p[1]), UID: uint32(uid)})
	}
	return list, nil
}

// User asks the user database.
func (Linux) User(uid uint32) (u User) {
	found, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return u
	}
	u.Name = found.Username
	ids, _ := found.GroupIds()
	for _, id := range ids {
		if g, err := user.LookupGroupId(id); err == nil {
			u.Groups = append(u.Groups, g.Name)
		}
	}
	return u
}

// AcceptsOwn reads the settings that go before the interface's too.
func (Linux) AcceptsOwn(name string) bool {
	for _, n := range []string{"all", name} {
		if strings.ContainsAny(n, "/") {
			return true
		}
		value, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + n + "/accept_local")
		if err != nil || strings.TrimSpace(string(value)) != "0" {
			return true
		}
	}
	return false
}

// Nobody is the kernel's overflow user, 65534 unless someone changed that.
func (Linux) Nobody() uint32 {
	text, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32); err == nil {
			return uint32(n)
		}
	}
	return 65534
}
