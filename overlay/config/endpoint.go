package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// CheckEndpoint tells what is wrong with an underlay endpoint HOST:PORT: the host is an IP address outside
// fc94::/16 or a DNS name, the port 1..65535.
func CheckEndpoint(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("expected HOST:PORT such as 203.0.113.5:51820 or [2001:db8::5]:51820, found %q", s)
	}
	if err := CheckHost(host); err != nil {
		return err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("expected a port 1..65535 after the last colon, found %q", port)
	}
	return nil
}

// CheckHost tells what is wrong with an underlay host: an IP address outside fc94::/16 or a DNS name.
func CheckHost(host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		switch {
		case identity.Prefix.Contains(a.WithZone("")):
			return fmt.Errorf("%s is an address inside the overlay: expected how the host is reached without it", host)
		case a.IsUnspecified(), a.IsMulticast():
			return fmt.Errorf("%s is no host's address", host)
		}
		return nil
	}
	if len(host) == 0 || len(host) > 253 {
		return fmt.Errorf("expected an IP address or a DNS name, found %q", host)
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if !dnsLabel(label) {
			return fmt.Errorf("expected an IP address or a DNS name, found %q", host)
		}
	}
	name := strings.TrimSuffix(host, ".")
	if strings.Trim(name[strings.LastIndexByte(name, '.')+1:], "0123456789") == "" {
		return fmt.Errorf("expected an IP address or a DNS name, found %q", host) // 192.168.1 is a mistyped address
	}
	return nil
}

func dnsLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// CheckAddress tells what is wrong with an overlay address.
func CheckAddress(a netip.Addr) error {
	if !identity.Prefix.Contains(a) {
		return fmt.Errorf("%s is outside of %s, where every address of the overlay lies", a, identity.Prefix)
	}
	return nil
}
