package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/net/netutil"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/server"
	"github.com/hnet-robotics/hnet_bridge/overlay/host"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

const (
	// socketBuffer holds what a 2.5 Gbit/s link brings in 13 ms, while the reader is kept from its processor.
	socketBuffer = 4 << 20
	// metricsTimeout bounds a scrape, in both directions; maxScrapers the connections.
	metricsTimeout = 10 * time.Second
	maxScrapers    = 16
)

// parseListen reads --listen; the invalid address stands for all of them.
func parseListen(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return a, fmt.Errorf("--listen %q is no IP address: give one of this host, or 0.0.0.0 for all", s)
	case a.IsUnspecified():
		return netip.Addr{}, nil
	}
	return a.Unmap(), nil
}

// open opens everything that o asks for. That the STUN port cannot be opened (noSTUN) keeps no Base from serving.
func open(o *options) (l server.ListenConfig, noSTUN, err error) {
	if l.Only, err = parseListen(o.listen); err != nil {
		return l, nil, err
	}
	defer func() {
		if err != nil {
			closeAll(&l)
		}
	}()
	if o.udp != 0 {
		if l.UDP, err = openUDP(l.Only, uint16(o.udp)); err != nil {
			return l, nil, explain(err, "UDP", o.udp, "udp", "ss -ulnp")
		}
	}
	if o.tcp != 0 {
		if l.TLS, err = openTCP(l.Only, uint16(o.tcp)); err != nil {
			return l, nil, explain(err, "TCP", o.tcp, "tcp", "ss -tlnp")
		}
	}
	if o.udp != 0 && o.stun != 0 {
		alternate, err := openUDP(l.Only, uint16(o.stun))
		if err != nil {
			noSTUN = explain(err, "UDP", o.stun, "stun", "ss -ulnp")
		}
		l.Alternate = alternate
	}
	if o.udp != 0 {
		if l.Prober, err = openUDP(l.Only, 0); err != nil {
			return l, nil, fmt.Errorf("no UDP port for filter probes could be opened: %w", err)
		}
	}
	return l, noSTUN, nil
}

// growBuffers gives the main sockets buffers for bursts.
func growBuffers(log *slog.Logger, l *server.ListenConfig) {
	h := host.New(log)
	for _, sock := range []underlay.Socket{l.UDP.IPv4, l.UDP.IPv6} {
		if sock, ok := sock.(*underlay.UDP); ok {
			if err := h.GrowBuffers(sock, socketBuffer); err != nil {
				log.Debug("socket buffers stay as they are", "err", err)
			}
		}
	}
}

func closeAll(l *server.ListenConfig) {
	for _, sock := range []underlay.Socket{l.UDP.IPv4, l.UDP.IPv6, l.Alternate.IPv4, l.Alternate.IPv6, l.Prober.IPv4, l.Prober.IPv6} {
		if sock != nil {
			sock.Close()
		}
	}
	for _, listener := range l.TLS {
		listener.Close()
	}
}

// explain says what to do about a port that could not be opened.
func explain(err error, protocol string, port uint, name, show string) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s port %d is in use by another program: choose another --%s, or stop that program (%s shows it)", protocol, port, name, show)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%s port %d may not be opened by this user: run as root or with CAP_NET_BIND_SERVICE, or choose a --%s of 1024 or more", protocol, port, name)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s port %d cannot be opened (%w): give --listen an address that this host has (ip addr shows them), or 0.0.0.0 for all", protocol, port, err)
	}
	return fmt.Errorf("%s port %d cannot be opened: %w", protocol, port, err)
}

// families are those that an address asks for.
func families(only netip.Addr) (ipv4, ipv6 bool) {
	return !only.IsValid() || only.Is4(), !only.IsValid() || only.Is6()
}

// noFamily tells that the host does not have an address family.
func noFamily(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// openUDP opens a port in the families asked for; with all of them, one that the host does not have is left out.
func openUDP(only netip.Addr, port uint16) (s server.Sockets, err error) {
	ipv4, ipv6 := families(only)
	if only.IsValid() {
		// The sockets take what comes to any address, and the server drops what came to others; so this finds out whether the host has it.
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(only, 0)))
		if err != nil {
			return s, err
		}
		c.Close()
	}
	var missing error
	opened := 0
	for _, f := range []struct {
		wanted  bool
		network string
		into    *underlay.Socket
	}{{ipv4, "udp4", &s.IPv4}, {ipv6, "udp6", &s.IPv6}} {
		if !f.wanted {
			continue
		}
		sock, err := underlay.Listen(f.network, port, underlay.Options{RecvTTL: true})
		switch {
		case err == nil:
			*f.into = sock
			opened++
		case !only.IsValid() && noFamily(err):
			missing = err
		default:
			if s.IPv4 != nil {
				s.IPv4.Close()
			}
			return server.Sockets{}, err
		}
	}
	if opened == 0 {
		return s, missing
	}
	return s, nil
}

// openTCP is openUDP for TCP.
func openTCP(only netip.Addr, port uint16) (all []net.Listener, err error) {
	ipv4, ipv6 := families(only)
	var missing error
	for _, f := range []struct {
		wanted           bool
		network, address string
	}{{ipv4, "tcp4", "0.0.0.0"}, {ipv6, "tcp6", "::"}} {
		if !f.wanted {
			continue
		}
		address := f.address
		if only.IsValid() {
			address = only.String()
		}
		l, err := net.Listen(f.network, net.JoinHostPort(address, strconv.Itoa(int(port))))
		switch {
		case err == nil:
			all = append(all, l)
		case !only.IsValid() && noFamily(err):
			missing = err
		default:
			for _, l := range all {
				l.Close()
			}
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, missing
	}
	return all, nil
}

// listenMetrics opens the address of the metrics, nil if there is none.
func listenMetrics(address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("metrics cannot be served on %s: %w: set another --metrics, or none", address, err)
	}
	return netutil.LimitListener(l, maxScrapers), nil
}

// serveMetrics answers scrapes at /metrics until ctx ends.
func serveMetrics(ctx context.Context, l net.Listener, s *server.Server) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		s.WriteMetrics(w)
		metrics.WriteProcessMetrics(w)
	})
	h := http.Server{Handler: mux, ReadTimeout: metricsTimeout, WriteTimeout: metricsTimeout, MaxHeaderBytes: 8 << 10}
	context.AfterFunc(ctx, func() { h.Close() })
	_ = h.Serve(l)
}
