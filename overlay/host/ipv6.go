package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// checkIPv6 tells whether the kernel speaks IPv6 at all.
func checkIPv6() error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("%w on this system: start the kernel without ipv6.disable=1, or run `modprobe ipv6`", ErrNoIPv6)
	}
	if err != nil {
		return fmt.Errorf("cannot open an IPv6 socket: %w", err)
	}
	return unix.Close(fd)
}

// enableIPv6 lifts disable_ipv6 on the one device that is ours; a host on which IPv6 is off by default keeps it so.
func (h *host) enableIPv6(name string) error {
	disabled, err := ipv6Disabled(name)
	if err != nil {
		return fmt.Errorf("%w on %s (%w): mount /proc, or start the kernel without ipv6.disable=1", ErrNoIPv6, name, err)
	}
	if disabled {
		if err := os.WriteFile(disableIPv6Path(name), []byte("0\n"), 0); err != nil {
			return fmt.Errorf("%w on %s and cannot be enabled (%w): run `sysctl net.ipv6.conf.default.disable_ipv6=0` as root, or start the container with --sysctl net.ipv6.conf.all.disable_ipv6=0 --sysctl net.ipv6.conf.default.disable_ipv6=0",
				ErrNoIPv6, name, err)
		}
	}
	// Packets from this host to its own address go through lo.
	if disabled, err := ipv6Disabled("lo"); err == nil && disabled {
		h.log.Warn("IPv6 is disabled on lo: programs on this host cannot reach this host's own overlay address",
			"fix", "sysctl net.ipv6.conf.lo.disable_ipv6=0")
	}
	return nil
}

func ipv6Disabled(name string) (bool, error) {
	b, err := os.ReadFile(disableIPv6Path(name))
	return string(bytes.TrimSpace(b)) == "1", err
}

func disableIPv6Path(name string) string {
	return "/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6"
}
