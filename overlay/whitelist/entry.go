// Package whitelist says which peers may talk to this node. Who is not listed may not, unless the list is switched off.
package whitelist

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/hnet-robotics/hnet_bridge/overlay/hostnames"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// Source is who put an entry on the list.
type Source string

// The sources. Entries of SourceConfig come from the configuration file and are changed there only.
const (
	SourceLocal     Source = "local"
	SourceConfig    Source = "config"
	SourceDashboard Source = "dashboard"
)

// Entry is one peer that may talk to this node. Its JSON has no PSK.
type Entry struct {
	Address    netip.Addr          `json:"address"`
	Hostname   string              `json:"hostname,omitempty"`   // "" = none
	Key        identity.PublicKey  `json:"key,omitzero"`         // zero until learned; hashes to Address
	SigningKey identity.SigningKey `json:"signing_key,omitzero"` // zero until learned; its Montgomery form is Key
	Endpoint   string              `json:"endpoint,omitempty"`   // where to look first, "host:port"; "" = not known
	PSK        *[32]byte           `json:"-"`                    // WireGuard's pre-shared key; nil = none
	Relay      bool                `json:"relay,omitempty"`      // the peer may relay for this node
	Source     Source              `json:"source"`
}

// String leaves the PSK out.
func (e Entry) String() string {
	return fmt.Sprintf("%v %s", e.Address, e.Hostname)
}

// normalize checks an entry by itself and fills in what follows from the rest: the source, the key from the signing
// key, the address from the key.
func (e Entry) normalize() (Entry, error) {
	switch e.Source {
	case "":
		e.Source = SourceLocal
	case SourceLocal: // what was read from a file is the same text again for each entry, and would be kept
		e.Source = SourceLocal
	case SourceConfig:
		e.Source = SourceConfig
	case SourceDashboard:
		e.Source = SourceDashboard
	default:
		return Entry{}, fmt.Errorf("whitelist entry of the unknown source %q", string(e.Source))
	}
	if !e.SigningKey.IsZero() {
		key, err := e.SigningKey.WireGuard()
		if err != nil {
			return Entry{}, err
		}
		if !e.Key.IsZero() && e.Key != key {
			return Entry{}, fmt.Errorf("%w: the signing key %v belongs to the key %v, not to %v", ErrKey, e.SigningKey, key, e.Key)
		}
		e.Key = key
	}
	if !e.Key.IsZero() {
		if err := e.Key.Check(); err != nil {
			return Entry{}, err
		}
		if !e.Address.IsValid() {
			e.Address = e.Key.Address()
		}
	}
	if err := identity.CheckAddress(e.Address); err != nil {
		return Entry{}, err
	}
	if !e.Key.IsZero() && e.Key.Address() != e.Address {
		return Entry{}, fmt.Errorf("%w: the address of %v is %v, not %v", ErrKey, e.Key, e.Key.Address(), e.Address)
	}
	var err error
	if e.Hostname != "" {
		if e.Hostname, err = hostnames.Normalize(e.Hostname); err != nil {
			return Entry{}, err
		}
	}
	if err := checkEndpoint(e.Endpoint); err != nil {
		return Entry{}, err
	}
	if e.PSK != nil {
		psk := *e.PSK // the caller's array may change
		e.PSK = &psk
	}
	return e, nil
}

// checkEndpoint accepts "" and what may be dialled once its name is resolved.
func checkEndpoint(s string) error {
	if s == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("endpoint %q is not HOST:PORT (IPv6 as [ADDRESS]:PORT)", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("endpoint %q: the port is a number from 1 to 65535", s)
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		if _, err := hostnames.Normalize(host); err != nil {
			return fmt.Errorf("endpoint %q: %w", s, err)
		}
		return nil
	}
	switch bare := a.WithZone("").Unmap(); {
	case identity.Prefix.Contains(bare):
		return fmt.Errorf("endpoint %q is inside the overlay, which cannot carry itself: give the address the peer has outside it", s)
	case bare.IsUnspecified() || bare.IsMulticast():
		return fmt.Errorf("endpoint %q is not the address of one host", s)
	}
	return nil
}

// update returns e with the fields that given sets. A key can be added and never changed.
func (e Entry) update(given Entry) (Entry, error) {
	if !e.Key.IsZero() && !given.Key.IsZero() && e.Key != given.Key {
		return Entry{}, fmt.Errorf("%w: %v is pinned to the key %v; remove the entry first if the peer was set up anew", ErrKey, e.Address, e.Key)
	}
	if !e.SigningKey.IsZero() && !given.SigningKey.IsZero() && e.SigningKey != given.SigningKey {
		return Entry{}, fmt.Errorf("%w: %v is pinned to the signing key %v; remove the entry first if the peer was set up anew", ErrKey, e.Address, e.SigningKey)
	}
	e = e.fill(given)
	if given.Hostname != "" {
		e.Hostname = given.Hostname
	}
	if given.Endpoint != "" {
		e.Endpoint = given.Endpoint
	}
	if given.PSK != nil {
		e.PSK = given.PSK
	}
	e.Source = given.Source
	return e, nil
}

// fill returns e with the fields it lacks taken from other.
func (e Entry) fill(other Entry) Entry {
	if e.Hostname == "" {
		e.Hostname = other.Hostname
	}
	if e.Key.IsZero() {
		e.Key = other.Key
	}
	if e.SigningKey.IsZero() {
		e.SigningKey = other.SigningKey
	}
	if e.Endpoint == "" {
		e.Endpoint = other.Endpoint
	}
	if e.PSK == nil {
		e.PSK = other.PSK
	}
	e.Relay = e.Relay || other.Relay
	return e
}

// equal compares the content of the PSK, not where it is.
func (e Entry) equal(other Entry) bool {
	if (e.PSK == nil) != (other.PSK == nil) || e.PSK != nil && *e.PSK != *other.PSK {
		return false
	}
	e.PSK, other.PSK = nil, nil
	return e == other
}
