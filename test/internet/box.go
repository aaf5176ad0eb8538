package internet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/internet/nat"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

const (
	tunName  = "nat0"
	natTable = 77 // routing table that leads to the TUN device
)

// NAT is a user-space NAT on a router: the router's kernel routes what is to be translated to a TUN device, this process translates it and
// gives it back, the kernel forwards it. A packet has one hop less behind the router, as behind any.
type NAT struct {
	router *lab.Router
	tun    *os.File

	mu      sync.Mutex
	table   *nat.Table
	stopped chan struct{}
}

// startNAT makes a router a NAT between its outer device and what will be inside (see [NAT.addInside]). It ends with the test.
func startNAT(t lab.TB, r *lab.Router, outer string, c nat.Config) *NAT {
	t.Helper()
	table, err := nat.New(c)
	if err != nil {
		t.Fatalf("internet: %s: %v", r.Name(), err)
	}
	n := &NAT{router: r, table: table, stopped: make(chan struct{})}
	if err := n.open(outer, c); err != nil {
		t.Fatalf("internet: NAT on %s: %v", r.Name(), err)
	}
	go n.run()
	t.Cleanup(func() {
		n.tun.Close()
		<-n.stopped
	})
	return n
}

func (n *NAT) open(outer string, c nat.Config) error {
	err := n.router.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("cannot open /dev/net/tun: %w", err)
		}
		request, err := unix.NewIfreq(tunName)
		if err == nil {
			request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		if err != nil {
			unix.Close(fd)
			return fmt.Errorf("cannot make %s: %w", tunName, err)
		}
		n.tun = os.NewFile(uintptr(fd), tunName)
		// What comes back has the router's own address as its source.
		return setSysctl("net/ipv6/conf/"+tunName+"/disable_ipv6=1", "net/ipv4/conf/"+tunName+"/accept_local=1")
	})
	if err != nil {
		return err
	}
	nl := n.router.Netlink()
	link, err := nl.LinkByName(tunName)
	if err == nil {
		err = nl.LinkSetUp(link)
	}
	if err == nil {
		err = nl.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Table: natTable, Dst: ipNet(default4)})
	}
	if err != nil {
		return err
	}
	// The kernel's rule for its own addresses comes first and would keep what is addressed to the external one; it moves behind ours.
	local := rule(1000, unix.RT_TABLE_LOCAL)
	if err := nl.RuleAdd(local); err != nil {
		return err
	}
	first := rule(0, unix.RT_TABLE_LOCAL)
	if err := nl.RuleDel(first); err != nil {
		return fmt.Errorf("cannot remove the first routing rule: %w", err)
	}
	for _, protocol := range []int{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		in := rule(100, natTable)
		in.IifName, in.Dst, in.IPProto = outer, ipNet(netip.PrefixFrom(c.External, 32)), protocol
		if err := nl.RuleAdd(in); err != nil {
			return err
		}
	}
	return nil
}

// addInside makes a device of the router an inner one. What is addressed to its own network stays with the kernel.
func (n *NAT) addInside(dev string, own netip.Prefix) error {
	nl := n.router.Netlink()
	self := rule(200, unix.RT_TABLE_LOCAL)
	self.IifName, self.Dst = dev, ipNet(own)
	out := rule(300, natTable)
	out.IifName = dev
	return errors.Join(nl.RuleAdd(self), nl.RuleAdd(out))
}

func (n *NAT) run() {
	defer close(n.stopped)
	b := make([]byte, 1<<16)
	for {
		size, err := n.tun.Read(b)
		if err != nil {
			return
		}
		n.mu.Lock()
		pass := n.table.Translate(time.Now(), b[:size])
		n.mu.Unlock()
		if pass {
			nat.RaiseTTL(b[:size]) // the kernel forwards it twice
			_, _ = n.tun.Write(b[:size])
		}
	}
}

// Rebind makes the NAT forget all mappings, as one does that starts anew. New mappings get other ports.
func (n *NAT) Rebind() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.table.Rebind()
}

// Stats returns what the NAT has done.
func (n *NAT) Stats() nat.Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.table.Stats()
}
