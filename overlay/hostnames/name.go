// Package hostnames gives names to addresses of the overlay, and renders them into a hosts file without touching what
// others keep there.
package hostnames

import (
	"fmt"
	"net/netip"
	"strings"
)

// Name is one name of one address of the overlay.
type Name struct {
	Name    string     `json:"name"`    // as Normalize returns it
	Address netip.Addr `json:"address"` // inside identity.Prefix
	Source  string     `json:"source"`  // who set it: "local", "config", "dashboard"
}

const (
	maxLabel = 63
	maxName  = 253
)

// reserved names mean something on every host; to point them elsewhere breaks programs.
var reserved = map[string]bool{
	"localhost": true, "localhost.localdomain": true, "localhost4": true, "localhost6": true,
	"localhost4.localdomain4": true, "localhost6.localdomain6": true,
	"ip6-localhost": true, "ip6-loopback": true, "ip6-localnet": true, "ip6-mcastprefix": true,
	"ip6-allnodes": true, "ip6-allrouters": true, "ip6-allhosts": true,
	"broadcasthost": true, "local": true, "localdomain": true,
}

// Normalize returns name in lower case, or an error that says why it is no host name: labels of 1 to 63 letters, digits
// and inner hyphens, joined by dots, at most 253 characters (RFC 1123, 2.1), not what programs take for an IPv4
// address, and not a name that has its own meaning on every host.
func Normalize(name string) (string, error) {
	refuse := func(why string) (string, error) {
		return "", fmt.Errorf("%q is no host name: %s", clip(name), why)
	}
	if name == "" {
		return refuse("it is empty")
	}
	if len(name) > maxName {
		return refuse(fmt.Sprintf("it has %d characters, %d at most", len(name), maxName))
	}
	// Before lowering the case, which makes ASCII of some letters that are none.
	for label := range strings.SplitSeq(name, ".") {
		if why := checkLabel(label); why != "" {
			return refuse(why)
		}
	}
	lower := strings.ToLower(name)
	last := lower[strings.LastIndexByte(lower, '.')+1:]
	// inet_aton reads 10.1, 4711 and 0x7f.1 as addresses, and so do programs that call it before they look up a name.
	if numeric(last) {
		return refuse("programs take it for an IPv4 address; end it in a letter")
	}
	if reserved[lower] || last == "localhost" {
		return refuse("it has its own meaning on every host; choose another")
	}
	return lower, nil
}

func checkLabel(label string) string {
	switch {
	case label == "":
		return "two dots, or one at an end, leave a part empty"
	case len(label) > maxLabel:
		return fmt.Sprintf("a part of it has %d characters, %d at most", len(label), maxLabel)
	case label[0] == '-' || label[len(label)-1] == '-':
		return "no part may begin or end with a hyphen"
	}
	for i := range len(label) {
		switch c := label[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
		case c == '_':
			return "use a hyphen instead of an underscore"
		default:
			return "only letters, digits, hyphens and dots may be in it"
		}
	}
	return ""
}

// numeric tells whether the last label of a name makes all of it look like an IPv4 address.
func numeric(label string) bool {
	digits, set := label, "0123456789"
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		digits, set = hex, "0123456789abcdef"
	}
	return strings.Trim(digits, set) == ""
}

// clip keeps error messages on one line of bearable length.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
