package portmap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	// searches is how often a search is sent, searchGap how long each waits for answers: a device may take a second (MX).
	searches  = 2
	searchGap = 1100 * time.Millisecond
	// linger is how long to wait for more devices after the first.
	linger = 100 * time.Millisecond

	maxLocations = 4
	maxAnswers   = 64
)

// boundedClient speaks plain HTTP with the gateway alone.
func boundedClient(g Gateway) http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			to, err := netip.ParseAddrPort(address)
			if err != nil || to.Addr() != g.Addr {
				return nil, fmt.Errorf("%s is not the router", address)
			}
			return dial(ctx, g, "tcp", to.Port())
		},
		DisableKeepAlives:      true, // the next question is in minutes
		DisableCompression:     true,
		ResponseHeaderTimeout:  httpTimeout,
		MaxResponseHeaderBytes: 16 << 10,
	}
	return http.Client{
		Transport:     bounded{transport, g.Addr},
		Timeout:       httpTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded lets requests to the gateway pass, and bounds what it answers.
type bounded struct {
	http.RoundTripper
	gateway netip.Addr
}

func (b bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	if !lies(request.URL, b.gateway) {
		return nil, errors.New("not on the router")
	}
	response, err := b.RoundTripper.RoundTrip(request)
	if err == nil {
		response.Body = &body{response.Body, maxBody}
	}
	return response, err
}

// body fails when it is longer than is good.
type body struct {
	io.ReadCloser
	left int
}

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the router's answer is too long")
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// search looks for Internet gateway devices: by multicast on the link, and, for routers that do not hear that behind a switch
// which snoops, at the gateway itself. It returns where those on the gateway describe themselves. gap is
// how long each question waits for answers.
func search(ctx context.Context, g Gateway, gap time.Duration) ([]*url.URL, error) {
	lc := net.ListenConfig{Control: onDevice(g.Interface)}
	pc, err := lc.ListenPacket(ctx, "udp4", netip.AddrPortFrom(g.Local, 0).String())
	if err != nil {
		return nil, fmt.Errorf("cannot search by UPnP: %w", err)
	}
	defer pc.Close()
	defer context.AfterFunc(ctx, func() { pc.Close() })()
	conn := pc.(*net.UDPConn)
	group := netip.AddrPortFrom(ssdpGroup, ssdpPort)
	if device, err := net.InterfaceByName(g.Interface); err == nil {
		p := ipv4.NewPacketConn(conn)
		_ = p.SetMulticastTTL(2)
		_ = p.SetMulticastLoopback(false)
		if p.SetMulticastInterface(device) != nil {
			group = netip.AddrPort{}
		}
	} else {
		group = netip.AddrPort{} // it might go out elsewhere
	}
	var found []*url.URL
	answers := 0
	b := make([]byte, maxFound+1)
	for range searches {
		for _, target := range targets {
			request := appendSearch(nil, target)
			if group.IsValid() {
				_, _ = conn.WriteToUDPAddrPort(request, group)
			}
			_, _ = conn.WriteToUDPAddrPort(request, netip.AddrPortFrom(g.Addr, ssdpPort))
		}
		if err := conn.SetReadDeadline(time.Now().Add(gap)); err != nil {
			return nil, err
		}
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
				break
			} else if err != nil {
				return nil, err
			}
			if answers++; answers > maxAnswers {
				return found, nil
			}
			u, ok := parseFound(b[:n], g.Addr)
			if !ok || from.Addr().Unmap() != g.Addr || has(found, u) {
				continue
			}
			if found = append(found, u); len(found) == maxLocations {
				return found, nil
			}
			if err := conn.SetReadDeadline(time.Now().Add(linger)); err != nil {
				return nil, err
			}
		}
		if len(found) > 0 {
			return found, nil
		}
	}
	return nil, errSilent
}

func has(all []*url.URL, u *url.URL) bool {
	for _, other := range all {
		if other.String() == u.String() {
			return true
		}
	}
	return false
}
