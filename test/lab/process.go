package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	runTimeout  = 60 * time.Second
	stopTimeout = 10 * time.Second
	maxLine     = 4096
	maxLines    = 20000
)

// Run runs a command on the host to its end and returns what it wrote to standard output and standard error.
// The test fails, with that output, if it exits with another code than 0 or takes longer than a minute.
func (h *Host) Run(t TB, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	cmd := h.Command(ctx, name, args...)
	cmd.WaitDelay = stopTimeout // for what it left behind with its output; on a busy machine this process may take a second to read the rest
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %v", runTimeout)
	}
	if err != nil {
		t.Fatalf("%s: %s: %v\n%s", h.name, commandLine(name, args), err, out)
	}
	return string(out)
}

func commandLine(name string, args []string) string {
	return strings.Join(append([]string{name}, args...), " ")
}

// Process is a program that runs on a host, at the longest until the end of the test that started it.
type Process struct {
	t     TB
	title string
	cmd   *exec.Cmd
	done  chan struct{} // closed when it has ended
	err   error         // of its end; valid after done

	mu      sync.Mutex
	partial []byte
	lines   []string
	dropped int           // lines that are no longer kept
	next    int           // the line, counted from the first ever, where WaitLine goes on
	more    chan struct{} // closed and replaced when lines grow
}

// Start starts a program on the host. It is stopped at the end of the test, and its output, standard output and
// standard error together, goes to the log of a test that failed. It has no standard input.
func (h *Host) Start(t TB, name string, args ...string) *Process {
	t.Helper()
	return h.StartCmd(t, h.Command(context.Background(), name, args...))
}

// StartCmd is Start for a command of [Host.Command] that has been given an environment or a folder before.
func (h *Host) StartCmd(t TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, title: h.name + ": " + strings.Join(cmd.Args[3:], " "), cmd: cmd, done: make(chan struct{}), more: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	// A group of its own, so that what the program starts is ended with it.
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", p.title, err)
	}
	go func() {
		p.err = cmd.Wait()
		p.endLine()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("output of %s:\n%s", p.title, p.Output())
		}
	})
	return p
}

// Write takes the program's output; it is there for exec.Cmd.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range b {
		switch {
		case c == '\n':
			p.addLine()
			continue
		case len(p.partial) == maxLine:
			p.addLine() // too long for one
		}
		p.partial = append(p.partial, c)
	}
	return len(b), nil
}

func (p *Process) addLine() {
	if len(p.lines) == maxLines {
		p.lines = append(p.lines[:0], p.lines[maxLines/2:]...)
		p.dropped += maxLines / 2
	}
	p.lines = append(p.lines, strings.TrimSuffix(string(p.partial), "\r"))
	p.partial = p.partial[:0]
	close(p.more)
	p.more = make(chan struct{})
}

func (p *Process) endLine() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.partial) > 0 {
		p.addLine()
	}
}

// WaitLine waits for a line of output that matches, and returns it. The search begins behind the line that the
// call before returned, so that a sequence of calls finds a sequence of lines. The test fails if there is none
// within the time, or if the program ends without it.
func (p *Process) WaitLine(re string, timeout time.Duration) string {
	p.t.Helper()
	line, err := p.waitLine(regexp.MustCompile(re), timeout)
	if err != nil {
		p.t.Fatalf("%s: no line like %q: %v; output:\n%s", p.title, re, err, p.Output())
	}
	return line
}

func (p *Process) waitLine(re *regexp.Regexp, timeout time.Duration) (string, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	ended := false
	for {
		line, more, ok := p.find(re)
		switch {
		case ok:
			return line, nil
		case ended:
			return "", errors.New("the program has ended")
		}
		select {
		case <-more:
		case <-p.done:
			ended = true // all output is there now: look once more
		case <-timer.C:
			return "", fmt.Errorf("not within %v", timeout)
		}
	}
}

func (p *Process) find(re *regexp.Regexp) (line string, more <-chan struct{}, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := max(p.next-p.dropped, 0); i < len(p.lines); i++ {
		p.next = p.dropped + i + 1
		if re.MatchString(p.lines[i]) {
			return p.lines[i], p.more, true
		}
	}
	return "", p.more, false
}

// Output returns all lines of output so far; of more than 20,000 lines, the last ones.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	if p.dropped > 0 {
		fmt.Fprintf(&b, "(%d lines left out)\n", p.dropped)
	}
	for _, line := range p.lines {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	b.Write(p.partial)
	return b.String()
}

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended and all its output is there.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits until the program has ended by itself and returns its exit code, -1 if a signal ended it. The
// test fails if that takes longer than the time.
func (p *Process) Wait(timeout time.Duration) int {
	p.t.Helper()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.t.Fatalf("%s: still running after %v; output:\n%s", p.title, timeout, p.Output())
	}
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal to the program alone; one that has ended does not mind.
func (p *Process) Signal(s unix.Signal) { p.cmd.Process.Signal(s) }

// Stop ends the program with SIGTERM, and whatever it has started with SIGKILL, and waits. A program that is
// still there after 10 s is killed, and the test fails.
func (p *Process) Stop() {
	p.t.Helper()
	if p.ended() {
		return
	}
	p.Signal(unix.SIGTERM)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.t.Errorf("%s: did not end within %v of SIGTERM", p.title, stopTimeout)
	}
	p.killGroup()
}

// Kill9 kills the program and what it has started, and waits until it is gone.
func (p *Process) Kill9() {
	if !p.ended() {
		p.killGroup()
	}
}

func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *Process) killGroup() {
	unix.Kill(-p.PID(), unix.SIGKILL)
	<-p.done
}
