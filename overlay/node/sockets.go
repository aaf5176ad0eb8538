package node

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/lan"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

const (
	// portsTried is how many ports from the default one are tried.
	portsTried = 10
	// socketBuffer holds what a 2.5 Gbit/s link brings in 13 ms, while the reader is kept from its processor.
	socketBuffer = 4 << 20
)

// sockets are the main sockets: both families on one port, so that one number is told to peers and opened in firewalls.
type sockets struct{ ipv4, ipv6 *underlay.UDP }

func (s sockets) close() {
	if s.ipv4 != nil {
		s.ipv4.Close()
	}
	if s.ipv6 != nil {
		s.ipv6.Close()
	}
}

// of returns the socket of a remote's family, nil if there is none.
func (s sockets) of(remote netip.Addr) underlay.Socket {
	switch {
	case remote.Is4() && s.ipv4 != nil:
		return s.ipv4
	case remote.Is6() && s.ipv6 != nil:
		return s.ipv6
	}
	return nil
}

var errNoSocket = errors.New("this host has no socket of that address family")

// openScout opens a light socket of a remote's family, on any port.
func openScout(remote netip.Addr) (underlay.Socket, error) {
	network := "udp6"
	if remote.Is4() {
		network = "udp4"
	}
	return underlay.Listen(network, 0, underlay.Options{Light: true})
}

func (s sockets) into(c *engine.Config) {
	if s.ipv4 != nil {
		c.IPv4 = s.ipv4
	}
	if s.ipv6 != nil {
		c.IPv6 = s.ipv6
	}
}

// openSockets opens the main sockets for the engine on the configured port; the default port may give way to the next free of ten.
func (n *Node) openSockets(c *engine.Config) error {
	port := n.cfg.Port
	if port == lan.Port && n.cfg.LANDiscovery {
		return fmt.Errorf("UDP port %d is that of LAN discovery: choose another 'port' in %s, or set 'lan_discovery: false'", port, n.opt.Paths.Config)
	}
	ports := n.ports()
	var s sockets
	var err error
	for _, p := range ports {
		if s, err = listen(p, underlay.Options{RecvTTL: n.cfg.Relay}); err == nil {
			break
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("no UDP socket could be opened: %w", err)
		}
	}
	switch {
	case err != nil && len(ports) == 1:
		return fmt.Errorf("UDP port %d is in use by another program: choose another 'port' in %s, or stop that program (ss -ulnp shows it)",
			port, n.opt.Paths.Config)
	case err != nil:
		return fmt.Errorf("UDP ports %d to %d are all in use: set a free 'port' in %s", port, ports[len(ports)-1], n.opt.Paths.Config)
	}
	n.onClose(s.close)
	s.into(c)
	n.sockets = s
	for family, u := range map[health.Code]*underlay.UDP{health.NoIPv4: s.ipv4, health.NoIPv6: s.ipv6} {
		if u == nil {
			n.warnings.Raise(health.Warning{Code: family, Text: "this host gives no socket of one address family; peers are reached over the other only",
				Fix: "nothing to do if that is meant; else enable it (sysctl net.ipv6.conf.all.disable_ipv6=0)"})
			continue
		}
		n.port = u.LocalPort()
		if err := n.opt.Host.GrowBuffers(u, socketBuffer); err != nil {
			n.log.Debug("socket buffers stay as they are", "err", err)
		}
	}
	if port != 0 && n.port != port {
		n.warnings.Raise(health.Warning{Code: health.PortTaken,
			Text: fmt.Sprintf("UDP port %d is in use by another program, so this node uses %d", port, n.port),
			Fix:  fmt.Sprintf("stop that program (ss -ulnp shows it), or set 'port: %d' in %s", n.port, n.opt.Paths.Config)})
	}
	return nil
}

// ports lists what is tried in turn: a configured port alone, or ten from the default one, of which LAN discovery's is none.
func (n *Node) ports() []uint16 {
	if n.cfg.PortSet {
		return []uint16{n.cfg.Port}
	}
	var ports []uint16
	for p := n.cfg.Port; len(ports) < portsTried; p++ {
		if p != lan.Port {
			ports = append(ports, p)
		}
	}
	return ports
}

// listen opens both families on one port; a family that the host does not have is left out.
func listen(port uint16, opt underlay.Options) (s sockets, err error) {
	s.ipv4, err = underlay.Listen("udp4", port, opt)
	if err != nil && !noFamily(err) {
		return s, err
	}
	err4 := err
	if s.ipv4 != nil {
		port = s.ipv4.LocalPort()
	}
	s.ipv6, err = underlay.Listen("udp6", port, opt)
	if err != nil && (!noFamily(err) || err4 != nil) {
		s.close()
		return sockets{}, err
	}
	return s, nil
}

func noFamily(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}
