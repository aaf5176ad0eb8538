package host

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	clonePath = "/dev/net/tun"

	// virtioHeaderLen is the size of struct virtio_net_hdr without the number of merged buffers.
	virtioHeaderLen = 10

	offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// checkName refuses what the kernel would refuse or take for a pattern ("hnet%d").
func checkName(name string) error {
	switch {
	case name == "", len(name) >= unix.IFNAMSIZ, name == ".", name == "..",
		strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/:%", r) }):
		return fmt.Errorf("interface %q is %w: choose 1 to 15 letters, digits, '-' or '_', for example hnet0", name, ErrName)
	}
	return nil
}

// attach opens the TUN device of that name, which must not exist if create is set, and reports whether the kernel
// accepted UDP segmentation offload.
//
// The kernel is asked directly, not by the wireguard tun package: its CreateTUN cannot demand that the device be new (IFF_TUN_EXCL), and all its
// constructors make 1.9 MB of tables for a Read and Write that are not used here, most of what the daemon allocated at start.
func attach(name string, create bool) (file *os.File, uso bool, err error) {
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, explainOpen(err)
	}
	if err := prepare(fd, name, create); err != nil {
		unix.Close(fd)
		return nil, false, explainAttach(name, err)
	}
	// Linux 6.2 and newer know USO.
	const withoutUSO = offloads &^ (unix.TUN_F_USO4 | unix.TUN_F_USO6)
	if uso = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads) == nil; !uso {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, withoutUSO); err != nil {
			unix.Close(fd)
			return nil, false, fmt.Errorf("%w: the kernel refuses segmentation offload on %s (%w): Linux 5.10 or newer is needed", ErrNoTUN, name, err)
		}
	}
	// The runtime's poller takes files that do not block.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, false, fmt.Errorf("device %s cannot be polled: %w", name, err)
	}
	return os.NewFile(uintptr(fd), clonePath), uso, nil
}

// prepare makes an open descriptor the device's queue.
func prepare(fd int, name string, create bool) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if create {
		flags |= unix.IFF_TUN_EXCL
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, virtioHeaderLen); err != nil {
		return err
	}
	// Without an owner, any user who may open /dev/net/tun (on most systems all of them) could attach to the device
	// while no daemon runs, and speak in every peer's name.
	return unix.IoctlSetInt(fd, unix.TUNSETOWNER, os.Geteuid())
}

// persist lets the device outlive the process.
func persist(file *os.File) error {
	return control(file, func(fd int) error { return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1) })
}

func control(file *os.File, f func(fd int) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

func explainOpen(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w (%w): run `modprobe tun`, or start the container with --device /dev/net/tun", ErrNoTUN, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w (%w): run as root, or start the container with --device /dev/net/tun --cap-add NET_ADMIN", ErrNoTUN, err)
	default:
		return fmt.Errorf("%w (%w)", ErrNoTUN, err)
	}
}

func explainAttach(name string, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("device %s is %w: stop the other hnetd, or set another `interface` in the configuration", name, ErrBusy)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("device %s is %w, or made with other settings: remove it with `ip link delete %s`", name, ErrNotOurs, name)
	default:
		return explainRights("open the TUN device "+name, err)
	}
}

// explainRights adds to an error what to do if rights were missing.
func explainRights(what string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("cannot %s (%w): run as root or give the program CAP_NET_ADMIN", what, err)
	}
	return fmt.Errorf("cannot %s: %w", what, err)
}
