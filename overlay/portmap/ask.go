package portmap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// waits are how long an answer may take until the question is sent again, and at last given up: 2.75 s in all.
var waits = [...]time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, time.Second}

// maxStray bounds the datagrams that are read in wait for one answer.
const maxStray = 64

// router is the hands of a worker on a real gateway.
type router struct {
	gateway Gateway
	nonce   nonce
	open    byte   // the version by which something is or may be mapped at serverPort
	port    uint16 // what; 0 = nothing
	igd     *igd
}

func newRouter(g Gateway) hands {
	return &router{gateway: g, igd: newIGD(g)}
}

func (r *router) find(ctx context.Context, port uint16, suggest netip.AddrPort) (grant, []outcome, error) {
	outcomes := []outcome{{protocol: PCP}, {protocol: NATPMP}, {protocol: UPnP}}
	if suggest.Port() == 0 {
		suggest = netip.AddrPortFrom(netip.Addr{}, port)
	}
	rand.Read(r.nonce[:])
	g, older, err := r.findPCP(ctx, port, suggest)
	outcomes[0].note(err)
	if older && err != nil {
		g, err = r.mapPMP(ctx, port, suggest.Port(), asked)
		outcomes[1].note(err)
	} else if err != nil && !isRefusal(err) && r.gateway.Addr.Is4() {
		outcomes[1].note(err) // was asked at the same time
	}
	if err == nil || ctx.Err() != nil {
		return g, outcomes, err
	}
	r.port = 0 // if it did map and its answers were lost, the mapping ends with its lifetime
	if !r.gateway.Addr.Is4() {
		return g, outcomes, err
	}
	g, upnp := r.igd.find(ctx, port, suggest.Port())
	outcomes[2].note(upnp)
	if upnp == nil {
		return g, outcomes, nil
	}
	return grant{}, outcomes, fmt.Errorf("PCP and NAT-PMP: %w; UPnP: %w", err, upnp)
}

func (o *outcome) note(err error) {
	switch {
	case err == nil:
		o.result = Found
	case isRefusal(err):
		o.result, o.why = Refused, err.Error()
	default:
		o.result, o.why = NoAnswer, err.Error()
	}
}

// findPCP maps by PCP. older tells that the server answered in a way that leaves NAT-PMP to be tried. Servers of NAT-PMP
// that are silent to another version are found by asking in both from the second try on.
func (r *router) findPCP(ctx context.Context, port uint16, suggest netip.AddrPort) (g grant, older bool, err error) {
	four := r.gateway.Addr.Is4()
	g, a, err := r.mapPCP(ctx, port, suggest, asked, func(try int) []byte {
		if four && try > 0 {
			return appendExternalPMP(nil)
		}
		return nil
	})
	if err != nil || a.version == pcpVersion && a.result != resultUnsupportedVersion {
		return g, false, err
	}
	r.port = 0
	return grant{}, four, &refusal{"the router speaks no PCP of a version we know"}
}

// mapPCP maps, or with lifetime zero removes. besides is what else is sent at a try.
func (r *router) mapPCP(ctx context.Context, port uint16, suggest netip.AddrPort, lifetime time.Duration, besides func(int) []byte) (grant, answer, error) {
	r.open, r.port = pcpVersion, port
	request := appendMap(nil, r.gateway.Local, r.nonce, port, suggest, uint32(lifetime/time.Second))
	a, err := r.ask(ctx, func(a answer) bool {
		if a.version != pcpVersion {
			return besides != nil
		}
		// An error may come without what it is about.
		return a.op == opMap && (!a.mapped || a.nonce == r.nonce && a.internal == port && a.protocol == protocolUDP)
	}, func(try int) [][]byte {
		if besides != nil {
			if more := besides(try); more != nil {
				return [][]byte{request, more}
			}
		}
		return [][]byte{request}
	})
	switch {
	case err != nil:
		return grant{}, a, err
	case a.version != pcpVersion || a.result == resultUnsupportedVersion && besides != nil:
		return grant{}, a, nil
	case a.result != 0:
		r.port = 0
		return grant{}, a, refuse(pcpRefusals, a.result)
	case lifetime == 0:
		return grant{}, a, nil
	case a.lifetime == 0 || a.external.Port() == 0 || a.external.Addr().Is4() != r.gateway.Addr.Is4():
		return grant{}, a, &refusal{"the router granted nothing"}
	}
	return grant{protocol: PCP, internal: port, external: a.external, lifetime: time.Duration(a.lifetime) * time.Second,
		epoch: a.epoch, timed: true}, a, nil
}

