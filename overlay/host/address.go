package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// addressFlags: no duplicate address detection (the address is free by construction and usable at once), and no route
// of the kernel's own making beside ours.
const addressFlags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE

// setAddress gives the link the address as a /128, for good. One that is there already is not taken away, not even to
// correct its flags, lest sockets bound to it suffer.
func setAddress(link netlink.Link, address netip.Addr) error {
	present, err := addresses(link)
	if err != nil {
		return err
	}
	for _, a := range present {
		bits, _ := a.Mask.Size()
		switch {
		case !sameAddr(a.IP, address):
		case bits != address.BitLen():
			// The length alone cannot be changed in place; it was not set by us.
			if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return explainRights(fmt.Sprintf("remove %v from %s", a.IPNet, link.Attrs().Name), err)
			}
		case a.Flags&(addressFlags|unix.IFA_F_PERMANENT|unix.IFA_F_DEPRECATED) == addressFlags|unix.IFA_F_PERMANENT:
			return nil
		}
	}
	wanted := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(address, address.BitLen())), Flags: addressFlags}
	if err := netlink.AddrReplace(link, wanted); err != nil {
		return explainRights(fmt.Sprintf("give %s the address %v", link.Attrs().Name, address), err)
	}
	return nil
}

// removeOldAddresses removes what an earlier identity left, and the link-local address that the kernel makes if the MTU
// was below MinMTU for a while. All other addresses are the administrator's.
func removeOldAddresses(link netlink.Link, keep netip.Addr) error {
	present, err := addresses(link)
	if err != nil {
		return err
	}
	for _, a := range present {
		ip, _ := netip.AddrFromSlice(a.IP)
		if ip == keep || !identity.Prefix.Contains(ip) && !ip.IsLinkLocalUnicast() {
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return explainRights(fmt.Sprintf("remove %v from %s", a.IPNet, link.Attrs().Name), err)
		}
	}
	return nil
}

// awaitAddress waits until packets to the address are taken in: the kernel puts the local route in place some time after it
// accepted the address, even without duplicate address detection.
func (h *host) awaitAddress(spec DeviceSpec) {
	for range 2000 {
		routes, err := netlink.RouteGet(spec.Address.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return
		}
		time.Sleep(time.Millisecond)
	}
	h.log.Warn("packets to this host's own overlay address are not taken in", "interface", spec.Name, "address", spec.Address,
		"fix", "look for a rule that comes before the local table with `ip -6 rule`")
}

func addresses(link netlink.Link) ([]netlink.Addr, error) {
	all, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V6) })
	if err != nil {
		return nil, explainRights("list the addresses of "+link.Attrs().Name, err)
	}
	return all, nil
}

func sameAddr(ip net.IP, a netip.Addr) bool {
	b, ok := netip.AddrFromSlice(ip)
	return ok && a == b
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
