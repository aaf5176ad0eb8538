package integrity

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unsegmented takes the segmentation offload from the underlay, as a plain network card has none: each datagram crosses alone. joined says whether the
// receiver joins what it can (GRO).
func (w *world) unsegmented(joined bool) *world {
	w.t.Helper()
	for _, e := range []end{w.a, w.b} {
		link, err := e.Netlink().LinkByName("lan0")
		if err == nil {
			// The kernel cuts what has more segments than a device takes before it gets there.
			err = e.Netlink().LinkSetGSOMaxSegs(link, 1)
		}
		if err == nil {
			err = e.Do(func() error { return setGRO("lan0", joined) })
		}
		if err != nil {
			w.t.Fatalf("offloads of %s: %v", e.Name(), err)
		}
	}
	return w
}

func setGRO(dev string, on bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ command, data uint32 }{unix.ETHTOOL_SGRO, 0}
	if on {
		value.data = 1
	}
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], dev)
	request.data = unsafe.Pointer(&value)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("cannot switch GRO of %s: %w", dev, errno)
	}
	return nil
}