// mapPMP maps by NAT-PMP, which takes two questions: it tells outer port and outer address apart.
func (r *router) mapPMP(ctx context.Context, port, suggest uint16, lifetime time.Duration) (grant, error) {
	outer, err := r.askPMP(ctx, opExternal, 0, appendExternalPMP(nil))
	if err != nil {
		return grant{}, err
	}
	r.open, r.port = pmpVersion, port
	a, err := r.askPMP(ctx, opMap, port, appendMapPMP(nil, port, suggest, uint32(lifetime/time.Second)))
	switch {
	case err != nil:
		return grant{}, err
	case a.lifetime == 0 || a.external.Port() == 0:
		return grant{}, &refusal{"the router granted nothing"}
	}
	return grant{protocol: NATPMP, internal: port, external: netip.AddrPortFrom(outer.external.Addr(), a.external.Port()),
		lifetime: time.Duration(a.lifetime) * time.Second, epoch: a.epoch, timed: true}, nil
}

func (r *router) askPMP(ctx context.Context, op byte, port uint16, request []byte) (answer, error) {
	a, err := r.ask(ctx, func(a answer) bool {
		return a.version == pmpVersion && a.op == op && (a.result != 0 || a.internal == port)
	}, func(int) [][]byte { return [][]byte{request} })
	if err == nil && a.result != 0 {
		err = refuse(pmpRefusals, a.result)
	}
	return a, err
}

func (r *router) renew(ctx context.Context, held grant) (grant, error) {
	switch held.protocol {
	case PCP:
		g, _, err := r.mapPCP(ctx, held.internal, held.external, asked, nil)
		return g, err
	case NATPMP:
		return r.mapPMP(ctx, held.internal, held.external.Port(), asked)
	}
	return r.igd.renew(ctx, held)
}

func (r *router) check(ctx context.Context, held grant) (server uint32, timed bool, err error) {
	switch held.protocol {
	case PCP:
		// Errors tell the time too.
		request := appendAnnounce(nil, r.gateway.Local)
		a, err := r.ask(ctx, func(a answer) bool { return a.version == pcpVersion && a.op == opAnnounce },
			func(int) [][]byte { return [][]byte{request} })
		return a.epoch, err == nil, err
	case NATPMP:
		a, err := r.askPMP(ctx, opExternal, 0, appendExternalPMP(nil))
		if err == nil && a.external.Addr() != held.external.Addr() {
			err = &refusal{"the outer address changed"}
		}
		return a.epoch, err == nil, err
	}
	return 0, false, r.igd.check(ctx, held)
}

func (r *router) clear(ctx context.Context) {
	// At the same time, because either may take all there is.
	var upnp sync.WaitGroup
	upnp.Go(func() { r.igd.clear(ctx) })
	if r.port != 0 {
		if r.open == pcpVersion {
			_, _, _ = r.mapPCP(ctx, r.port, netip.AddrPort{}, 0, nil)
		} else {
			_, _ = r.askPMP(ctx, opMap, r.port, appendMapPMP(nil, r.port, 0, 0))
		}
		r.port = 0
	}
	upnp.Wait()
}

var errSilent = errors.New("no answer")

// ask sends requests, again and again, and returns the first answer of the gateway that is acceptable.
func (r *router) ask(ctx context.Context, accept func(answer) bool, requests func(try int) [][]byte) (answer, error) {
	conn, err := dial(ctx, r.gateway, "udp", serverPort)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	b := make([]byte, pcpMaxLen+1)
	stray := 0
	for try, wait := range waits {
		for _, request := range requests(try) {
			if _, err := conn.Write(request); err != nil {
				return answer{}, unanswered(err)
			}
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return answer{}, unanswered(err)
		}
		for {
			n, err := conn.Read(b)
			if err != nil {
				if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
					break
				}
				return answer{}, unanswered(err)
			}
			if a, ok := parseAnswer(b[:n]); ok && accept(a) {
				return a, nil
			}
			if stray++; stray > maxStray {
				return answer{}, errors.New("the answers are nonsense")
			}
		}
	}
	return answer{}, errSilent
}

func unanswered(err error) error {
	if errors.Is(err, unix.ECONNREFUSED) {
		return errors.New("no answer: nothing listens there")
	}
	return err
}

// dial opens a socket to a port of the gateway from our address on that link, by which the kernel takes nothing but from there.
func dial(ctx context.Context, g Gateway, network string, port uint16) (net.Conn, error) {
	d := net.Dialer{Control: onDevice(g.Interface)}
	local := netip.AddrPortFrom(g.Local, 0)
	if network == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(local)
	} else {
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
	}
	return d.DialContext(ctx, network, netip.AddrPortFrom(g.Addr, port).String())
}

// onDevice keeps a socket's packets on one link, as far as this kernel lets the unprivileged do so: before Linux 5.7 the
// source address must do.
func onDevice(name string) func(_, _ string, c syscall.RawConn) error {
	if name == "" {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.BindToDevice(int(fd), name) })
	}
}
