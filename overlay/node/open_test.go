package node

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// descriptors lists what this process has open, but for the runtime's own.
func descriptors(t *testing.T) map[string]int {
	t.Helper()
	open := make(map[string]int)
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(name, "/proc/") {
			continue // the one that lists them
		}
		kind, _, _ := strings.Cut(name, "[")
		open[kind]++
	}
	return open
}

// leakPatience is for goroutines that are about to end.
const leakPatience = 2 * time.Second

// TestFailedOpen: whatever step of the start fails leaves nothing behind, and once the cause is gone the same start succeeds.
func TestFailedOpen(t *testing.T) {
	write := func(t *testing.T, path, content string) (mend func()) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return func() { os.Remove(path) }
	}
	inState := func(name, content string) func(*testing.T, *Options, *fakeHost) func() {
		return func(t *testing.T, opt *Options, _ *fakeHost) func() {
			return write(t, filepath.Join(opt.Paths.State, name), content)
		}
	}
	for name, test := range map[string]struct {
		spoil func(*testing.T, *Options, *fakeHost) (mend func())
		words []string
	}{
		"state folder is a file": {func(t *testing.T, opt *Options, _ *fakeHost) func() { return write(t, opt.Paths.State, "") }, []string{"state folder", "not a directory"}},
		"state folder in use": {func(t *testing.T, opt *Options, _ *fakeHost) func() {
			other, _ := testOptions(t, io.Discard, nil)
			other.Paths.State = opt.Paths.State
			n, err := Open(other)
			if err != nil {
				t.Fatal(err)
			}
			return func() { end(t, n) }
		}, []string{"in use", fmt.Sprint(os.Getpid())}},
		"identity damaged":  {inState("identity", "yesterday"), []string{"identity", "backup"}},
		"whitelist damaged": {inState("whitelist.json", "{"), []string{"whitelist.json", "damaged", "backup"}},
		"names damaged":     {inState("hostnames.json", "{"), []string{"hostnames.json", "damaged", "backup"}},
		"own key as a peer": {func(t *testing.T, opt *Options, _ *fakeHost) func() {
			if err := os.Mkdir(opt.Paths.State, 0o700); err != nil {
				t.Fatal(err)
			}
			id, _, err := identity.LoadOrCreate(filepath.Join(opt.Paths.State, "identity"))
			if err != nil {
				t.Fatal(err)
			}
			opt.Config.Peers = []config.Peer{{Key: id.PublicKey()}}
			return func() { opt.Config.Peers = nil }
		}, []string{"hnet.yaml", "this node's own", "remove it"}},
		"run folder in use": {func(t *testing.T, opt *Options, _ *fakeHost) func() {
			other, _ := testOptions(t, io.Discard, nil)
			other.Paths.Run = opt.Paths.Run
			n, err := Open(other)
			if err != nil {
				t.Fatal(err)
			}
			return func() { end(t, n) }
		}, []string{"another hnetd", "hnetd.sock", "--run"}},
		"metrics port in use": {func(t *testing.T, opt *Options, _ *fakeHost) func() {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			opt.Config.Metrics = l.Addr().String()
			return func() { l.Close() }
		}, []string{"metrics", "127.0.0.1", "in use", "hnet.yaml"}},
		"UDP port in use": {func(t *testing.T, opt *Options, _ *fakeHost) func() {
			c, err := net.ListenUDP("udp6", &net.UDPAddr{})
			if err != nil {
				t.Fatal(err)
			}
			opt.Config.Port = uint16(c.LocalAddr().(*net.UDPAddr).Port)
			return func() { c.Close() }
		}, []string{"UDP port", "in use", "hnet.yaml", "ss -ulnp"}},
		"LAN discovery's port": {func(t *testing.T, opt *Options, _ *fakeHost) func() {
			opt.Config.Port, opt.Config.LANDiscovery = 5583, true
			return func() { opt.Config.Port = 0 }
		}, []string{"5583", "lan_discovery: false"}},
		"no device": {func(_ *testing.T, _ *Options, h *fakeHost) func() {
			h.open = func() (*os.File, error) { return nil, errFake }
			return func() { h.open = nil }
		}, []string{errFake.Error()}},
		"a device that is none": {func(t *testing.T, _ *Options, h *fakeHost) func() {
			h.open = func() (*os.File, error) { return os.Open(os.Args[0]) }
			return func() { h.open = nil }
		}, []string{"tun"}},
		"clock reserve is a folder": {func(t *testing.T, opt *Options, _ *fakeHost) func() {
			path := filepath.Join(opt.Paths.State, "clock")
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
			return func() { os.Remove(path) }
		}, []string{"clock", "is a directory"}},
	} {
		t.Run(name, func(t *testing.T) {
			opt, h := testOptions(t, io.Discard, nil)
			mend := test.spoil(t, &opt, h)
			runtime.GC() // closes what earlier tests gave up, and nothing from here on
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			files, goroutines := descriptors(t), runtime.NumGoroutine()
			n, err := Open(opt)
			if err == nil {
				end(t, n)
				t.Fatal("the node opened")
			}
			t.Log(err)
			if strings.Contains(err.Error(), "\n") {
				t.Error("the error has more than one line")
			}
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the error does not say %q: %v", word, err)
				}
			}
			if h.far != nil {
				h.far.Close()
				h.far = nil
			}
			for late := time.Now().Add(leakPatience); ; runtime.Gosched() {
				after := descriptors(t)
				leaked := runtime.NumGoroutine() - goroutines
				for kind, count := range after {
					leaked = max(leaked, count-files[kind])
				}
				if leaked <= 0 {
					break
				}
				if time.Now().After(late) {
					stacks := make([]byte, 1<<20)
					t.Fatalf("open before %v and %d goroutines, after %v and\n%s", files, goroutines, after, stacks[:runtime.Stack(stacks, true)])
				}
			}
			mend()
			if n, err = Open(opt); err != nil {
				t.Fatalf("once the cause is gone: %v", err)
			}
			end(t, n)
		})
	}
}

