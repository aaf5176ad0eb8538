package internet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

const (
	proxyPort    = 3128
	proxyTimeout = 10 * time.Second
	maxTunnels   = 1000
)

// Proxy is an HTTP proxy that knows CONNECT and nothing else.
type Proxy struct {
	at     netip.AddrPort
	on     interface{ Do(func() error) error }
	lookup func(name string) []netip.Addr // of names that are no addresses
	server *http.Server

	mu      sync.Mutex
	conns   map[net.Conn]bool
	tunnels int // ever opened
	wg      sync.WaitGroup
}

// startProxy serves on an address of a host until the end of the test.
func startProxy(t lab.TB, on interface{ Do(func() error) error }, at netip.Addr, lookup func(string) []netip.Addr) *Proxy {
	t.Helper()
	p := &Proxy{at: netip.AddrPortFrom(at, proxyPort), on: on, lookup: lookup, conns: map[net.Conn]bool{}}
	var listener net.Listener
	err := on.Do(func() (err error) {
		listener, err = net.Listen("tcp", p.at.String())
		return err
	})
	if err != nil {
		t.Fatalf("internet: proxy: %v", err)
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: proxyTimeout}
	p.wg.Go(func() { _ = p.server.Serve(listener) })
	t.Cleanup(p.close)
	return p
}

// URL is what clients are told.
func (p *Proxy) URL() string { return "http://" + p.at.String() }

// Tunnels returns how many CONNECT requests have succeeded.
func (p *Proxy) Tunnels() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tunnels
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
		return
	}
	out, err := p.dial(r.Context(), r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	in, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil || !p.keep(in, out) {
		out.Close()
		return
	}
	defer p.drop(in, out)
	if _, err := io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	pass := func(to, from net.Conn, r io.Reader) {
		_, _ = io.Copy(to, r)
		to.(*net.TCPConn).CloseWrite()
		done <- struct{}{}
	}
	p.wg.Go(func() { pass(out, in, buffered) })
	p.wg.Go(func() { pass(in, out, out) })
	<-done
	<-done
}

func (p *Proxy) dial(ctx context.Context, target string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	addrs := p.lookup(host)
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a}
	}
	err = fmt.Errorf("no such host: %s", host)
	for _, a := range addrs {
		var c net.Conn
		err = p.on.Do(func() (err error) {
			// With one numeric address the socket is made in this goroutine, that is in the host's namespace.
			c, err = (&net.Dialer{Timeout: proxyTimeout}).DialContext(ctx, "tcp", net.JoinHostPort(a.String(), port))
			return err
		})
		if err == nil {
			return c, nil
		}
	}
	return nil, err
}

func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil || len(p.conns) >= 2*maxTunnels {
		return false
	}
	for _, c := range conns {
		p.conns[c] = true
	}
	p.tunnels++
	return true
}

func (p *Proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.conns, c)
	}
}

// close ends the proxy and all its tunnels.
func (p *Proxy) close() {
	p.server.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.wg.Wait()
}
