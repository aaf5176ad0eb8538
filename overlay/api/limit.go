package api

import (
	"context"
	"net"
	"sync"
)

// Limits of the server. Those who may only read cannot use up the last few places, nor one of them all.
const (
	maxConns        = 64
	maxStreams      = 32
	reservedConns   = 8
	reservedStreams = 4
	lobby           = 8  // connections beyond the limits that are told so; the rest are closed without a word
	perUser         = 24 // connections of one user who may only read
)

// caller is one connection's other end.
type caller struct {
	Credentials
	change bool // may change things, as judged when it connected
	busy   bool // is beyond the limits, and only to be told so
}

type callerKey struct{}

// callerOf returns whose connection a request came by; without one, a nobody.
func callerOf(ctx context.Context) caller {
	if c, ok := ctx.Value(callerKey{}).(caller); ok {
		return c
	}
	return caller{Credentials: Credentials{UID: nobody, GID: nobody}}
}

const nobody = 65534

// limitListener admits a bounded number of connections.
type limitListener struct {
	net.Listener
	server *Server

	mu    sync.Mutex
	conns int
	users map[uint32]int
	lobby int
}

// limitConn gives its place back when it closes.
type limitConn struct {
	net.Conn
	caller caller
	close  func() error
}

func (c *limitConn) Close() error { return c.close() }

// Accept returns the next connection that is within the limits, with its caller known.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uc, ok := conn.(*net.UnixConn)
		if !ok {
			conn.Close()
			continue
		}
		cred, err := l.server.credentials(uc)
		if err != nil {
			l.server.log.Warn("a local connection was refused", "cause", err, "fix", "report this: the kernel must support SO_PEERGROUPS (Linux 4.13)")
			conn.Close()
			continue
		}
		who := caller{Credentials: cred, change: l.server.mayChange(cred)}
		if !l.take(&who) {
			conn.Close()
			continue
		}
		return &limitConn{Conn: conn, caller: who, close: sync.OnceValue(func() error {
			l.giveBack(who)
			return conn.Close()
		})}, nil
	}
}

// take gives a place, in the lobby if need be.
func (l *limitListener) take(who *caller) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	who.busy = l.conns >= maxConns || !who.change && (l.conns >= maxConns-reservedConns || l.users[who.UID] >= perUser)
	switch {
	case who.busy && l.lobby >= lobby:
		return false
	case who.busy:
		l.lobby++
		return true
	}
	l.conns++
	if !who.change {
		l.users[who.UID]++
	}
	return true
}

func (l *limitListener) giveBack(who caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if who.busy {
		l.lobby--
		return
	}
	l.conns--
	if who.change {
		return
	}
	if l.users[who.UID]--; l.users[who.UID] == 0 {
		delete(l.users, who.UID)
	}
}

var errBusy = &Error{Code: CodeBusy, Text: "hnetd has too many local connections", Fix: "end some programs that use it (hnet peers --watch), then try again"}