// TestRefusedStartKeepsTheReserve: a daemon that is restarted every second in vain must not run ahead of the clock by an hour each time.
func TestRefusedStartKeepsTheReserve(t *testing.T) {
	opt, h := testOptions(t, io.Discard, nil)
	n, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	end(t, n)
	before, err := os.ReadFile(filepath.Join(opt.Paths.State, "clock"))
	if err != nil {
		t.Fatal(err)
	}
	h.open = func() (*os.File, error) { return nil, errFake }
	if _, err := Open(opt); err == nil {
		t.Fatal("the node opened without a device")
	}
	if after, err := os.ReadFile(filepath.Join(opt.Paths.State, "clock")); err != nil || string(after) != string(before) {
		t.Errorf("the reserve went from %q to %q (%v)", before, after, err)
	}
}

func TestDamagedClockReserve(t *testing.T) {
	log := &lockedBuffer{}
	opt, _ := testOptions(t, log, nil)
	if err := os.Mkdir(opt.Paths.State, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(opt.Paths.State, "clock")
	if err := os.WriteFile(path, []byte("yesterday"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	end(t, n)
	if kept, err := os.ReadFile(path + ".damaged"); err != nil || string(kept) != "yesterday" {
		t.Errorf("kept of the damaged file: %q, %v", kept, err)
	}
	if line := log.String(); !strings.Contains(line, path) || !strings.Contains(line, "fix=") {
		t.Errorf("the log does not tell of it:\n%s", line)
	}
	if fresh, err := os.ReadFile(path); err != nil || string(fresh) == "yesterday" {
		t.Errorf("the new reserve: %q, %v", fresh, err)
	}
}

func TestWarnUnused(t *testing.T) {
	n := openNode(t, func(c *config.Config) {
		c.DDS.Lanes = []config.Lane{{}}
	})
	subjects := make(map[string]bool)
	for _, w := range n.warnings.List() {
		if !strings.Contains(w.Text, w.Subject) || w.Fix == "" {
			t.Errorf("warning %+v", w)
		}
		subjects[w.Subject] = true
	}
	for _, want := range []string{"dds.lanes"} {
		if !subjects[want] {
			t.Errorf("no warning of %s", want)
		}
	}
	if got := openNode(t, nil).warnings.List(); len(got) != 0 {
		t.Errorf("warnings of the defaults: %v", got)
	}
}
