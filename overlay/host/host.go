// Package host performs the acts on this machine that need privileges: making the TUN device, its address and its
// routes, writing names into the hosts file, growing socket buffers.
//
// Nothing else in the program touches them. The verbs are few and fixed, and each checks what it is asked, so that they
// can move into a small helper process while the process that parses the network keeps no capability.
//
// All functions work in the network namespace of the calling thread; a process is expected to live in one.
package host

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"github.com/hnet-robotics/hnet_bridge/overlay/hostnames"
)

// Alias is the link alias (IFLA_IFALIAS) that marks a device as made by this package. A device without it is never
// touched.
const Alias = "hnet"

// MinMTU and MaxMTU bound the MTU of the device and of a peer's route, in bytes. IPv6 does not work below MinMTU.
const (
	MinMTU = 1280
	MaxMTU = 65535
)

// Reasons why an act was refused, for errors.Is. The errors returned wrap them in one line that says what to do.
// Missing rights are recognised by errors.Is(err, os.ErrPermission).
var (
	ErrName       = errors.New("not a possible device name")
	ErrBusy       = errors.New("in use by another process")
	ErrNotOurs    = errors.New("not made by hnetd")
	ErrNoTUN      = errors.New("no usable /dev/net/tun")
	ErrNoIPv6     = errors.New("IPv6 is not available")
	ErrRouteTaken = errors.New("already routed elsewhere")
)

// DeviceSpec is the wanted state of the TUN device.
type DeviceSpec struct {
	Name    string     // 1 to 15 bytes
	Address netip.Addr // this node's own, inside identity.Prefix
	MTU     int        // MinMTU to MaxMTU, bytes
}

// Device tells how the wanted device came to be.
type Device struct {
	Index   int  // interface index
	USO     bool // the kernel hands over UDP superpackets, and accepts them
	Adopted bool // it was there already, left by an earlier process
}

// Host is the one door to privileged acts.
type Host interface {
	// OpenDevice makes the TUN device, or adopts the one an earlier process left, and brings it to the wanted state:
	// address, MTU, the route of identity.Prefix with mtu 1280, up. What is right already is not touched, so that
	// sockets bound to the address live on. The device survives the end of the process, by kill -9 too.
	//
	// The file is non-blocking, registered with the runtime's poller, and carries a struct virtio_net_hdr (10 bytes)
	// before each packet, with TSO and, as Device.USO says, USO. Closing it leaves the device in place.
	OpenDevice(spec DeviceSpec) (*os.File, Device, error)

	// RemoveDevice removes a device that OpenDevice made, whether or not a process has it open. It is no error if there
	// is none of that name.
	RemoveDevice(name string) error

	// SetPeerRoute sets the mtu (MinMTU up to the device's) of the /128 route to a peer on a device of ours; mtu 0
	// removes the route, which is no error if there is none.
	SetPeerRoute(name string, peer netip.Addr, mtu int) error

	// SetIPv4 brings the IPv4 address of a device of ours, and the routes to it, to the wanted state; what is right already is not touched. It is no
	// error to want none of a device that there is not.
	SetIPv4(name string, spec IPv4Spec) error

	// WriteHosts brings the marked block of a hosts file to the given names, leaving every other byte, the mode and the
	// owner as they are. It does not write when nothing changes. A crash at any moment leaves the old file or the new,
	// or, where the file cannot be replaced (a bind mount), a file that the next call repairs.
	WriteHosts(path string, names []hostnames.Name) error

	// GrowBuffers sees to it that a socket's receive and send buffers hold at least the given number of bytes, or as
	// many as the system allows.
	GrowBuffers(c syscall.Conn, bytes int) error
}

// New returns the Host that acts in this process.
func New(log *slog.Logger) Host {
	return &host{log: log}
}

type host struct {
	log *slog.Logger

	hosts        sync.Mutex // one writer of the hosts file at a time
	smallBuffers sync.Once  // the advice about socket buffers is given once
}
