package clock

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

// childEnv makes the test binary the process that TestKilled kills.
const childEnv = "HNET_CLOCK_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		stampForever(path)
	}
	os.Exit(m.Run())
}

func open(t *testing.T, path string, log *slog.Logger) *Clock {
	t.Helper()
	c, err := Open(path, log)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func stored(t *testing.T, path string) uint64 {
	t.Helper()
	bound, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	return bound
}

func TestStoresAheadInTheBackground(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	synctest.Test(t, func(t *testing.T) {
		c := open(t, path, slog.New(slog.DiscardHandler))
		first := stored(t, path)
		if ahead := time.Duration(first - nanoseconds(time.Now())); ahead != Ahead {
			t.Errorf("stored %v ahead, want %v", ahead, Ahead)
		}
		time.Sleep(29 * time.Minute)
		c.Now()
		if c.settle(); stored(t, path) != first {
			t.Error("stored again after 29 minutes")
		}
		time.Sleep(2 * time.Minute)
		if got := c.Now(); !got.Equal(time.Now()) {
			t.Errorf("%v at %v", got, time.Now())
		}
		c.settle()
		if ahead := time.Duration(stored(t, path) - nanoseconds(time.Now())); ahead != Ahead {
			t.Errorf("after 31 minutes it is stored %v ahead, want %v", ahead, Ahead)
		}
		// Asleep for a day: what is past the bound waits until a new one is stored.
		time.Sleep(24 * time.Hour)
		if got := c.Sequence(); got >= stored(t, path) {
			t.Errorf("%d is used, stored is only %d", got, stored(t, path))
		}
	})
}

func TestRestartContinues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	// 50 years ahead of the clock of this test.
	future := nanoseconds(time.Now().Add(50 * 365 * 24 * time.Hour))
	if err := os.WriteFile(path, marshal(future), 0o600); err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	for range 3 {
		c := open(t, path, slog.New(slog.DiscardHandler))
		for range 3 {
			next := c.Sequence()
			if next < future || next < last+uint64(Step) {
				t.Fatalf("after %d comes %d, %d was stored", last, next, future)
			}
			last = next
		}
	}
}

// TestCloseGivesTheRestBack: a node that is restarted often must not run ahead of its clock by an hour each time.
func TestCloseGivesTheRestBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	synctest.Test(t, func(t *testing.T) {
		start, last := time.Now(), uint64(0)
		for range 50 {
			c := open(t, path, slog.New(slog.DiscardHandler))
			for range 3 {
				next := c.Sequence()
				if next < last+uint64(Step) {
					t.Fatalf("after %d comes %d", last, next)
				}
				last = next
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if bound := stored(t, path); last >= bound {
				t.Fatalf("%d was used, stored is only %d", last, bound)
			}
			if after := c.Sequence(); after < last+uint64(Step) || after >= stored(t, path) {
				t.Fatalf("after Close %d comes %d, stored is %d", last, after, stored(t, path))
			} else {
				last = after
				c.Close()
			}
		}
		if ahead := time.Duration(last - nanoseconds(start)); ahead > time.Minute {
			t.Errorf("50 restarts took the timestamps %v ahead", ahead)
		}
	})
}

func TestUnwritableFolderIsAWarning(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "clock")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := open(t, path, slog.New(slog.NewTextHandler(&log, nil)))
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		last := c.Now()
		for range 100 {
			time.Sleep(time.Hour)
			next := c.Now()
			if next.Sub(last) < Step {
				t.Fatalf("after %v comes %v", last, next)
			}
			last = next
		}
		c.settle()
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), path) || !strings.Contains(log.String(), "fix=") {
			t.Errorf("%d warnings, want 1:\n%s", n, &log)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := c.Sequence(); got >= stored(t, path) {
			t.Errorf("the folder is back: %d is used, stored is %d", got, stored(t, path))
		}
	})
}

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	good := string(marshal(nanoseconds(today)))
	for _, content := range []string{
		"", "x", strings.TrimSuffix(good, "\n"), good[1:], good + good, fileHeader + "-1\n", fileHeader + "+1\n", fileHeader + "01\n",
		fileHeader + "18446744073709551615\n", fileHeader + "99999999999999999999\n", strings.Repeat("1", 1000),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path, slog.New(slog.DiscardHandler))
		if !errors.Is(err, statefile.ErrDamaged) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", content, err)
		}
		if b, _ := os.ReadFile(path); string(b) != content {
			t.Errorf("%q was changed to %q", content, b)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "clock"), slog.New(slog.DiscardHandler))
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				n := c.Sequence()
				mu.Lock()
				if seen[n] {
					t.Errorf("%d twice", n)
				}
				seen[n] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// stampForever takes timestamps until it is killed, and tells each.
func stampForever(path string) {
	c, err := Open(path, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		fmt.Println(c.Sequence())
	}
}

// Each run begins after all that the killed ones before it gave out. The first file is of the year 2100, so that the
// machine's clock is always behind.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(path, marshal(nanoseconds(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))), 0o600); err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	for i := range 100 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), childEnv+"="+path)
		c.Stderr = os.Stderr
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		// The moment of the kill is what the test is about, so it is random and not waited for.
		var timer *time.Timer
		count := 0
		for lines := bufio.NewScanner(out); lines.Scan(); count++ {
			var next uint64
			if _, err := fmt.Sscan(lines.Text(), &next); err != nil {
				t.Fatal(err)
			}
			if next < last+uint64(Step) {
				t.Fatalf("run %d: after %d comes %d", i, last, next)
			}
			last = next
			if timer == nil {
				timer = time.AfterFunc(time.Duration(rand.Int64N(int64(5*time.Millisecond))), func() { _ = c.Process.Kill() })
			}
		}
		_ = c.Wait()
		if count == 0 {
			t.Fatalf("run %d gave out nothing", i)
		}
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add(marshal(0))
	f.Add(marshal(nanoseconds(today)))
	f.Add([]byte(fileHeader + "18446744073709551615\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		bound, err := parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(marshal(bound), b) {
			t.Fatalf("accepted %q", b)
		}
		d := &disk{t: t, stored: bound, reserve: New(bound)}
		if first := d.now(time.Time{}, true); uint64(first.UnixNano()) < bound {
			t.Fatalf("%v is before the stored bound %d", first, bound)
		}
		d.now(today, true)
	})
}

func BenchmarkNow(b *testing.B) {
	c, err := Open(filepath.Join(b.TempDir(), "clock"), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c.Now()
	}
}
