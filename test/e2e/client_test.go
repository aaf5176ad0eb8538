package e2e

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// checkLine checks that a program failed with a code and one line that holds all of the words.
func checkLine(t *testing.T, out string, code, wantCode int, words ...string) {
	t.Helper()
	if code != wantCode || strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, "hnet: ") {
		t.Errorf("want exit code %d and one line, got %d and:\n%s", wantCode, code, out)
		return
	}
	for _, word := range words {
		if !strings.Contains(out, word) {
			t.Errorf("the line does not say %q:\n%s", word, out)
		}
	}
}

// needDaemon are commands that ask hnetd.
var needDaemon = []string{
	"status", "id", "peers", "whitelist ls", "whitelist add fc94::1", "whitelist rm fc94::1", "whitelist enable", "whitelist disable",
	"host ls", "host add x fc94::1", "host rm x", "ip x", "ping fc94::1", "wait peer fc94::1 --timeout 50ms", "wait daemon --timeout 50ms", "down",
	"dds show cyclone",
}

func TestNoDaemon(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, h *lab.Host){
		"never ran": func(*testing.T, *lab.Host) {},
		"killed": func(t *testing.T, h *lab.Host) {
			fleet.Start(t, h, "").Daemon.Kill9()
			if _, err := os.Lstat(h.Path("/run/hnet/hnetd.sock")); err != nil {
				t.Fatalf("there is no stale socket to try: %v", err)
			}
		},
		"a file in place of the socket": func(t *testing.T, h *lab.Host) {
			if err := os.Mkdir(h.Path("/run/hnet"), 0o755); err != nil {
				t.Fatal(err)
			}
			put(t, h.Path("/run/hnet/hnetd.sock"), "no socket", 0o666)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := lab.New(t).Host("robot1")
			prepare(t, h)
			for _, command := range needDaemon {
				out, code := finish(t, h, fleet.Binary(t, "hnet"), strings.Fields(command)...)
				checkLine(t, out, code, 1, "hnetd")
			}
		})
	}
}

// TestOddDaemon lets hnet talk to something that is no hnetd.
func TestOddDaemon(t *testing.T) {
	forever := func(c net.Conn) {
		for {
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}
	for name, serve := range map[string]func(c net.Conn){
		"closes at once": func(net.Conn) {},
		"says garbage":   func(c net.Conn) { io.WriteString(c, "220 smtp ready\r\n") },
		"never stops":    forever,
		"JSON without end": func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
			forever(c)
		},
		"an answer cut off": func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"addr") },
		"an answer of lies": func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]") },
		"redirects to itself": func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 307 Go\r\nLocation: /v1/status\r\nContent-Length: 0\r\n\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := lab.New(t).Host("robot1")
			if err := os.Mkdir(h.Path("/run/hnet"), 0o755); err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("unix", h.Path("/run/hnet/hnetd.sock"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						c.Read(make([]byte, 4096))
						serve(c)
					}()
				}
			}()
			out, code := finish(t, h, fleet.Binary(t, "hnet"), "status")
			checkLine(t, out, code, 1)
		})
	}
}

// TestStoppedDaemonGoesOn: what arrives while the daemon does not run for 3 s waits in the kernel.
func TestStoppedDaemonGoesOn(t *testing.T) {
	_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
	fleet.Trust(a, b)
	mustPing(t, a, b.Address)
	a.Daemon.Signal(unix.SIGSTOP)
	start := time.Now()
	stream := b.Start(t, "ping", "-n", "-6", "-c7", "-i0.5", "-W5", a.Address.String())
	out, code := a.TryHnet("wait", "daemon", "--timeout", "1s")
	checkLine(t, out, code, 1, "hnetd does not answer")
	// hnet gives a look that it began two seconds more, to hear the reason.
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("a wait of 1 s took %v", took)
	}
	a.Daemon.Signal(unix.SIGCONT)
	if code := stream.Wait(10 * time.Second); code != 0 || !strings.Contains(stream.Output(), " 7 received") {
		t.Errorf("packets were lost while the daemon was stopped for %v:\n%s", time.Since(start), stream.Output())
	}
	a.Hnet("status")
}

