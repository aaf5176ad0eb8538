package server

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
)

// arrived takes one datagram of a client, or of anybody, that is not to be relayed. hops is as in wire.WelcomePayload.
func (s *Server) arrived(now time.Time, at *route, hops uint8, b []byte) {
	switch wire.TypeOf(b) {
	case wire.TypeControl:
		s.control(now, at, hops, b)
	case wire.TypeHello:
		s.hello(now, at, b)
	case wire.TypeRegister:
		s.admit(now, at, hops, b)
	default:
		if at.conn == nil && stun.IsMessage(b) {
			s.binding(now, at, b)
			return
		}
		s.stats.Malformed.Add(1)
	}
}

// binding answers a STUN Binding request.
func (s *Server) binding(now time.Time, at *route, b []byte) {
	id, ok := stun.ParseRequest(b)
	if !ok {
		s.stats.Malformed.Add(1)
		return
	}
	if !s.bindings.take(s.nano(now), at.remote.Addr()) {
		s.stats.RefusedRate.Add(1)
		return
	}
	s.stats.STUN.Add(1)
	s.egress.post(at, stun.AppendSuccess(make([]byte, 0, stun.SuccessLen6), id, at.remote))
}

// hello answers a hello with a cookie and keeps nothing.
func (s *Server) hello(now time.Time, at *route, b []byte) {
	if s.draining.Load() {
		s.stats.RefusedDraining.Add(1)
		return
	}
	if !s.hellos.take(s.nano(now), at.remote.Addr()) {
		s.stats.RefusedRate.Add(1)
		return
	}
	cookie, err := s.acceptor.HandleHello(now, b, at.remote)
	if err != nil {
		s.stats.Malformed.Add(1)
		return
	}
	s.stats.Hellos.Add(1)
	s.egress.post(at, cookie)
}

// unknown answers a datagram of a session that is not known, or not from there.
func (s *Server) unknown(now int64, at *route, b []byte) {
	s.stats.UnknownSession.Add(1)
	u, ok := wire.UnknownTo(b)
	if !ok || !s.unknowns.take(now, at.remote.Addr()) {
		return
	}
	s.egress.post(at, u.Append(make([]byte, 0, wire.UnknownLen)))
}

// control takes a control datagram.
func (s *Server) control(now time.Time, at *route, hops uint8, b []byte) {
	n := s.nano(now)
	s.mu.Lock()
	// Opening costs more than looking up, so it is rationed first: by client at its own endpoint, by prefix elsewhere.
	c := s.registry.find(binary.BigEndian.Uint32(b[4:]))
	switch {
	case c == nil:
		s.mu.Unlock()
		s.unknown(n, at, b)
		return
	case c.route.same(at) && !c.control.take(n, controlRate), !c.route.same(at) && !s.moves.take(n, at.remote.Addr()):
		s.mu.Unlock()
		s.stats.RefusedRate.Add(1)
		return
	}
	result := s.registry.receive(now, at, hops, b, s.proberTo)
	s.unlock()
	if result == unknown {
		s.unknown(n, at, b)
	}
}

// application is a register that waits for its Diffie-Hellman.
type application struct {
	at   route
	hops uint8
	b    []byte
}

// admit takes a register as far as it is cheap, and leaves the rest to a worker.
func (s *Server) admit(now time.Time, at *route, hops uint8, b []byte) {
	if s.draining.Load() {
		s.stats.RefusedDraining.Add(1)
		return
	}
	ephemeral, err := s.acceptor.Check(now, b, at.remote)
	if err != nil {
		s.stats.RefusedCookie.Add(1)
		return
	}
	if !s.registers.take(s.nano(now), at.remote.Addr()) {
		s.stats.RefusedRate.Add(1)
		return
	}
	s.mu.RLock()
	repeated := s.registry.repeated(at, ephemeral)
	room := s.registry.mayRegister(prefixOf(at.remote.Addr()))
	s.mu.RUnlock()
	switch {
	case repeated:
		s.stats.Repeated.Add(1)
	case !room:
		s.stats.RefusedFull.Add(1)
	case s.inline:
		s.register(now, &application{*at, hops, b})
	default:
		select {
		case s.applications <- application{*at, hops, append([]byte(nil), b...)}:
		default:
			s.stats.RefusedBusy.Add(1)
		}
	}
}

// register judges a register and installs the registration. It takes four Diffie-Hellman and a signature check, all outside the lock.
func (s *Server) register(now time.Time, a *application) {
	reg, err := s.acceptor.HandleRegister(now, a.b, a.at.remote)
	if err != nil {
		if errors.Is(err, session.ErrCookie) {
			s.stats.RefusedCookie.Add(1)
		} else {
			s.stats.RefusedHandshake.Add(1)
		}
		return
	}
	address := reg.Key.Address()
	if s.cfg.Admit != nil && !s.cfg.Admit(address) {
		s.stats.RefusedAdmission.Add(1)
		return
	}
	s.mu.Lock()
	if known := s.registry.known[addressOf(address)]; known != nil && known.sequence > reg.Record.Sequence {
		s.mu.Unlock()
		s.stats.RefusedStale.Add(1)
		return
	}
	number, ok := s.registry.reserve(now)
	s.unlock()
	if !ok {
		s.stats.RefusedFull.Add(1)
		return
	}
	c := &client{
		address: addressOf(address), session: number, index: reg.Index, token: s.random(), route: &a.at, silence: s.silence(reg.MaxAge),
		prefix: prefixOf(a.at.remote.Addr()), key: keyOf(reg.Ephemeral),
		signed: reg.Signed, sequence: reg.Record.Sequence, lifetime: now.Add(reg.Record.Lifetime),
	}
	welcome, secured, err := reg.Accept(now, wire.WelcomePayload{
		Session: number, Token: c.token, Observed: a.at.remote, Hops: a.hops, AlternatePort: s.alternatePort(&a.at), Keep: c.silence,
		RelayRate: s.relayKbit(), MaxInterests: uint16(s.cfg.Limits.Interests),
	})
	s.mu.Lock()
	if err != nil || a.at.conn != nil && a.at.conn.closed.Load() {
		s.registry.release(number)
		s.mu.Unlock()
		s.stats.RefusedHandshake.Add(1)
		return
	}
	if a.at.conn != nil {
		secured.SetStream()
	}
	c.secured = secured
	s.registry.install(now, c)
	s.unlock()
	s.stats.Handshakes.Add(1)
	s.egress.post(&a.at, welcome)
}

// silence is how long a client may be silent, which wishes for a time of its own or not (0).
func (s *Server) silence(wish time.Duration) time.Duration {
	if wish == 0 {
		return s.cfg.Limits.Silence
	}
	return min(max(wish, shortestSilence), s.cfg.Limits.Silence)
}

// hopsOf guesses how many routers a datagram passed, from what was left of its TTL; 0 = not seen.
func hopsOf(ttl byte) uint8 {
	switch {
	case ttl == 0:
		return wire.HopsUnknown
	case ttl <= 64:
		return 64 - ttl
	case ttl <= 128:
		return 128 - ttl
	}
	return 255 - ttl
}
