package engine

import (
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/path"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// Carrier is a way to bring sealed trains to a remote: our UDP sockets, a Base, a peer that relays. Carriers are compared by ==.
type Carrier interface {
	// Headroom is how many bytes the carrier writes in front of each datagram; trains are sealed with that much room.
	Headroom() int
	// Refuse reports whether the carrier does not take bytes more now, and when to ask again. What is refused waits in the peer's lanes, unsealed,
	// so that the most urgent goes first when there is room.
	Refuse(now time.Time, bytes int) (until time.Time, refused bool)
	// Send sends trains; their Remote and Local say where. n trains were sent when err is not nil.
	Send(trains []underlay.Message) (n int, err error)
}

// Relay is the Carrier of one peer's datagrams by way of a Base or of a peer that relays.
type Relay interface {
	Carrier
	// Endpoint is where the relay is.
	Endpoint() netip.AddrPort
	// TCP says that our leg of it runs over TCP.
	TCP() bool
}

// Path is one way to reach a peer. The zero Path is none.
type Path struct {
	Carrier Carrier
	Kind    path.Kind
	Remote  netip.AddrPort
	// Local is the address and interface that the peer's datagrams arrive on; answers leave from there, so that a host with several addresses answers from
	// the one that was asked.
	Local underlay.Source
	// MTU is the largest IP packet that the underlay carries on this path, 0 if unknown.
	MTU int

	ttl byte // of a datagram that shall die on its way, 0 = the system's
	df  bool // of a datagram that must not be fragmented

	pacing *pacing // of one of our own's; nil until data came by it
}

func (p Path) valid() bool { return p.Carrier != nil }

// Header sizes of the underlay.
const (
	ipv4UDPHeaders = 20 + 8
	ipv6UDPHeaders = 40 + 8
)

// plaintextLimit is the largest plaintext, in bytes, that one datagram on this path carries; 0 if unknown.
func (p Path) plaintextLimit() int {
	if p.MTU == 0 {
		return 0
	}
	headers := ipv6UDPHeaders
	if p.Remote.Addr().Is4() {
		headers = ipv4UDPHeaders
	}
	return max(minPlaintext, p.MTU-headers-wireguard.TransportOverhead-p.Carrier.Headroom())
}

// wholeLimit is plaintextLimit of a path that exists.
func (p Path) wholeLimit() int {
	if !p.valid() {
		return 0
	}
	return p.plaintextLimit()
}

// minPlaintext keeps fragments sensible on a nonsensical MTU: IPv4's least MTU is 576.
const minPlaintext = 576 - ipv4UDPHeaders - wireguard.TransportOverhead

// usable reports whether remote may be an underlay endpoint at all: never inside the overlay.
func usable(remote netip.AddrPort) bool {
	a := remote.Addr()
	return remote.Port() != 0 && a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !identity.Prefix.Contains(a.WithZone(""))
}

// key names the path to the machine that chooses.
func (p Path) key() path.Key { return path.Key{Carrier: p.Carrier, Remote: p.Remote} }

// relayed reports whether the path runs by way of a relay.
func (p Path) relayed() bool { return p.Kind >= path.RelayUDP }

// direct is the Carrier of our own UDP socket. With an uplink it sends by that interface or not at all, else as the kernel's routing says.
type direct struct {
	socket underlay.Socket
	uplink uint32
}

func (d direct) Headroom() int                           { return 0 }
func (d direct) Refuse(time.Time, int) (time.Time, bool) { return time.Time{}, false }

func (d direct) Send(trains []underlay.Message) (int, error) {
	if d.uplink != 0 {
		for i := range trains {
			m := &trains[i]
			if m.Local.Interface != d.uplink {
				m.Local = underlay.Source{Interface: d.uplink}
			}
			m.Bound = true
		}
	}
	return d.socket.WriteBatch(trains)
}
