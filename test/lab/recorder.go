package lab

import (
	"fmt"
	"sync"
)

// Recorder is a TB that keeps the first error, for programs that report what could not be tried. It is safe for concurrent use.
type Recorder struct {
	TB
	mu      sync.Mutex
	trouble string
}

// Trouble is the first error; empty without one.
func (r *Recorder) Trouble() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trouble
}

func (r *Recorder) note(format string, args []any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trouble == "" {
		r.trouble = fmt.Sprintf(format, args...)
	}
}

// Errorf keeps the error and passes it on.
func (r *Recorder) Errorf(format string, args ...any) {
	r.TB.Helper()
	r.note(format, args)
	r.TB.Errorf(format, args...)
}

// Fatalf keeps the error and passes it on.
func (r *Recorder) Fatalf(format string, args ...any) {
	r.TB.Helper()
	r.note(format, args)
	r.TB.Fatalf(format, args...)
}
