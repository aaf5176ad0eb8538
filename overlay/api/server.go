package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Times of the server.
const (
	headerTimeout = 5 * time.Second  // for a request's header to arrive
	bodyTimeout   = 5 * time.Second  // for its body
	workTimeout   = 30 * time.Second // for it to be carried out, unless it is one that waits
	replyTimeout  = 10 * time.Second // for its answer to be taken
	idleTimeout   = 60 * time.Second // between requests
	eventTimeout  = 10 * time.Second // for a reader of events to take one
	endTimeout    = 2 * time.Second  // for requests under way when the daemon stops
	maxWait       = 10 * time.Minute // longest timeout a request may ask for
	maxHeader     = 8 << 10
	maxBody       = 64 << 10
)

// Options are what a [Server] needs besides its controller. The zero Options are right for hnetd.
type Options struct {
	Log *slog.Logger // nil: slog.Default
	// Credentials tells who is at the other end of a connection; nil asks the kernel.
	Credentials func(*net.UnixConn) (Credentials, error)
	// Group finds the gid of [Group]; nil asks the system.
	Group func() (gid uint32, ok bool)
}

// Server serves a [Controller] on a Unix socket.
type Server struct {
	ctrl        Controller
	log         *slog.Logger
	credentials func(*net.UnixConn) (Credentials, error)
	group       func() (uint32, bool)
	uid         uint32 // the daemon's own

	mu      sync.Mutex
	streams int // of events, open
}

// NewServer makes a server; [Server.Serve] runs it.
func NewServer(ctrl Controller, opt Options) *Server {
	s := &Server{ctrl: ctrl, log: opt.Log, credentials: opt.Credentials, group: opt.Group, uid: uint32(os.Geteuid())}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.credentials == nil {
		s.credentials = peerCredentials
	}
	if s.group == nil {
		s.group = lookupGroup
	}
	return s
}

// Serve answers on l until ctx ends, then lets requests under way finish for a moment and closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	hs := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if lc, ok := c.(*limitConn); ok {
				return context.WithValue(ctx, callerKey{}, lc.caller)
			}
			return ctx
		},
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		if hs.Shutdown(end) != nil {
			hs.Close()
		}
	})
	err := hs.Serve(&limitListener{Listener: l, server: s, users: make(map[uint32]int)})
	if !stop() {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	l.Close()
	return err
}
