package spdp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// sites are two robots behind routers with NAT, on LANs of the prefixes given, and a Base between them. Each LAN has hosts
// of nobody's beside it, as many as say.
func sites(t *testing.T, prefixes [2]string, beside [2][]string) (list []*robot) {
	t.Helper()
	programs := programs(t)
	l := lab.New(t)
	public := l.Host("base")
	routers := []*lab.Router{l.Router("router1"), l.Router("router2")}
	l.LAN(lab.Link{}, lab.Prefixes{IPv4: netip.MustParsePrefix("25.0.1.0/24")}, public, routers[0], routers[1])
	base := fleet.StartBase(t, public)
	for i, r := range routers {
		r.Rules(t, internet.Ruleset{Outer: "lan0", Inside: prefixes[i], Masquerade: true, DropInput: true}.String())
		parts := []lab.Part{lab.Prefixes{IPv4: netip.MustParsePrefix(prefixes[i])}, r}
		var h *lab.Host
		for _, who := range beside[i] {
			next := l.Host(fmt.Sprintf("%s%d", who, i+1))
			if parts = append(parts, next); who == "robot" {
				h = next
			}
		}
		l.LAN(lab.Link{}, parts...)
		list = append(list, &robot{fleet.Start(t, h, "ipv4: auto\nbases:\n"+base.Entry("25.0.1.1")), t, programs, nil})
	}
	return list
}

// beside writes the profiles of mode both.
func (r *robot) beside(four netip.Addr) {
	r.t.Helper()
	p := profile.Params{Interface: "hnet0", Address: r.Address, IPv4: four, Mode: profile.Both, LAN: []string{"lan0"}, Relay: true}
	writers := map[string]func(profile.Params) ([]byte, error){cyclone: profile.Cyclone, fastdds: profile.FastDDS}
	if os.Getenv("HNET_FASTDDS_PREFIX") != "" {
		writers[fastdds] = profile.FastDDS3
	}
	for vendor, write := range writers {
		b, err := write(p)
		if err != nil {
			r.t.Fatal(err)
		}
		r.Write(profileOf(vendor), string(b))
	}
}

// TestBeside: programs of two sites use the overlay beside their LANs. All hear each other, nothing goes to an address of
// the other's LAN, and no such address comes out of the tunnel; whoever has it here.
func TestBeside(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		prefixes [2]string
		beside   [2][]string
		more     int // addresses of each robot, as containers' bridges have them
	}{
		"routers":              {[2]string{"10.0.1.0/24", "10.0.2.0/24"}, [2][]string{{"robot"}, {"robot"}}, 0},
		"one address":          {[2]string{"10.0.0.0/24", "10.0.0.0/24"}, [2][]string{{"robot"}, {"robot"}}, 0},
		"a stranger's address": {[2]string{"10.0.0.0/24", "10.0.0.0/24"}, [2][]string{{"robot", "stranger"}, {"stranger", "robot"}}, 0},
		"many addresses":       {[2]string{"10.0.1.0/24", "10.0.2.0/24"}, [2][]string{{"robot"}, {"robot"}}, 40},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			list := sites(t, c.prefixes, c.beside)
			trust(list...)
			var uplinks, tunnels []*lab.Capture
			running := map[string]*lab.Process{}
			for i, r := range list {
				for n := range c.more {
					bridge := fmt.Sprintf("br%d", n)
					r.Run(t, "ip", "link", "add", bridge, "up", "type", "bridge")
					r.Run(t, "ip", "addr", "add", fmt.Sprintf("172.%d.%d.1/24", 17+i, n), "dev", bridge)
				}
				r.beside(waitIPv4(t, r).IPv4)
				uplinks, tunnels = append(uplinks, r.Capture(t, "lan0")), append(tunnels, r.Capture(t, "hnet0"))
			}
			for _, r := range list {
				for _, v := range vendors {
					running[name(r, v)] = r.start(v, "both", 0, "--rate", "10", "--size", "20000")
				}
				running[r.Name()+"-own"] = r.startNode(r.Name() + "-own")
			}
			began := time.Now()
			for who, p := range running {
				for other := range running {
					if who != other {
						heard(t, p, other)
					}
				}
			}
			t.Logf("everybody heard everybody within %v", time.Since(began).Round(10*time.Millisecond))
			more(t, running)
			for i, r := range list {
				own := r.Addr4("lan0")
				other := list[1-i].Addr4("lan0")
				past(t, r.Name(), uplinks[i].Stop(), other)
				locators(t, r.Name(), tunnels[i].Stop(), own, other)
				if text := r.Run(t, "cat", "/proc/net/snmp6", "/proc/net/snmp"); wrongChecksums(text) {
					t.Errorf("%s received UDP datagrams with a wrong checksum: %s", r.Name(), text)
				}
			}
		})
	}
}

