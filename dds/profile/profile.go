// Package profile writes the XML files that make Cyclone DDS and Fast DDS talk over the overlay: unicast only, to a
// fixed list of peers, in datagrams that fit one overlay packet. A profile is read once, when a DDS program starts.
package profile

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/template"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

const (
	// MaxPeers is the most peers a profile can carry. Every DDS program asks at Participants ports of each of them.
	MaxPeers = 64

	// Participants is how many DDS programs per host and domain find each other by themselves: participant
	// indexes 0 to 49, whose discovery ports are 7410 + 250 * domain + 2 * index.
	Participants = 50

	// MaxDatagram is the most UDP payload that crosses the overlay in one packet on any path, in bytes: the
	// route's MTU of 1280 less 40 of IPv6 and 8 of UDP header. All sizes below stay within it.
	MaxDatagram = 1280 - 40 - 8

	// messageSize bounds an RTPS message, in bytes, in both libraries. It must be one number: Fast DDS receives
	// into buffers of its own maxMessageSize and cuts off what is longer, so nobody may send more.
	messageSize = 1200

	// fragmentSize is Cyclone's share of a large sample per message, in bytes: messageSize less at most 116 of
	// RTPS headers (header 20, INFO_DST 16, INFO_TS 12, DATA_FRAG 36, inline QoS 32), a multiple of 4.
	fragmentSize = 1080

	// RelayPort is the UDP port, on this host's own overlay address, where the daemon's discovery relay listens for the
	// participants of this host, of every domain. DDS itself uses no port of 7400 + 250 * domain + 2..9.
	RelayPort = 7402

	// relayAnnounce is how often Cyclone announces itself to the relay, in seconds: its own 30 would make a node that
	// the relay missed wait.
	relayAnnounce = 5

	// receiveBuffer is what is asked of the kernel for a DDS socket, in bytes, so that a burst of fragments of a
	// large sample survives. The kernel grants at most net.core.rmem_max.
	receiveBuffer = 4 << 20
)

// Params is what a profile is made from.
type Params struct {
	// Interface is the overlay's network interface, as in `ip link`, at most 15 characters.
	Interface string
	// Address is this host's own address in fc94::/16.
	Address netip.Addr
	// Peers are the other hosts' addresses in fc94::/16, at most MaxPeers, in any order. An address named
	// twice counts once.
	Peers []netip.Addr
	// Relay names one static peer, the discovery relay of this host's daemon, in place of Peers, which are then left
	// out: the relay makes nodes here and on all whitelisted hosts known to each other, also those that come later.
	Relay bool
	// SharedMemory lets Fast DDS programs on this host use shared memory among themselves. Off, they use this
	// host's overlay address, which is slower for large samples and always works. Fast DDS tells hosts apart by a
	// 16-bit hash of their IPv4 addresses alone, so with shared memory two hosts behind two NATs with the same
	// private address, or with none, take each other for one host and exchange nothing.
	SharedMemory bool
}

// hosts checks p and returns all addresses that discovery must ask at: this host first, for programs on it find each
// other the same way, then the peers in order.
func (p Params) hosts() ([]netip.Addr, error) {
	if err := checkInterface(p.Interface); err != nil {
		return nil, err
	}
	if !p.Address.IsValid() {
		return nil, errors.New("DDS profile: this host has no overlay address yet; start hnetd first")
	}
	if err := checkAddress(p.Address); err != nil {
		return nil, fmt.Errorf("DDS profile: own address: %w", err)
	}
	if p.Relay {
		return []netip.Addr{p.Address}, nil
	}
	peers := slices.Clone(p.Peers)
	slices.SortFunc(peers, netip.Addr.Compare)
	peers = slices.Compact(peers)
	if len(peers) > MaxPeers {
		return nil, fmt.Errorf("DDS profile: %d peers are more than the %d a static profile can carry; remove some from the whitelist", len(peers), MaxPeers)
	}
	for _, a := range peers {
		if err := checkAddress(a); err != nil {
			return nil, fmt.Errorf("DDS profile: peer: %w", err)
		}
		if a == p.Address {
			return nil, fmt.Errorf("DDS profile: peer %s is this host's own address; remove it from the whitelist", a)
		}
	}
	return append([]netip.Addr{p.Address}, peers...), nil
}

func checkAddress(a netip.Addr) error {
	if !a.IsValid() || a.Zone() != "" || !identity.Prefix.Contains(a) {
		return fmt.Errorf("%s is not an overlay address (those are inside %s)", a, identity.Prefix)
	}
	return nil
}

// checkInterface refuses what the kernel does not take for a name, and what an XML file cannot carry.
func checkInterface(name string) error {
	bad := func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == ':' }
	if name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("DDS profile: %q is not the name of a network interface", name)
	}
	return nil
}

func render(t *template.Template, p Params) ([]byte, error) {
	hosts, err := p.hosts()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Interface":     p.Interface,
		"Own":           hosts[0],
		"Peers":         hosts[1:],
		"MessageSize":   messageSize,
		"FragmentSize":  fragmentSize,
		"MaxDatagram":   MaxDatagram,
		"Participants":  Participants,
		"ReceiveBuffer": receiveBuffer,
		"SharedMemory":  p.SharedMemory,
		"Relay":         p.Relay,
		"RelayPort":     RelayPort,
		"RelayAnnounce": relayAnnounce,
	})
	if err != nil {
		return nil, fmt.Errorf("DDS profile: %w", err)
	}
	return out.Bytes(), nil
}

func parse(name, text string) *template.Template {
	return template.Must(template.New(name).Funcs(template.FuncMap{"xml": escape}).Parse(text))
}

func escape(v any) (string, error) {
	var out strings.Builder
	err := xml.EscapeText(&out, []byte(fmt.Sprint(v)))
	return out.String(), err
}
