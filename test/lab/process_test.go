package lab

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeTB is a test that records instead of failing.
type fakeTB struct {
	program
	log strings.Builder
}

// judge runs f as a test and returns whether it failed, and what it logged.
func judge(f func(t TB)) (failed bool, log string) {
	b := &fakeTB{}
	b.out = &b.log
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer b.cleanUp()
		f(b)
	}()
	<-done
	return b.failed, b.log.String()
}

func TestWaitLine(t *testing.T) {
	a := New(t).Host("a")
	p := a.Start(t, "sh", "-c", "echo one; echo two >&2; printf three; echo; printf end")
	for _, want := range []string{"one", "two", "three", "end"} {
		if got := p.WaitLine(want[:2], 10*time.Second); got != want {
			t.Errorf("got line %q, want %q", got, want)
		}
	}
	if code := p.Wait(10 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got, want := p.Output(), "one\ntwo\nthree\nend\n"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	if _, err := p.waitLine(regexp.MustCompile("one"), time.Minute); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("a line before the last one found: %v, want an error at once", err)
	}
	sleeping := a.Start(t, "sleep", "1000")
	if _, err := sleeping.waitLine(regexp.MustCompile("one"), 10*time.Millisecond); err == nil || !strings.Contains(err.Error(), "not within") {
		t.Errorf("a line of a silent program: %v", err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	a := New(t).Host("a")
	p := a.Start(t, "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo; seq 50000; echo last")
	p.WaitLine("^last$", 20*time.Second)
	p.Wait(10 * time.Second)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lines) > maxLines || p.lines[len(p.lines)-1] != "last" || p.dropped+len(p.lines) != 50001+100000/maxLine+1 {
		t.Errorf("%d lines kept, %d dropped, the last is %q", len(p.lines), p.dropped, p.lines[len(p.lines)-1])
	}
}

func TestEndings(t *testing.T) {
	a := New(t).Host("a")
	alive := func(pid int) bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && !strings.Contains(string(stat), ") Z ")
	}
	const family = `trap 'echo caught; exit 4' TERM; sleep 1000 & echo child $!; wait; wait`
	for _, test := range []struct {
		name string
		end  func(*Process)
		code int
		out  string
	}{
		{"stop", (*Process).Stop, 4, "caught"},
		{"kill", (*Process).Kill9, -1, ""},
		{"signal", func(p *Process) { p.Signal(unix.SIGTERM); p.WaitLine("caught", 10*time.Second); p.Stop() }, 4, "caught"},
		{"twice", func(p *Process) { p.Stop(); p.Stop(); p.Kill9(); p.Signal(unix.SIGTERM) }, 4, "caught"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := a.Start(t, "sh", "-c", family)
			var pid int
			if _, err := fmt.Sscanf(p.WaitLine("^child", 10*time.Second), "child %d", &pid); err != nil || !alive(pid) {
				t.Fatalf("no child: %v", err)
			}
			test.end(p)
			if code := p.Wait(time.Second); code != test.code || !strings.Contains(p.Output(), test.out) {
				t.Errorf("exit code %d, output %q", code, p.Output())
			}
			Eventually(t, 5*time.Second, "the program's child is dead", func() error {
				if alive(pid) {
					return fmt.Errorf("process %d is alive", pid)
				}
				return nil
			})
		})
	}
}

func TestFailuresAreReported(t *testing.T) {
	a := New(t).Host("a")
	for _, test := range []struct {
		name string
		f    func(t TB)
		want string
	}{
		{"exit code", func(t TB) { a.Run(t, "sh", "-c", "echo why; exit 5") }, "exit status 5\nwhy"},
		{"no program", func(t TB) { a.Run(t, "no-such-program") }, "cannot run no-such-program on a: exec: \"no-such-program\": executable file not found"},
		{"line", func(t TB) { a.Start(t, "echo", "that").WaitLine("this", time.Minute) }, "no line like \"this\": the program has ended; output:\nthat"},
		{"log", func(t TB) { a.Start(t, "echo", "said").Wait(time.Minute); t.Errorf("x") }, "output of a: echo said:\nsaid"},
		{"eventually", func(t TB) {
			Eventually(t, 5*time.Millisecond, "it rains", func() error { return fmt.Errorf("dry") })
		}, "it rains: not within 5ms: dry"},
		{"name taken", func(t TB) { l := New(t); l.Host("x"); l.Host("x") }, `there is a host "x" already`},
		{"device", func(t TB) { l := New(t); l.Host("x").Addr4("lan0") }, "IPv4 address of lan0 on x: Link not found"},
		{"twice on a LAN", func(t TB) { l := New(t); x := l.Host("x"); l.LAN(Link{}, x, x) }, "x is plugged in already"},
		{"rules", func(t TB) { New(t).Router("r").Rules(t, "nonsense") }, "rules of r: exit status 1"},
		{"no frame", func(t TB) {
			New(t).Host("x").Capture(t, "lo").Wait(time.Millisecond, "rain", func(Frame) bool { return true })
		}, "no frame within 1ms: rain"},
	} {
		failed, log := judge(test.f)
		if !failed || !strings.Contains(log, test.want) {
			t.Errorf("%s: failed %v, log %q, want %q", test.name, failed, log, test.want)
		}
	}
	if failed, log := judge(func(t TB) { a.Run(t, "true") }); failed || log != "" {
		t.Errorf("a test that is well: failed %v, log %q", failed, log)
	}
}

func TestCommandContext(t *testing.T) {
	a := New(t).Host("a")
	ctx, cancel := context.WithCancel(t.Context())
	cmd := a.Command(ctx, "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("the command ended well")
	}
}