// TestBesideOneLAN: two robots on one LAN that use it beside the overlay know each other by both, and all hear each other.
func TestBesideOneLAN(t *testing.T) {
	list := daemons(t, 2, "ipv4: auto\n")
	trust(list...)
	running := map[string]*lab.Process{}
	for _, r := range list {
		r.beside(waitIPv4(t, r).IPv4)
		for _, v := range vendors {
			running[name(r, v)] = r.start(v, "both", 0, "--rate", "10", "--size", "20000")
		}
		running[r.Name()+"-own"] = r.startNode(r.Name() + "-own")
	}
	for who, p := range running {
		for other := range running {
			if who != other {
				heard(t, p, other)
			}
		}
	}
	more(t, running)
}

// daemonPort is where daemons look for each other, at every address that one has.
const daemonPort = 5582

// past checks that no program has sent anything to the other's address, nor DDS to anybody but the LAN's groups.
func past(t *testing.T, who string, frames []lab.Frame, other netip.Addr) {
	t.Helper()
	n := 0
	for _, f := range frames {
		if !f.Out || len(f.Data) < 38 || binary.BigEndian.Uint16(f.Data[12:]) != 0x0800 {
			continue
		}
		to := netip.AddrFrom4([4]byte(f.Data[30:34]))
		_, isDDS := message(f.Data[14:])
		daemon := f.Data[23] == 17 && binary.BigEndian.Uint16(f.Data[34:]) == daemonPort
		if n++; to == other && !daemon || isDDS && !to.IsMulticast() {
			t.Errorf("%s sent %d bytes to %v past the overlay: %x", who, f.Len, to, f.Data)
			return
		}
	}
	if n == 0 {
		t.Errorf("%s: nothing was captured", who)
	}
}

// locators checks what the tunnel carried in both directions: no address of a LAN.
func locators(t *testing.T, who string, frames []lab.Frame, lan ...netip.Addr) {
	t.Helper()
	n := 0
	for _, f := range frames {
		if f.Out { // it is masked on its way to the peer
			continue
		}
		m, ok := message(f.Data)
		if !ok {
			continue
		}
		n++
		for _, a := range lan {
			// A locator of IPv4 has twelve zeros before the address.
			if bytes.Contains(m, append(make([]byte, 12), a.AsSlice()...)) {
				t.Errorf("%s was told of %v: %x", who, a, m)
				return
			}
		}
	}
	if n == 0 {
		t.Errorf("%s: nothing came through the tunnel", who)
	}
}

// message is the RTPS message in an IP packet.
func message(b []byte) ([]byte, bool) {
	header := 40
	if len(b) > 0 && b[0]>>4 == 4 {
		header = int(b[0]&15) * 4
	}
	if header += 8; len(b) < header+wire.HeaderLen || string(b[header:header+4]) != "RTPS" {
		return nil, false
	}
	return b[header:], true
}

// wrongChecksums says whether the kernel has counted any of UDP, by its tables of both families.
func wrongChecksums(tables string) bool {
	lines := strings.Split(tables, "\n")
	for i, line := range lines {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[0] == "Udp6InCsumErrors" && fields[1] != "0":
			return true
		case len(fields) > 1 && fields[0] == "Udp:" && fields[1] == "InDatagrams" && i+1 < len(lines):
			values := strings.Fields(lines[i+1])
			for j, name := range fields {
				if name == "InCsumErrors" && j < len(values) && values[j] != "0" {
					return true
				}
			}
		}
	}
	return false
}