func TestOnlyRootMayChange(t *testing.T) {
	l := lab.New(t)
	h := l.Host("robot1")
	r := fleet.Start(t, h, "dds: {dir: /var/cache/hnet-dds}\n") // profiles follow the whitelist a moment later
	r.Hnet("whitelist", "add", "fc94::1", "--hostname", "robot2")
	before := snapshot(t, h.Path(stateDir))
	for _, command := range []string{
		"whitelist add fc94::2", "whitelist rm robot2", "whitelist disable", "whitelist enable", "host add x fc94::1", "host rm robot2", "down",
	} {
		nobody := asNobody(t, h, append([]string{fleet.Binary(t, "hnet")}, strings.Fields(command)...)...)
		out, code := finish(t, h, nobody[0], nobody[1:]...)
		checkLine(t, out, code, 1, "root", "hnet")
	}
	if diff := cmp.Diff(before, snapshot(t, h.Path(stateDir))); diff != "" {
		t.Errorf("the state changed:\n%s", diff)
	}
	for _, command := range []string{"status", "id", "peers", "whitelist ls", "host ls", "ip robot2", "wait daemon", "dds show cyclone"} {
		nobody := asNobody(t, h, append([]string{fleet.Binary(t, "hnet")}, strings.Fields(command)...)...)
		if out, code := finish(t, h, nobody[0], nobody[1:]...); code != 0 {
			t.Errorf("hnet %s, by anyone: %d\n%s", command, code, out)
		}
	}
	// The secrets are nobody's business.
	nobody := asNobody(t, h, "cat", filepath.Join(stateDir, "identity"), filepath.Join(stateDir, "whitelist.json"))
	if out, code := finish(t, h, nobody[0], nobody[1:]...); code == 0 || strings.Contains(out, "seed") {
		t.Errorf("anyone can read the state:\n%s", out)
	}
}

func TestUnknownPeer(t *testing.T) {
	h := lab.New(t).Host("robot1")
	r := fleet.Start(t, h, "")
	for _, command := range []string{
		"ip robot9", "ping robot9", "wait peer robot9 --timeout 50ms", "whitelist rm robot9", "host rm robot9",
	} {
		out, code := r.TryHnet(strings.Fields(command)...)
		checkLine(t, out, code, 1, "robot9")
	}
	for _, command := range []string{"ping fc94::9", "wait peer fc94::9 --timeout 50ms", "whitelist rm fc94::9"} {
		out, code := r.TryHnet(strings.Fields(command)...)
		checkLine(t, out, code, 1, "fc94::9", "whitelist")
	}
	own := r.Address.String()
	for _, command := range []string{"ping " + own, "whitelist add " + own, "wait peer " + own + " --timeout 50ms"} {
		out, code := r.TryHnet(strings.Fields(command)...)
		checkLine(t, out, code, 1, own, "itself")
	}
	// A peer that is never there: the line says what to look at.
	r.Hnet("whitelist", "add", "fc94::9", "--hostname", "robot9")
	start := time.Now()
	out, code := r.TryHnet("wait", "peer", "robot9", "--timeout", "300ms")
	checkLine(t, out, code, 1, "robot9", "LAN", "--endpoint")
	if took := time.Since(start); took > 10*time.Second { // the default is 30 s
		t.Errorf("a wait of 300 ms took %v", took)
	}
	// An address and an endpoint do not make a handshake: that takes the key.
	r.Hnet("whitelist", "add", "fc94::9", "--endpoint", "127.0.0.1:9")
	out, code = r.TryHnet("wait", "peer", "robot9", "--timeout", "100ms")
	checkLine(t, out, code, 1, "robot9", "hnet whitelist add KEY --endpoint")
}

func TestUsage(t *testing.T) {
	h := lab.New(t).Host("robot1")
	r := fleet.Start(t, h, "")
	before := snapshot(t, h.Path(stateDir))
	for _, command := range []string{
		"nonsense", "--nonsense", "status extra", "whitelist", "whitelist add", "whitelist add robot2", "whitelist add 10.0.0.1", "whitelist add fc95::1",
		"whitelist add fc94::1 fc94::2", "whitelist add fc94::1 --endpoint nowhere", "whitelist add fc94::1 --endpoint [fc94::2]:5582",
		"whitelist add fc94::1 --endpoint 10.0.0.1:0", "whitelist add fc94::1 --endpoint 10.0.0.1:65536", "whitelist add AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "whitelist add fc94::1%lo",
		"host add x", "host add x 10.0.0.1", "host add -x fc94::1", "ping", "wait", "wait nobody", "wait daemon --timeout never", "id AAAA", "dds show rti",
	} {
		out, code := r.TryHnet(strings.Fields(command)...)
		checkLine(t, out, code, 2)
	}
	for _, name := range []string{"bad_name!", "localhost", "robot1.", "-", strings.Repeat("x", 64), "10.0.0.1"} {
		for _, command := range []string{"whitelist add fc94::1 --hostname=" + name, "host add -- " + name + " fc94::1"} {
			out, code := r.TryHnet(strings.Fields(command)...)
			checkLine(t, out, code, 1, name)
		}
	}
	if diff := cmp.Diff(before, snapshot(t, h.Path(stateDir))); diff != "" {
		t.Errorf("the state changed:\n%s", diff)
	}
}
