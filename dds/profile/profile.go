// Package profile writes what makes DDS and zenoh programs talk over the overlay: XML profiles for Cyclone DDS 0.10 and
// 11 and for Fast DDS 2 and 3, JSON5 configurations for rmw_zenoh, and the environment that puts them in force. A profile
// names one static peer, the daemon of this host, and keeps datagrams within one overlay packet. Programs read it once,
// when they start.
package profile

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

const (
	// MaxPeers is the most peers a profile without the relay can carry. Every DDS program asks at Participants ports of
	// each of them.
	MaxPeers = 64

	// MaxRouters is the most routers of other hosts that a zenoh configuration names.
	MaxRouters = 1024

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

	// RouterPort is the TCP port where zenoh routers listen.
	RouterPort = 7447
)

// Mode says which networks DDS programs use.
type Mode string

// The modes.
const (
	Overlay Mode = "overlay" // the overlay alone, programs on the same host included
	Both    Mode = "both"    // the overlay beside the LAN, where the library can
)

// Params is what a profile is made from.
type Params struct {
	// Interface is the overlay's network interface, as in `ip link`, at most 15 characters.
	Interface string
	// Address is this host's own address in fc94::/16.
	Address netip.Addr
	// IPv4 is this host's IPv4 address on the overlay's interface, which no other host has; the zero Addr if there is
	// none. With it Cyclone can use the LAN beside the overlay, and Fast DDS can tell hosts apart.
	IPv4 netip.Addr
	// Mode is Overlay if empty.
	Mode Mode
	// LAN are the interfaces that Cyclone uses beside the overlay's in mode Both, at most MaxLAN.
	LAN []string
	// Peers are the other hosts' addresses in fc94::/16, at most MaxPeers for DDS and MaxRouters for zenoh, in any order.
	// An address named twice counts once.
	Peers []netip.Addr
	// Relay names one static peer, the discovery relay of this host's daemon, in place of Peers, which are then left
	// out: the relay makes nodes here and on all whitelisted hosts known to each other, also those that come later.
	Relay bool
	// SharedMemory lets Fast DDS programs on this host use shared memory among themselves. Off, they use this
	// host's overlay address, which is slower for large samples and always works. Fast DDS tells hosts apart by a
	// 16-bit hash of their IPv4 addresses alone, so with shared memory two hosts behind two NATs with the same
	// private address, or with none, take each other for one host and exchange nothing. With IPv4 it is on by itself.
	SharedMemory bool
	// Limits are the kernel's; sizes stay within those that are known.
	Limits Limits
}

// MaxLAN is how many interfaces Cyclone takes beside the overlay's.
const MaxLAN = 3

// lanBeside tells whether Cyclone can use the LAN too: it speaks one address family at a time, and LANs speak IPv4.
func (p Params) lanBeside() bool { return p.Mode == Both && p.IPv4.IsValid() }

// check refuses what no profile can be made from.
func (p Params) check() error {
	if err := checkInterface(p.Interface); err != nil {
		return err
	}
	if !p.Address.IsValid() {
		return errors.New("DDS profile: this host has no overlay address yet; start hnetd first")
	}
	if err := checkAddress(p.Address); err != nil {
		return fmt.Errorf("DDS profile: own address: %w", err)
	}
	if p.IPv4.IsValid() && !p.IPv4.Is4() {
		return fmt.Errorf("DDS profile: %s is not an IPv4 address", p.IPv4)
	}
	if p.Mode != "" && p.Mode != Both && p.Mode != Overlay {
		return fmt.Errorf("DDS profile: mode %q is neither %s nor %s", p.Mode, Both, Overlay)
	}
	for _, name := range p.LAN {
		if err := checkInterface(name); err != nil {
			return err
		}
	}
	if len(p.LAN) > MaxLAN {
		return fmt.Errorf("DDS profile: %d interfaces are more than the %d that Cyclone DDS takes beside the overlay's", len(p.LAN), MaxLAN)
	}
	return nil
}

// peers returns the other hosts' addresses in order, each once.
func (p Params) peers(most int) ([]netip.Addr, error) {
	peers := slices.Clone(p.Peers)
	slices.SortFunc(peers, netip.Addr.Compare)
	peers = slices.Compact(peers)
	if len(peers) > most {
		return nil, fmt.Errorf("DDS profile: %d peers are more than the %d a static profile can carry; remove some from the whitelist", len(peers), most)
	}
	for _, a := range peers {
		if err := checkAddress(a); err != nil {
			return nil, fmt.Errorf("DDS profile: peer: %w", err)
		}
		if a == p.Address {
			return nil, fmt.Errorf("DDS profile: peer %s is this host's own address; remove it from the whitelist", a)
		}
	}
	return peers, nil
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

// render makes a profile of DDS. write gets the peers in order, none with the relay.
func render(p Params, write func(*page, []netip.Addr)) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	var peers []netip.Addr
	if !p.Relay {
		var err error
		if peers, err = p.peers(MaxPeers); err != nil {
			return nil, err
		}
	}
	var w page
	write(&w, peers)
	return w.Bytes(), nil
}

// page is a file that is written from top to bottom.
type page struct{ bytes.Buffer }

// lines adds whole lines. Their text begins on the line below the quote; values take the place of its verbs.
func (w *page) lines(text string, values ...any) {
	fmt.Fprintf(w, strings.TrimPrefix(text, "\n")+"\n", values...)
}

// escape writes a value for the text or an attribute of XML.
func escape(v any) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(fmt.Sprint(v))) // a Builder takes everything
	return out.String()
}
