package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"

	"golang.org/x/net/http/httpproxy"
)

// NoProxy is the value of Config.Proxy that forbids one, whatever the environment says.
const NoProxy = "none"

// ProxyFor returns the HTTP proxy by which a TCP connection to a host is to be asked for (CONNECT), nil if none: the one that
// Config.Proxy names, or the environment's (HTTPS_PROXY, https_proxy, NO_PROXY, no_proxy), which is read anew each time. The URL has
// the scheme http and a port; print it by [url.URL.Redacted] only. The error says what is wrong with the environment's, without its
// password. It is safe for concurrent use.
func (c Config) ProxyFor(host string, port uint16) (*url.URL, error) {
	switch c.Proxy {
	case NoProxy:
		return nil, nil
	case "":
	default:
		return parseProxy(c.Proxy)
	}
	target := &url.URL{Scheme: "https", Host: net.JoinHostPort(host, strconv.Itoa(int(port)))}
	environment := httpproxy.FromEnvironment()
	if environment.HTTPSProxy == "" {
		return nil, nil
	}
	// What cannot be parsed would count as none, so another stands in for it while the exceptions are looked at.
	text := environment.HTTPSProxy
	environment.HTTPSProxy = "http://proxy:80"
	wanted, err := environment.ProxyFunc()(target)
	if err != nil || wanted == nil {
		return nil, err
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" {
		u, err = url.Parse("http://" + text) // it may be without the scheme
	}
	if err == nil && u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "80")
	}
	if err == nil {
		err = validProxy(u)
	} else {
		err = errProxy
	}
	if err != nil {
		return nil, fmt.Errorf("the proxy in the environment variable HTTPS_PROXY cannot be used: %w", err)
	}
	return u, nil
}

// The errors about proxies never quote the value: it may hold a password.
var errProxy = errors.New(`expected "" (from the environment), none, or http://HOST:PORT or http://USER:PASSWORD@HOST:PORT ` +
	`(write special characters of user and password as %XX)`)

func checkProxy(s string) error {
	if s == NoProxy {
		return nil
	}
	_, err := parseProxy(s)
	return err
}

func parseProxy(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errProxy
	}
	if err := validProxy(u); err != nil {
		return nil, err
	}
	return u, nil
}

// validProxy tells what is wrong with the URL of a proxy.
func validProxy(u *url.URL) error {
	switch {
	case u.Scheme == "https" || u.Scheme == "socks5" || u.Scheme == "socks5h":
		return fmt.Errorf("a proxy of the kind %s: expected an HTTP proxy, http://HOST:PORT", u.Scheme)
	case u.Scheme != "http" || u.Opaque != "" || u.Hostname() == "":
		return errProxy
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("expected nothing behind the proxy's port")
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || n == 0 {
		return errors.New("expected a port 1..65535 of the proxy: http://HOST:PORT")
	}
	if CheckHost(u.Hostname()) != nil {
		return errors.New("expected the proxy's host as an IP address outside the overlay or a DNS name")
	}
	return nil
}
