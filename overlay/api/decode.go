package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// Requests of the API that are not types of their own.
type (
	enableRequest struct {
		Enabled *bool `json:"enabled"`
	}
	waitRequest struct {
		Peer    string `json:"peer"`
		Timeout int64  `json:"timeout_ms"`
	}
)

// decode reads one JSON object strictly: fields that v does not have and anything after the object are refused.
func decode(r io.Reader, v any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return decodeError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("the request goes on after its JSON object", "send one object")
	}
	return nil
}

func decodeError(err error) error {
	var typ *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return badRequest("the request is empty", "send a JSON object")
	case errors.As(err, &typ) && typ.Field != "":
		return badRequest(fmt.Sprintf("%s cannot be a %s", typ.Field, typ.Value), "")
	}
	return badRequest("cannot read the request: "+strings.TrimPrefix(err.Error(), "json: "), "send a JSON object with the documented fields")
}

// check judges a request's form and fills the address in from the key.
func (a *WhitelistAdd) check() error {
	if a.Key != "" {
		key, err := identity.ParsePublicKey(a.Key)
		if err != nil {
			return badRequest(fmt.Sprintf("key: %v", err), "give the peer's WireGuard public key, as 'hnet id' prints it there")
		}
		if a.Address.IsValid() && a.Address != key.Address() {
			return badRequest(fmt.Sprintf("the key's address is %s, not %s", key.Address(), a.Address), "leave the address or the key away, or correct it")
		}
		a.Address = key.Address()
	}
	if !a.Address.IsValid() {
		return badRequest("neither address nor key is given", "give the peer's address, as 'hnet id' prints it there")
	}
	if err := config.CheckAddress(a.Address); err != nil {
		return badRequest(err.Error(), "give the peer's address, as 'hnet id' prints it there")
	}
	if a.Endpoint != "" {
		if err := config.CheckEndpoint(a.Endpoint); err != nil {
			return badRequest("endpoint: "+err.Error(), "")
		}
	}
	if len(a.Hostname) > maxName {
		return badRequest("hostname: longer than a name can be", "")
	}
	if len(a.PSK) != 0 && len(a.PSK) != 32 {
		return badRequest(fmt.Sprintf("psk: %d bytes, not 32", len(a.PSK)), "make one with 'wg genpsk'")
	}
	return nil
}

// maxName is the length of the longest DNS name.
const maxName = 253

func (h *HostAdd) check() error {
	if h.Name == "" || len(h.Name) > maxName {
		return badRequest("name: missing or longer than a name can be", "give a name such as robot2")
	}
	if !h.Address.IsValid() {
		return badRequest("address is missing", "give the address that the name stands for")
	}
	if err := config.CheckAddress(h.Address); err != nil {
		return badRequest(err.Error(), "names are for addresses of the overlay")
	}
	return nil
}

func (r *enableRequest) check() error {
	if r.Enabled == nil {
		return badRequest("enabled is missing", "give true or false")
	}
	return nil
}

func (r *waitRequest) check() error {
	if r.Peer == "" {
		return badRequest("peer is missing", "give an address or a hostname")
	}
	if r.Timeout <= 0 || r.Timeout > maxWait.Milliseconds() {
		return badRequest(fmt.Sprintf("timeout_ms: %d", r.Timeout), fmt.Sprintf("give 1..%d", maxWait.Milliseconds()))
	}
	return nil
}

func (r *waitRequest) timeout() time.Duration { return time.Duration(r.Timeout) * time.Millisecond }

// parsePeer reads a peer's address; a name is not one.
func parsePeer(s string) (a netip.Addr, isAddress bool, err error) {
	a, perr := netip.ParseAddr(s)
	if perr != nil {
		return a, false, nil
	}
	if err := config.CheckAddress(a); err != nil {
		return a, true, badRequest(err.Error(), "give a peer's address or hostname")
	}
	return a, true, nil
}
