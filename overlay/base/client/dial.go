package client

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

const (
	// nextAddress is how long one address is waited for before another is tried beside it (RFC 8305).
	nextAddress = 300 * time.Millisecond
	// maxAddresses bounds how many addresses of a name are tried.
	maxAddresses = 4
	// maxProxyAnswer bounds the header of a proxy's answer.
	maxProxyAnswer = 16 << 10
)

// dialer makes TLS connections to Bases.
type dialer struct {
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	proxy func(host string, port uint16) (*url.URL, error)
}

// connect makes a TLS connection to the Base with an overlay address, through the proxy that is responsible if there is one, else to the first of addrs
// that answers. It ends with ctx.
func (d *dialer) connect(ctx context.Context, base netip.Addr, host string, port uint16, addrs []netip.Addr) (net.Conn, error) {
	var proxy *url.URL
	if d.proxy != nil {
		var err error
		if proxy, err = d.proxy(host, port); err != nil {
			return nil, fmt.Errorf("proxy for %s: %w", host, err)
		}
	}
	var conn net.Conn
	var err error
	if proxy != nil {
		conn, err = d.through(ctx, proxy, net.JoinHostPort(host, strconv.Itoa(int(port))))
	} else {
		conn, err = d.direct(ctx, host, port, addrs)
	}
	if err != nil {
		return nil, err
	}
	secured := tls.Client(conn, tlsConfig(base, host))
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS with %s port %d: %w", host, port, err)
	}
	return secured, nil
}

// direct connects to whichever address answers first, each a moment after the one before.
func (d *dialer) direct(ctx context.Context, host string, port uint16, addrs []netip.Addr) (net.Conn, error) {
	if len(addrs) == 0 {
		return nil, fmt.Errorf("no usable address of %s is known: check its name and the DNS", host)
	}
	addrs = addrs[:min(len(addrs), maxAddresses)]
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, len(addrs))
	started, ended := 0, 0
	start := func() {
		to := netip.AddrPortFrom(addrs[started], port).String()
		started++
		go func() {
			conn, err := d.dial(ctx, "tcp", to)
			results <- result{conn, err}
		}()
	}
	// Whoever comes too late is closed.
	defer func() {
		go func(left int) {
			for range left {
				if r := <-results; r.conn != nil {
					r.conn.Close()
				}
			}
		}(started - ended)
	}()
	start()
	timer := time.NewTimer(nextAddress)
	defer timer.Stop()
	var failed error
	for {
		select {
		case r := <-results:
			ended++
			if r.err == nil {
				return r.conn, nil
			}
			if failed == nil {
				failed = r.err
			}
			if started < len(addrs) {
				start()
			} else if ended == started {
				return nil, failed
			}
		case <-timer.C:
			if started < len(addrs) {
				start()
				timer.Reset(nextAddress)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("connecting to %s port %d: %w", host, port, ctx.Err())
		}
	}
}

// through connects by the CONNECT method of an HTTP proxy (RFC 9110, 9.3.6).
func (d *dialer) through(ctx context.Context, proxy *url.URL, target string) (net.Conn, error) {
	port := proxy.Port()
	switch {
	case proxy.Scheme != "http" && proxy.Scheme != "https":
		return nil, fmt.Errorf("proxy %s: its scheme must be http or https", proxy.Redacted())
	case port == "" && proxy.Scheme == "http":
		port = "80"
	case port == "":
		port = "443"
	}
	conn, err := d.dial(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", proxy.Redacted(), err)
	}
	if proxy.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: proxy.Hostname()})
	}
	// The exchange ends with ctx, whatever the proxy does.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = ask(conn, proxy, target)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("proxy %s: %w", proxy.Redacted(), err)
	}
	return conn, nil
}

// ask asks a proxy to connect to target.
func ask(conn net.Conn, proxy *url.URL, target string) error {
	request := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return err
	}
	r := bufio.NewReader(io.LimitReader(conn, maxProxyAnswer))
	answer, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return fmt.Errorf("its answer to CONNECT %s: %w", target, err)
	}
	if answer.StatusCode == http.StatusProxyAuthRequired {
		return fmt.Errorf("it wants a user and password for CONNECT %s: put them into its URL", target)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("it refuses CONNECT %s: %d; allow it there, or another port of the Base", target, answer.StatusCode)
	}
	if r.Buffered() > 0 {
		return errors.New("it sends more than its answer to CONNECT")
	}
	return nil
}

// tlsConfig pins the Base's identity: robots boot without a clock, and names and authorities add nothing to a key that is known.
func tlsConfig(base netip.Addr, host string) *tls.Config {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection:   func(s tls.ConnectionState) error { return checkCertificate(base, s.PeerCertificates) },
	}
	if _, err := netip.ParseAddr(host); err != nil {
		config.ServerName = host
	}
	return config
}

// errImpostor is what answers in a Base's place over TLS.
var errImpostor = errors.New("not the Base that was asked for")

// checkCertificate checks that a certificate has the Ed25519 key of the Base. That its sender has the private key, TLS has checked.
func checkCertificate(base netip.Addr, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return fmt.Errorf("it shows no certificate: %w", errImpostor)
	}
	key, ok := chain[0].PublicKey.(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("its certificate has no Ed25519 key, so it is not the Base %v: something between intercepts TLS, or another server listens there (%w)", base, errImpostor)
	}
	public, err := identity.SigningKey(key).WireGuard()
	if err != nil {
		return fmt.Errorf("its certificate has a bad key: %w", err)
	}
	if got := public.Address(); got != base {
		return fmt.Errorf("it is %v, not the Base %v: correct the Base's host or address in the configuration (%w)", got, base, errImpostor)
	}
	return nil
}
