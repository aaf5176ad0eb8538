package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"time"
)

// errorBody is how an error travels.
type errorBody struct {
	Error *Error `json:"error"`
}

// handler routes the requests. Each one is documented in docs/api.md.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	wait := func(pattern string, answer func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, answer) })
	}
	read := func(pattern string, answer func(r *http.Request) (any, error)) {
		wait(pattern, func(r *http.Request) (any, error) {
			ctx, cancel := context.WithTimeout(r.Context(), workTimeout)
			defer cancel()
			return answer(r.WithContext(ctx))
		})
	}
	change := func(pattern string, answer func(r *http.Request) (any, error)) {
		read(pattern, func(r *http.Request) (any, error) {
			if !callerOf(r.Context()).change {
				return nil, s.denied()
			}
			return answer(r)
		})
	}

	read("GET /v1/status", func(r *http.Request) (any, error) {
		v, err := s.ctrl.Status(r.Context())
		v.Bases, v.Warnings = list(v.Bases), list(v.Warnings)
		return v, err
	})
	read("GET /v1/id", func(r *http.Request) (any, error) { return s.ctrl.ID(r.Context()) })
	read("GET /v1/peers", func(r *http.Request) (any, error) {
		v, err := s.ctrl.Peers(r.Context())
		return list(v), err
	})
	read("GET /v1/whitelist", func(r *http.Request) (any, error) {
		v, err := s.ctrl.Whitelist(r.Context())
		v.Entries = list(v.Entries)
		return v, err
	})
	read("GET /v1/hosts", func(r *http.Request) (any, error) {
		v, err := s.ctrl.Hosts(r.Context())
		return list(v), err
	})
	read("GET /v1/resolve/{name}", func(r *http.Request) (any, error) {
		return s.resolve(r.Context(), r.PathValue("name"))
	})
	doctor := func(r *http.Request, peer netip.Addr) (any, error) {
		v, err := s.ctrl.Doctor(r.Context(), peer)
		v.Checks = list(v.Checks)
		return v, err
	}
	read("GET /v1/doctor", func(r *http.Request) (any, error) { return doctor(r, netip.Addr{}) })
	read("GET /v1/doctor/{peer}", func(r *http.Request) (any, error) {
		peer, err := s.peer(r.Context(), r.PathValue("peer"))
		if err != nil {
			return nil, err
		}
		return doctor(r, peer)
	})
	read("GET /v1/traffic", func(r *http.Request) (any, error) { return s.traffic(r, "") })
	read("GET /v1/traffic/{peer}", func(r *http.Request) (any, error) { return s.traffic(r, r.PathValue("peer")) })
	wait("POST /v1/ping", s.ping)
	wait("POST /v1/connect", s.connect)
	mux.HandleFunc("GET /v1/events", s.events)

	change("POST /v1/whitelist", func(r *http.Request) (any, error) {
		var add WhitelistAdd
		if err := receive(r, &add); err != nil {
			return nil, err
		}
		return s.ctrl.WhitelistAdd(r.Context(), add)
	})
	change("DELETE /v1/whitelist/{peer}", func(r *http.Request) (any, error) {
		peer, err := s.peer(r.Context(), r.PathValue("peer"))
		if err != nil {
			return nil, err
		}
		return s.ctrl.WhitelistRemove(r.Context(), peer)
	})
	change("PUT /v1/whitelist/enabled", func(r *http.Request) (any, error) {
		var req enableRequest
		if err := receive(r, &req); err != nil {
			return nil, err
		}
		return nil, s.ctrl.WhitelistEnable(r.Context(), *req.Enabled)
	})
	change("POST /v1/hosts", func(r *http.Request) (any, error) {
		var add HostAdd
		if err := receive(r, &add); err != nil {
			return nil, err
		}
		return s.ctrl.HostAdd(r.Context(), add)
	})
	change("DELETE /v1/hosts/{name}", func(r *http.Request) (any, error) {
		return s.ctrl.HostRemove(r.Context(), r.PathValue("name"))
	})
	change("POST /v1/down", func(r *http.Request) (any, error) { return nil, s.ctrl.Down(r.Context()) })

	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, func(*http.Request) (any, error) {
			return nil, &Error{Code: CodeNotFound, Text: "hnetd does not know " + r.Method + " " + r.URL.Path, Fix: "update hnetd, which may be older than this program"}
		})
	})
	return s.guard(mux)
}

