package internet

import (
	"fmt"
	"strings"
)

// Ruleset writes the nftables script of a router's kernel NAT or firewall, for [lab.Router.Rules].
type Ruleset struct {
	Outer  string // device
	Inside string // IPv4 prefix; packets between two of its addresses are not forwarded. Empty: none is looked at

	Masquerade bool
	Random     bool   // every connection gets a random port of its own: address- and port-dependent mapping
	Ports      string // "FIRST-LAST": other external ports than the internal ones; empty: preserved

	// DropInput drops what comes from outside unasked. Without it, the router answers it itself, and remembers it: an inside packet to where
	// it came from, and from the port it went to, then gets another external port (the conntrack clash).
	DropInput bool
	DropUDP   bool // forwards no UDP at all
	HTTPSOnly bool // forwards TCP to port 443 and DNS, nothing else
	None      bool // forwards nothing
	IPv6Drop  bool // drops IPv6 connections from outside
	IPv4Drop  bool // the same for IPv4 (routed; a masquerade does it by itself)
	UPnP      bool // has the chains that miniupnpd fills
}

// String returns the script.
func (r Ruleset) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("table inet filter {")
	line("chain input { type filter hook input priority filter; policy accept;")
	if r.DropInput {
		line("iifname %q ct state established,related accept", r.Outer)
		line("iifname %q meta l4proto { tcp, udp } drop", r.Outer)
	}
	line("}")
	line("chain forward { type filter hook forward priority filter; policy accept;")
	if r.Inside != "" {
		line("ip saddr %s ip daddr %s drop", r.Inside, r.Inside)
	}
	switch {
	case r.None:
		line("drop")
	case r.HTTPSOnly:
		line("ct state established,related accept")
		line("tcp dport { 443, 53 } iifname != %q accept", r.Outer)
		line("udp dport 53 iifname != %q accept", r.Outer)
		line("drop")
	}
	if r.DropUDP {
		line("meta l4proto udp drop")
	}
	if r.IPv6Drop {
		line("meta nfproto ipv6 iifname %q meta l4proto { tcp, udp } ct state new,invalid drop", r.Outer)
	}
	if r.IPv4Drop {
		line("meta nfproto ipv4 iifname %q meta l4proto { tcp, udp } ct state new,invalid drop", r.Outer)
	}
	line("}\n}")
	if r.Masquerade {
		flags := ""
		if r.Random {
			flags = " random,fully-random"
		}
		line("table ip nat {\nchain postrouting { type nat hook postrouting priority srcnat; policy accept;")
		if r.Ports != "" {
			line("oifname %q meta l4proto { tcp, udp } masquerade to :%s%s", r.Outer, r.Ports, flags)
		}
		line("oifname %q masquerade%s", r.Outer, flags)
		line("}\n}")
	}
	if r.UPnP {
		line(`table inet miniupnpd {
chain forward { type filter hook forward priority -25; policy accept; jump miniupnpd; }
chain miniupnpd { }
chain prerouting { type nat hook prerouting priority dstnat; policy accept; jump prerouting_miniupnpd; }
chain prerouting_miniupnpd { }
chain postrouting { type nat hook postrouting priority 90; policy accept; jump postrouting_miniupnpd; }
chain postrouting_miniupnpd { }
}`)
	}
	return b.String()
}
