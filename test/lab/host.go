package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is a machine of the lab.
type Host struct {
	lab    *Lab
	name   string
	dir    string // holds the private folders
	router bool
	*space

	mu     sync.Mutex
	nextIf int
	routes []route
}

// private are a host's own folders: where they are on the host, and under what name in Host.dir. What the
// machine has in the first two is reached through symbolic links.
var private = []struct {
	path, name string
	linked     bool
}{
	{"/etc", "etc", true},
	{"/var/lib", "lib", true},
	{"/dev/shm", "shm", false},
	{"/run", "run", false}, // last: it covers the lab's tmpfs
}

const hostsFile = `127.0.0.1	localhost
127.0.1.1	%s
::1	localhost ip6-localhost ip6-loopback
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

// Host adds a host. Its name is also its host name: letters, digits and hyphens.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	h, err := l.newHost(name, false)
	if err != nil {
		l.t.Fatalf("lab: host %s: %v", name, err)
	}
	return h
}

func (l *Lab) newHost(name string, router bool) (*Host, error) {
	if name == "" || len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
		return nil, fmt.Errorf("%q is no host name", name)
	}
	h := &Host{lab: l, name: name, dir: filepath.Join(l.dir, name), router: router}
	if err := l.add(h); err != nil {
		return nil, err
	}
	if err := h.makeFolders(); err != nil {
		return nil, err
	}
	s, err := newSpace(unix.CLONE_NEWNS|unix.CLONE_NEWNET|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC, h.furnish)
	if err != nil {
		return nil, err
	}
	h.space = s
	lo, err := h.nl.LinkByName("lo")
	if err == nil {
		err = h.nl.LinkSetUp(lo)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot bring up loopback: %w", err)
	}
	return h, nil
}

// makeFolders prepares the private folders, seen from the lab.
func (h *Host) makeFolders() error {
	for _, p := range private {
		dir := filepath.Join(h.dir, p.name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if !p.linked {
			continue
		}
		// The machine's folder is mounted here, and found from inside the host under /run/.lab.
		if err := os.MkdirAll(filepath.Join(h.dir, "run/.lab", p.name), 0o755); err != nil {
			return err
		}
		entries, err := os.ReadDir(p.path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			target := filepath.Join("/run/.lab", p.name, e.Name())
			if e.Type() == os.ModeSymlink {
				if target, err = os.Readlink(filepath.Join(p.path, e.Name())); err != nil {
					return err
				}
			}
			if h.owns(filepath.Join(p.path, e.Name())) {
				continue
			}
			if err := os.Symlink(target, filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Chmod(filepath.Join(h.dir, "shm"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	if err := os.WriteFile(h.Path("/etc/hostname"), []byte(h.name+"\n"), 0o644); err != nil {
		return err
	}
	return os.WriteFile(h.Path("/etc/hosts"), fmt.Appendf(nil, hostsFile, h.name), 0o644)
}

// owns reports whether path is not taken over from the machine: what the lab writes itself, and what a daemon
// under test keeps.
func (h *Host) owns(path string) bool {
	switch path {
	case "/etc/hosts", "/etc/hostname", "/etc/hnet", "/var/lib/hnet":
		return true
	}
	return false
}

// furnish sets up the host's namespaces, from inside.
func (h *Host) furnish() error {
	if err := unix.Sethostname([]byte(h.name)); err != nil {
		return fmt.Errorf("cannot set the host name: %w", err)
	}
	for _, p := range private {
		if p.linked {
			if err := bind(p.path, filepath.Join(h.dir, "run/.lab", p.name)); err != nil {
				return err
			}
		}
	}
	// So that /sys/class/net shows the host's devices. Containers may forbid it, and few programs look there.
	_ = unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	for _, p := range private {
		if err := bind(filepath.Join(h.dir, p.name), p.path); err != nil {
			return err
		}
	}
	settings := []string{
		// Addresses are usable at once, stay when the link goes down, and come from the lab alone.
		"net/ipv6/conf/all/disable_ipv6=0", "net/ipv6/conf/default/disable_ipv6=0",
		"net/ipv6/conf/all/accept_dad=0", "net/ipv6/conf/default/accept_dad=0",
		"net/ipv6/conf/all/accept_ra=0", "net/ipv6/conf/default/accept_ra=0",
		"net/ipv6/conf/all/router_solicitations=0", "net/ipv6/conf/default/router_solicitations=0",
		"net/ipv6/conf/all/keep_addr_on_down=1", "net/ipv6/conf/default/keep_addr_on_down=1",
		"net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0",
	}
	if h.router {
		settings = append(settings, "net/ipv4/ip_forward=1",
			"net/ipv6/conf/all/forwarding=1", "net/ipv6/conf/default/forwarding=1")
	}
	if err := sysctl(settings...); err != nil {
		return err
	}
	return steadyTCP()
}

func bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("cannot mount %s on %s: %w", source, target, err)
	}
	return nil
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// Path returns where this process finds the host's file path, for one in /etc, /var/lib, /run or /dev/shm; any
// other path is the same on all hosts. What a host has in /etc or /var/lib from the machine is a symbolic link
// that leads nowhere outside the host.
func (h *Host) Path(path string) string {
	for _, p := range private {
		if rest, ok := strings.CutPrefix(filepath.Clean(path), p.path); ok && (rest == "" || rest[0] == '/') {
			return filepath.Join(h.dir, p.name, rest)
		}
	}
	return path
}

// Do runs f in the host's network namespace: sockets that f opens are the host's, also after Do has returned.
// Goroutines that f starts run outside. Files are this process's (see [Host.Path]).
func (h *Host) Do(f func() error) error { return h.do(f) }

// Netlink returns a netlink handle on the host's network namespace. The lab closes it.
func (h *Host) Netlink() *netlink.Handle { return h.nl }

func (h *Host) close() {
	if h.space != nil {
		h.space.close()
	}
}

// Router is a host that forwards between its networks.
type Router struct{ *Host }

// Router adds a router: a host with IPv4 and IPv6 forwarding on. Hosts on a LAN with a router get it as their
// default route.
func (l *Lab) Router(name string) *Router {
	l.t.Helper()
	h, err := l.newHost(name, true)
	if err != nil {
		l.t.Fatalf("lab: router %s: %v", name, err)
	}
	return &Router{h}
}

// Rules loads an nftables script into the router, in place of all rules it had. An empty script removes them.
func (r *Router) Rules(t TB, script string) {
	t.Helper()
	cmd := r.Command(context.Background(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader("flush ruleset\n" + script + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("lab: rules of %s: %v\n%s", r.name, err, out)
	}
}
