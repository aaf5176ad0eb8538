package ros

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
)

// environment is what the environment variables of ROS say.
type environment struct {
	domain      int
	reach       reach
	staticPeers []string
	notes       []string // for the log
}

// reach is ROS_AUTOMATIC_DISCOVERY_RANGE.
type reach uint8

const (
	reachSubnet reach = iota
	reachLocalhost
	reachOff
)

// maxStaticPeers bounds ROS_STATIC_PEERS.
const maxStaticPeers = 256

func parseEnvironment(getenv func(string) string) (environment, error) {
	var e environment
	if s := getenv("ROS_DOMAIN_ID"); s != "" {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 0 || n > 232 {
			return e, fmt.Errorf("ROS_DOMAIN_ID is %q: it has to be a number from 0 to 232", s)
		}
		e.domain = n
	}
	if getenv("ROS_SECURITY_ENABLE") == "true" {
		if getenv("ROS_SECURITY_STRATEGY") == "Enforce" {
			return e, errors.New("ROS_SECURITY_STRATEGY is Enforce, and this node has no DDS-Security: unset ROS_SECURITY_ENABLE for it, or leave it out")
		}
		e.notes = append(e.notes, "ROS_SECURITY_ENABLE is true, and this node has no DDS-Security: it talks in the clear")
	}
	switch s := getenv("ROS_AUTOMATIC_DISCOVERY_RANGE"); strings.ToUpper(s) {
	case "", "SUBNET", "SYSTEM_DEFAULT":
	case "LOCALHOST":
		e.reach = reachLocalhost
	case "OFF":
		e.reach = reachOff
	default:
		e.notes = append(e.notes, fmt.Sprintf("ROS_AUTOMATIC_DISCOVERY_RANGE is %q and not one of SUBNET, LOCALHOST, OFF, SYSTEM_DEFAULT: SUBNET is assumed", s))
	}
	for peer := range strings.SplitSeq(getenv("ROS_STATIC_PEERS"), ";") {
		if peer = strings.TrimSpace(peer); peer == "" {
			continue
		}
		if len(e.staticPeers) == maxStaticPeers {
			return e, fmt.Errorf("ROS_STATIC_PEERS names more than %d peers", maxStaticPeers)
		}
		e.staticPeers = append(e.staticPeers, peer)
	}
	switch s := getenv("ROS_LOCALHOST_ONLY"); s {
	case "", "0":
	case "1": // goes before the two above, as in rcl
		e.reach, e.staticPeers = reachLocalhost, nil
	default:
		e.notes = append(e.notes, fmt.Sprintf("ROS_LOCALHOST_ONLY is %q and neither 0 nor 1: it is ignored", s))
	}
	if e.reach == reachOff {
		e.staticPeers = nil
	}
	return e, nil
}

// apply fills in the part of c that says whom to discover. peers are the static peers' addresses.
func (e *environment) apply(c *rtps.Config, peers []netip.Addr) {
	c.Domain, c.StaticPeers = e.domain, peers
	switch e.reach {
	case reachSubnet:
		c.Multicast = true
	case reachOff:
		c.Interfaces = rtps.Off
	case reachLocalhost:
		if len(peers) == 0 {
			c.Interfaces, c.Multicast = rtps.LocalhostOnly, true
			return
		}
		// Peers elsewhere are not reached from 127.0.0.1; this host is looked through like one of them.
		c.StaticPeers = append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, peers...)
	}
}

// resolveTimeout bounds the look-up of all static peers.
const resolveTimeout = 3 * time.Second

type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// resolve finds the addresses of static peers; the error names those without, and the others' addresses come with it.
func resolve(ctx context.Context, peers []string, r resolver) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	var out []netip.Addr
	var errs []error
	for _, p := range peers {
		if a, err := netip.ParseAddr(p); err == nil {
			out = append(out, a)
			continue
		}
		list, err := r.LookupNetIP(ctx, "ip", p)
		if err != nil {
			errs = append(errs, fmt.Errorf("static peer %s: %w", p, err))
		}
		for _, a := range list {
			out = append(out, a.Unmap())
		}
	}
	return out, errors.Join(errs...)
}

var _ resolver = (*net.Resolver)(nil)
