package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(envChild); mode != "" {
		child(mode)
	}
	Main(m)
}

// twoHosts is a LAN with two members.
func twoHosts(t TB, link Link, parts ...Part) (*Lab, *LAN, *Host, *Host) {
	t.Helper()
	l := New(t)
	a, b := l.Host("a"), l.Host("b")
	return l, l.LAN(link, append([]Part{a, b}, parts...)...), a, b
}

// barelyDegraded sends every frame through this process without doing anything to it.
var barelyDegraded = Link{PathMTU: 1500}

func TestPing(t *testing.T) {
	for name, link := range map[string]Link{"bridge": {}, "wire": barelyDegraded} {
		t.Run(name, func(t *testing.T) {
			_, lan, a, b := twoHosts(t, link)
			for _, target := range []string{b.Addr4("lan0").String(), b.Addr6("lan0").String(), b.LinkLocal("lan0").String() + "%lan0"} {
				a.Run(t, "ping", "-c1", "-W2", target)
			}
			if s := lan.Stats(); link.degraded() != (s.Carried > 0) || s.Missed != 0 {
				t.Errorf("Stats = %+v on %+v", s, link)
			}
		})
	}
}

func TestAddressing(t *testing.T) {
	for _, test := range []struct {
		addressing Addressing
		want       string
	}{
		{Dual, "10.0.1.1/24 fd00:1ab:0:1::1/64 fe80"},
		{IPv4Only, "10.0.1.1/24"},
		{IPv6Only, "fd00:1ab:0:1::1/64 fe80"},
		{LinkLocalOnly, "fe80"},
	} {
		_, _, a, _ := twoHosts(t, Link{}, test.addressing)
		var got []string
		addrs, err := a.addrs("lan0")
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range addrs {
			p := prefixOf(addr)
			if p.Addr().IsLinkLocalUnicast() {
				got = append(got, "fe80")
			} else {
				got = append(got, p.String())
			}
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("addressing %d: %q, want %q", test.addressing, s, test.want)
		}
	}
}

func TestSetUpIsFast(t *testing.T) {
	best := time.Hour
	for range 3 {
		start := time.Now()
		_, _, a, b := twoHosts(t, Link{Delay: time.Microsecond})
		if a.Addr4("lan0") == b.Addr4("lan0") {
			t.Fatal("two hosts with one address")
		}
		best = min(best, time.Since(start))
	}
	t.Logf("two hosts on a LAN: %v", best)
	if best > time.Second {
		t.Errorf("two hosts on a LAN take %v, want at most 1 s", best)
	}
}

func TestNames(t *testing.T) {
	l := New(t)
	l.Host("a")
	for _, name := range []string{"", "a", "b c", "../x", "x/y", strings.Repeat("x", 64)} {
		if _, err := l.newHost(name, false); err == nil {
			t.Errorf("a host named %q was accepted", name)
		}
	}
}

func TestBadLinks(t *testing.T) {
	l := New(t)
	for _, link := range []Link{{Delay: -1}, {Jitter: -1}, {Loss: 1.1}, {Loss: -0.1}, {Reorder: 2}, {RateMbit: -1}, {MTU: 20}, {MTU: 1 << 17}, {PathMTU: -1}, {Queue: -1}} {
		if _, err := l.newLAN(link, parts{}); err == nil {
			t.Errorf("%+v was accepted", link)
		}
	}
}

// A host's fixed paths are its own, and can be handled as on a real machine.
func TestFolders(t *testing.T) {
	_, _, a, b := twoHosts(t, Link{})
	for _, h := range []*Host{a, b} {
		for _, script := range []string{
			`test "$(hostname)" = "$1"`,
			`test "$(cat /etc/hostname)" = "$1"`,
			`echo "fd00::1 name-$1" >/etc/hosts.new && mv /etc/hosts.new /etc/hosts`,
			`test ! -e /run/mine && echo "$1" >/run/mine`,
			`test ! -e /dev/shm/mine && echo "$1" >/dev/shm/mine`,
			`mkdir /etc/hnet /var/lib/hnet && echo "$1" >/var/lib/hnet/mine`,
			`getent passwd root >/dev/null`,
			`test -d /var/lib/dpkg/.`,
			`test "$(ls /sys/class/net | tr '\n' ' ')" = "lan0 lo "`,
			`test "$(ls /proc/sys/net/ipv6/conf | tr '\n' ' ')" = "all default lan0 lo "`,
		} {
			h.Run(t, "sh", "-ec", script, "sh", h.Name())
		}
		for _, path := range []string{"/run/mine", "/dev/shm/mine", "/var/lib/hnet/mine"} {
			if got, err := os.ReadFile(h.Path(path)); err != nil || string(got) != h.Name()+"\n" {
				t.Errorf("%s of %s: %q, %v", path, h.Name(), got, err)
			}
		}
		if got := h.Run(t, "getent", "hosts", "name-"+h.Name()); !strings.Contains(got, "fd00::1") {
			t.Errorf("hosts file of %s: %q", h.Name(), got)
		}
	}
	if _, err := os.Stat("/var/lib/hnet/mine"); err == nil {
		t.Error("a host's file is on the machine")
	}
}

func TestWorkingDirectoryAndEnvironment(t *testing.T) {
	l := New(t)
	a := l.Host("a")
	dir := t.TempDir()
	cmd := a.Command(t.Context(), "sh", "-c", `pwd -P; echo "$THING"; exit 3`)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "THING=here")
	out, err := cmd.Output()
	real, _ := filepath.EvalSymlinks(dir)
	if want := real + "\nhere\n"; string(out) != want || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("got %q, %v; want %q and exit code 3", out, err, want)
	}
}

// Nothing of a lab is left when its test has ended.
func TestCleanUp(t *testing.T) {
	count := func() (goroutines, files, devices int) {
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		labs, err := os.ReadDir(runDir)
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(open), len(labs)
	}
	var stray int
	build := func(t *testing.T) {
		_, lan, a, b := twoHosts(t, barelyDegraded)
		a.Capture(t, "lan0")
		a.Start(t, "sleep", "1000")
		b.Start(t, "sleep", "1000")
		p := b.Start(t, "sh", "-c", "setsid sh -c 'echo pid $$; exec sleep 1000' >/run/stray & while [ ! -s /run/stray ]; do :; done; cat /run/stray; wait")
		if _, err := fmt.Sscanf(p.WaitLine("^pid ", 5*time.Second), "pid %d", &stray); err != nil {
			t.Fatal(err)
		}
		lan.Set(Link{Delay: time.Second, PathMTU: 1500})
		a.Do(func() error { return nil })
	}
	t.Run("first", build) // what the runtime starts once is there after this
	g, f, d := count()
	t.Run("second", build)
	Eventually(t, 10*time.Second, "all is released", func() error {
		if g2, f2, d2 := count(); g2 > g || f2 > f || d2 > d {
			return fmt.Errorf("%d goroutines, %d files, %d folders; before %d, %d, %d", g2, f2, d2, g, f, d)
		}
		return nil
	})
	Eventually(t, 10*time.Second, "the stray process is dead", func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", stray))
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			return fmt.Errorf("still there: %s", stat)
		}
		return nil
	})
}

func BenchmarkSetUp(b *testing.B) {
	var building time.Duration
	for b.Loop() {
		start := time.Now()
		if code := Program("bench", func(t TB) { twoHosts(t, Link{}); building += time.Since(start) }); code != 0 {
			b.Fatal("no lab")
		}
	}
	b.ReportMetric(float64(building.Milliseconds())/float64(b.N), "ms-to-build/op")
}
