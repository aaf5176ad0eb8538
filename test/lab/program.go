package lab

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
)

// Program runs f as a test outside of the testing package, for a program whose main has called [Enter]. What f
// logs goes to standard error. Cleanups run when f has returned or ended itself by Fatalf or Skipf. The result
// is an exit code: 0, or 1 if f failed or was skipped. A panic in f ends the program, and with it the lab.
func Program(name string, f func(t TB)) int {
	p := &program{name: name, out: os.Stderr}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer p.cleanUp()
		f(p)
	}()
	<-done
	if p.failed {
		return 1
	}
	return 0
}

type program struct {
	name string
	out  io.Writer

	mu       sync.Mutex
	failed   bool
	cleanups []func()
}

func (p *program) cleanUp() {
	for {
		p.mu.Lock()
		n := len(p.cleanups)
		if n == 0 {
			p.mu.Unlock()
			return
		}
		f := p.cleanups[n-1]
		p.cleanups = slices.Delete(p.cleanups, n-1, n)
		p.mu.Unlock()
		f()
	}
}

func (p *program) Helper()      {}
func (p *program) Name() string { return p.name }

func (p *program) Logf(format string, args ...any) {
	fmt.Fprintf(p.out, format+"\n", args...)
}

func (p *program) Errorf(format string, args ...any) {
	p.Logf(format, args...)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = true
}

func (p *program) Fatalf(format string, args ...any) {
	p.Errorf(format, args...)
	runtime.Goexit()
}

func (p *program) Skipf(format string, args ...any) { p.Fatalf(format, args...) }

func (p *program) Failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

func (p *program) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}
