package host

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

// txQueue is how many packets wait in the device for the daemon. The kernel's 500 are fewer than the 870 of a 1 MB sample in RTPS messages of 1,200 bytes,
// which are written at once: what came behind them, also the urgent, was dropped.
const txQueue = 2000

// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE: the kernel invents no link-local address.
const addrGenModeNone = 1

func (s DeviceSpec) check() error {
	if err := checkName(s.Name); err != nil {
		return err
	}
	if !identity.Prefix.Contains(s.Address) || s.Address.Zone() != "" {
		return fmt.Errorf("%v cannot be the address of %s: it is not inside %v", s.Address, s.Name, identity.Prefix)
	}
	if s.MTU < MinMTU || s.MTU > MaxMTU {
		return fmt.Errorf("%d cannot be the MTU of %s: choose %d to %d", s.MTU, s.Name, MinMTU, MaxMTU)
	}
	return nil
}

func (h *host) OpenDevice(spec DeviceSpec) (*os.File, Device, error) {
	if err := spec.check(); err != nil {
		return nil, Device{}, err
	}
	if err := checkIPv6(); err != nil {
		return nil, Device{}, err
	}
	old, err := linkOfOurs(spec.Name)
	if err != nil {
		return nil, Device{}, err
	}
	if err := h.checkRoutes(spec.Name); err != nil {
		return nil, Device{}, err
	}
	file, uso, err := attach(spec.Name, old == nil)
	if err != nil {
		return nil, Device{}, err
	}
	index, err := h.configure(file, spec, old)
	if err != nil {
		// A device made just now is not yet persistent and goes with its file.
		file.Close()
		return nil, Device{}, err
	}
	device := Device{Index: index, USO: uso, Adopted: old != nil}
	h.log.Info("device is up", "interface", spec.Name, "address", spec.Address, "mtu", spec.MTU, "adopted", device.Adopted, "uso", uso)
	return file, device, nil
}

// configure brings the device that file is attached to into the wanted state and returns its index. The file is open
// while this goes on, so nobody else can attach.
func (h *host) configure(file *os.File, spec DeviceSpec, old netlink.Link) (int, error) {
	link, err := netlink.LinkByName(spec.Name)
	if err != nil {
		return 0, explainRights("look up "+spec.Name, err)
	}
	if old != nil && old.Attrs().Index != link.Attrs().Index {
		return 0, fmt.Errorf("device %s was replaced while it was opened: start again", spec.Name)
	}
	if old == nil {
		if err := netlink.LinkSetAlias(link, Alias); err != nil {
			return 0, explainRights("mark "+spec.Name+" as made by hnetd", err)
		}
	}
	// First the MTU: a device below MinMTU has no IPv6 to configure.
	if link.Attrs().MTU != spec.MTU {
		if err := netlink.LinkSetMTU(link, spec.MTU); err != nil {
			return 0, explainRights(fmt.Sprintf("set the MTU of %s to %d", spec.Name, spec.MTU), err)
		}
	}
	if err := h.enableIPv6(spec.Name); err != nil {
		return 0, err
	}
	// A link-local address would do no harm, only show up where nobody expects it.
	if err := netlink.LinkSetIP6AddrGenMode(link, addrGenModeNone); err != nil {
		h.log.Debug("the kernel gives the device a link-local address", "interface", spec.Name, "err", err)
	}
	// A TCP socket with a small MSS would else hand over more segments in one superpacket than are taken apart.
	if link.Attrs().GSOMaxSegs != tun.MaxSegments {
		if err := netlink.LinkSetGSOMaxSegs(link, tun.MaxSegments); err != nil {
			h.log.Warn("superpackets of the device are not bounded: connections with a very small MSS may hang", "interface", spec.Name, "err", err,
				"fix", fmt.Sprintf("ip link set dev %s gso_max_segs %d", spec.Name, tun.MaxSegments))
		}
	}
	if link.Attrs().TxQLen != txQueue {
		if err := netlink.LinkSetTxQLen(link, txQueue); err != nil {
			h.log.Debug("a burst of datagrams may not fit the device's queue", "interface", spec.Name, "err", err)
		}
	}
	if err := setAddress(link, spec.Address); err != nil {
		return 0, err
	}
	if link.Attrs().RawFlags&unix.IFF_UP == 0 {
		if err := netlink.LinkSetUp(link); err != nil {
			return 0, explainRights("bring up "+spec.Name, err)
		}
	}
	// Before the routes: with an address of another length, the kernel removes a route that may be ours.
	if err := removeOldAddresses(link, spec.Address); err != nil {
		return 0, err
	}
	if err := setPrefixRoute(link); err != nil {
		return 0, err
	}
	h.awaitAddress(spec)
	if err := persist(file); err != nil {
		return 0, explainRights("make "+spec.Name+" outlive the process", err)
	}
	return link.Attrs().Index, nil
}

func (h *host) RemoveDevice(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	link, err := linkOfOurs(name)
	if err != nil || link == nil {
		return err
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return explainRights("remove "+name, err)
	}
	return nil
}

// linkOfOurs returns the device of that name, nil if there is none, and an error if it is not ours.
func linkOfOurs(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		return nil, nil
	}
	if err != nil {
		return nil, explainRights("look up "+name, err)
	}
	tuntap, ok := link.(*netlink.Tuntap)
	// The kernel finds a device by its alternative names too.
	if !ok || tuntap.Mode != netlink.TUNTAP_MODE_TUN || tuntap.Alias != Alias || tuntap.Name != name {
		return nil, fmt.Errorf("device %s exists and is %w (kind %s, alias %q): remove it with `ip link delete %s`, or set another `interface` in the configuration",
			name, ErrNotOurs, link.Type(), link.Attrs().Alias, name)
	}
	return link, nil
}

// dump repeats a netlink dump that a change interrupted; after a few times the answer is taken as it is.
func dump[T any](f func() ([]T, error)) ([]T, error) {
	for try := 0; ; try++ {
		all, err := f()
		switch {
		case !errors.Is(err, netlink.ErrDumpInterrupted):
			return all, err
		case try == 5:
			return all, nil
		}
	}
}
