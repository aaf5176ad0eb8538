package api

import (
	"encoding/json"
	"net/http"
	"time"
)

// events streams what happens, one JSON object per line, until the reader leaves or proves too slow.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if !s.takeStream(callerOf(r.Context()).change) {
		s.answer(w, r, func(*http.Request) (any, error) {
			return nil, &Error{Code: CodeBusy, Text: "hnetd serves as many event streams as it can", Fix: "end some programs that watch (hnet peers --watch), then try again"}
		})
		return
	}
	defer s.giveStreamBack()

	events := s.ctrl.Subscribe(r.Context())
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	// The header goes out once the subscription stands: whoever has read it misses nothing that comes after.
	rc.SetWriteDeadline(time.Now().Add(eventTimeout))
	w.WriteHeader(http.StatusOK)
	if rc.Flush() != nil {
		return
	}
	out := json.NewEncoder(w)
	for ev := range events {
		rc.SetWriteDeadline(time.Now().Add(eventTimeout))
		if err := out.Encode(ev); err != nil {
			s.log.Debug("event reader cut", "uid", callerOf(r.Context()).UID, "pid", callerOf(r.Context()).PID, "cause", err)
			return
		}
		// What is queued goes out together.
		if len(events) == 0 && rc.Flush() != nil {
			return
		}
	}
}

func (s *Server) takeStream(change bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams >= maxStreams || !change && s.streams >= maxStreams-reservedStreams {
		return false
	}
	s.streams++
	return true
}

func (s *Server) giveStreamBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams--
}