// guard refuses what no client of ours sends, such as anything a browser was tricked into, and takes the body
// in under a limit in size and time, so that what follows waits for nobody.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := s.admit(w, r)
		if err != nil {
			w.Header().Set("Connection", "close")
			s.answer(w, r, func(*http.Request) (any, error) { return nil, err })
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

func (s *Server) admit(w http.ResponseWriter, r *http.Request) (body []byte, err error) {
	hasBody := r.Method == http.MethodPost || r.Method == http.MethodPut
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case callerOf(r.Context()).busy:
		return nil, errBusy
	case r.Host != hostName && r.Host != "localhost":
		return nil, badRequest("the Host of a request must be "+hostName, "")
	case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "":
		return nil, badRequest("requests of web pages are not answered", "")
	case !hasBody && r.ContentLength != 0:
		return nil, badRequest("a "+r.Method+" request has no body", "")
	case !hasBody:
		return nil, nil
	case mediaType != "application/json":
		return nil, badRequest("the Content-Type of a request must be application/json", "")
	}
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	defer rc.SetReadDeadline(time.Time{})
	body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return nil, &Error{Code: CodeTooLarge, Text: fmt.Sprintf("the request is longer than %d bytes", tooLong.Limit), Fix: "send less"}
	}
	if err != nil {
		return nil, badRequest("the request did not arrive whole", "send it within "+bodyTimeout.String())
	}
	return body, nil
}

// hostName is the Host of the API's requests.
const hostName = "hnetd"

// receive reads and judges a request's body.
func receive(r *http.Request, v interface{ check() error }) error {
	if err := decode(r.Body, v); err != nil {
		return err
	}
	return v.check()
}

// answer runs one request and writes what comes of it. Without a value the answer is an empty object.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, do func(*http.Request) (any, error)) {
	v, err := do(r)
	status := http.StatusOK
	switch {
	case err != nil:
		e := asError(err)
		status, v = e.status(), errorBody{e}
		s.log.Debug("local request failed", "method", r.Method, "path", r.URL.Path, "uid", callerOf(r.Context()).UID, "code", e.Code, "cause", e.Text)
	case v == nil:
		v = struct{}{}
	}
	body, err := json.Marshal(v)
	if err != nil {
		status = http.StatusInternalServerError
		body, _ = json.Marshal(errorBody{&Error{Code: CodeFailed, Text: "cannot put the answer into JSON: " + err.Error()}})
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(replyTimeout))
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

func (s *Server) denied() error {
	e := &Error{Code: CodeDenied, Text: "only root and members of group " + Group + " may change this", Fix: "use sudo, or 'sudo usermod -aG " + Group + " $USER' and log in again"}
	if _, ok := s.group(); !ok {
		e.Text, e.Fix = "only root may change this, as there is no group "+Group, "use sudo, or create the group with 'sudo hnet service-install'"
	}
	return e
}

// resolve answers for an address without asking when it lies outside the overlay.
func (s *Server) resolve(ctx context.Context, name string) (HostEntry, error) {
	if _, _, err := parsePeer(name); err != nil {
		return HostEntry{}, err
	}
	if len(name) > maxName {
		return HostEntry{}, badRequest("longer than a name can be", "")
	}
	return s.ctrl.Resolve(ctx, name)
}

// peer reads PEER: an address or a hostname.
func (s *Server) peer(ctx context.Context, text string) (netip.Addr, error) {
	a, isAddress, err := parsePeer(text)
	if err != nil || isAddress {
		return a, err
	}
	host, err := s.resolve(ctx, text)
	return host.Address, err
}

// waiting reads a request that may take long and gives it the time it asks for.
func (s *Server) waiting(r *http.Request) (peer netip.Addr, timeout time.Duration, err error) {
	var req waitRequest
	if err := receive(r, &req); err != nil {
		return peer, 0, err
	}
	peer, err = s.peer(r.Context(), req.Peer)
	return peer, req.timeout(), err
}

func (s *Server) ping(r *http.Request) (any, error) {
	peer, timeout, err := s.waiting(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	return s.ctrl.Ping(ctx, peer, timeout)
}

func (s *Server) connect(r *http.Request) (any, error) {
	peer, timeout, err := s.waiting(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	return s.ctrl.Connect(ctx, peer)
}

// list makes an empty list of none, since JSON would call it null.
func list[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}
