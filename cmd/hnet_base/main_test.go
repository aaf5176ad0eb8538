package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
)

// asServer makes this test binary the program itself.
const asServer = "HNET_BASE_TEST_AS_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// hnetBase runs the program to its end.
func hnetBase(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = []string{asServer + "=1"}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// freePort is a port that was free for UDP and TCP a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
		l.Close()
		if err == nil {
			u.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// TestExitCodes: 0 done, 1 failed, 2 usage; what is wrong is told in one line, with what to do.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	state, file := filepath.Join(dir, "state"), filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	takenUDP, takenTCP := strconv.Itoa(udp.LocalAddr().(*net.UDPAddr).Port), strconv.Itoa(tcp.Addr().(*net.TCPAddr).Port)
	for name, test := range map[string]struct {
		args  []string
		code  int
		words []string // of standard output if the code is 0, else of the one line on standard error
	}{
		"version": {[]string{"--version"}, 0, []string{"hnet_base "}},
		"help": {[]string{"--help"}, 0, []string{"-state", "-listen", "-udp", "-tcp", "-stun", "-metrics", "-relay-rate", "-total-rate",
			"-log-level", "-version", "hnet_base id"}},
		"help of id":        {[]string{"id", "-h"}, 0, []string{"-state"}},
		"unknown flag":      {[]string{"--colour"}, 2, []string{"colour", "hnet_base -help"}},
		"unknown flag, id":  {[]string{"id", "--colour"}, 2, []string{"colour", "hnet_base -help"}},
		"argument":          {[]string{"start"}, 2, []string{`"start"`}},
		"argument of id":    {[]string{"id", "x"}, 2, []string{`"x"`}},
		"port":              {[]string{"--udp", "70000"}, 2, []string{"--udp", "70000"}},
		"nothing to serve":  {[]string{"--udp", "0", "--tcp", "0"}, 2, []string{"nothing"}},
		"same port twice":   {[]string{"--udp", "3478"}, 2, []string{"--stun"}},
		"listen":            {[]string{"--listen", "localhost"}, 2, []string{"localhost", "0.0.0.0"}},
		"level":             {[]string{"--log-level", "loud"}, 2, []string{"loud"}},
		"rate":              {[]string{"--relay-rate", "9999999"}, 2, []string{"Mbit/s"}},
		"state is a file":   {[]string{"--state", file}, 1, []string{file}},
		"id: state a file":  {[]string{"id", "--state", file}, 1, []string{file}},
		"UDP taken":         {[]string{"--state", state, "--udp", takenUDP, "--tcp", "0"}, 1, []string{takenUDP, "--udp", "ss -ulnp"}},
		"TCP taken":         {[]string{"--state", state, "--udp", "0", "--tcp", takenTCP}, 1, []string{takenTCP, "--tcp", "ss -tlnp"}},
		"address not ours":  {[]string{"--state", state, "--listen", "192.0.2.1", "--udp", "0", "--tcp", takenTCP}, 1, []string{"--listen", "192.0.2.1"}},
		"address, UDP":      {[]string{"--state", state, "--listen", "192.0.2.1", "--tcp", "0", "--udp", "50001"}, 1, []string{"--listen", "192.0.2.1"}},
		"metrics not to be": {[]string{"--state", state, "--udp", "0", "--tcp", strconv.Itoa(freePort(t)), "--metrics", "192.0.2.1:1"}, 1, []string{"--metrics"}},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := hnetBase(t, test.args...)
			if code != test.code {
				t.Errorf("exit code %d, want %d:\n%s%s", code, test.code, stdout, stderr)
			}
			told := stdout
			if test.code != 0 {
				if told = stderr; strings.Count(told, "\n") != 1 || !strings.HasPrefix(told, "hnet_base: ") || stdout != "" {
					t.Errorf("want one line on standard error, got %q and %q", stdout, stderr)
				}
			} else if stderr != "" {
				t.Errorf("standard error: %q", stderr)
			}
			for _, word := range test.words {
				if !strings.Contains(told, word) {
					t.Errorf("it does not say %q: %s", word, told)
				}
			}
		})
	}
}

// running is a server that runs.
type running struct {
	cmd      *exec.Cmd
	log      *bufio.Scanner
	first    string      // line of the log
	told     chan string // to systemd
	state    string
	udp, tcp int
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{state: filepath.Join(dir, "state"), udp: freePort(t), tcp: freePort(t)}
	notified, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { notified.Close() })
	// Read all the time, as systemd does: whoever tells waits for room.
	r.told = make(chan string, 10_000)
	go func() {
		b := make([]byte, 100)
		for {
			n, err := notified.Read(b)
			if err != nil {
				return
			}
			select {
			case r.told <- string(b[:n]):
			default:
			}
		}
	}()
	args = append([]string{"--state", r.state, "--udp", strconv.Itoa(r.udp), "--tcp", strconv.Itoa(r.tcp)}, args...)
	r.cmd = exec.CommandContext(t.Context(), os.Args[0], args...)
	r.cmd.Env = []string{asServer + "=1", "NOTIFY_SOCKET=" + notified.LocalAddr().String(), "WATCHDOG_USEC=100000"}
	stderr, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
	})
	r.log = bufio.NewScanner(stderr)
	if !r.log.Scan() {
		t.Fatal("it says nothing")
	}
	r.first = r.log.Text()
	r.await(t, "READY=1")
	return r
}

// await waits until systemd is told something.
func (r *running) await(t *testing.T, what string) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case told := <-r.told:
			if told == what {
				return
			}
		case <-timeout:
			t.Fatalf("%s was not told", what)
		}
	}
}

// asks tells whether a STUN server answers at an address.
func asks(t *testing.T, to string) bool {
	t.Helper()
	conn, err := net.Dial("udp", to)
	if err != nil {
		t.Logf("%s: %v", to, err)
		return false
	}
	defer conn.Close()
	b := make([]byte, 100)
	for range 4 {
		_, _ = conn.Write(stun.AppendRequest(nil, [12]byte{1}))
		_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if n, err := conn.Read(b); err == nil {
			_, _, ok := stun.ParseSuccess(b[:n])
			return ok
		}
	}
	return false
}

// TestServes: it says what clients need, serves both families and the metrics, tells systemd, and ends well.
func TestServes(t *testing.T) {
	stun, metrics := freePort(t), freePort(t)
	r := start(t, "--stun", strconv.Itoa(stun), "--metrics", fmt.Sprintf("127.0.0.1:%d", metrics))
	stdout, stderr, code := hnetBase(t, "id", "--state", r.state)
	address, err := netip.ParseAddr(strings.TrimSpace(stdout))
	if code != 0 || err != nil || stderr != "" {
		t.Fatalf("id: %d, %q, %q", code, stdout, stderr)
	}
	want := fmt.Sprintf(`- {host: HOST, address: '%v', udp: %d, tcp: %d}`, address, r.udp, r.tcp)
	if !strings.Contains(r.first, want) || !strings.Contains(r.first, "Base "+address.String()) {
		t.Errorf("the first line is %q, which should have %q", r.first, want)
	}
	for _, to := range []string{fmt.Sprintf("127.0.0.1:%d", r.udp), fmt.Sprintf("127.0.0.1:%d", stun), fmt.Sprintf("[::1]:%d", r.udp)} {
		if !asks(t, to) && !(strings.HasPrefix(to, "[") && !hasIPv6()) {
			t.Errorf("no answer at %s", to)
		}
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.tcp))
	if err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	scrape, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics))
	if err != nil {
		t.Fatal(err)
	}
	defer scrape.Body.Close()
	var body bytes.Buffer
	_, _ = body.ReadFrom(scrape.Body)
	if !regexp.MustCompile(`(?m)^hnet_base_stun_answers_total [23]$`).MatchString(body.String()) || !strings.Contains(body.String(), "process_resident_memory_bytes") {
		t.Errorf("metrics:\n%s", &body)
	}
	if _, stderr, code := hnetBase(t, "--state", r.state, "--udp", "0", "--tcp", strconv.Itoa(freePort(t))); code != 1 || !strings.Contains(stderr, "already in use") {
		t.Errorf("a second one on the same state: %d, %q", code, stderr)
	}
	r.await(t, "WATCHDOG=1")
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	r.await(t, "STOPPING=1")
	for r.log.Scan() {
	}
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("it ended badly: %v", err)
	}
}

func hasIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err == nil {
		l.Close()
	}
	return err == nil
}

// TestListen: an address given is the only one that is served; the STUN port taken is a warning.
func TestListen(t *testing.T) {
	taken, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r := start(t, "--listen", "127.0.0.2", "--stun", strconv.Itoa(taken.LocalAddr().(*net.UDPAddr).Port))
	if !strings.Contains(r.first, "host: 127.0.0.2") {
		t.Errorf("the first line is %q", r.first)
	}
	for r.log.Scan() && !strings.Contains(r.log.Text(), "level=WARN") {
	}
	if !strings.Contains(r.log.Text(), "--stun") {
		t.Errorf("no warning but %q", r.log.Text())
	}
	if !asks(t, fmt.Sprintf("127.0.0.2:%d", r.udp)) {
		t.Error("no answer at the address given")
	}
	if asks(t, fmt.Sprintf("127.0.0.1:%d", r.udp)) {
		t.Error("an answer at another address")
	}
	if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.tcp)); err == nil {
		conn.Close()
		t.Error("a connection to another address")
	}
}

// TestSecondSignal: the first SIGTERM waits for the clients, the second does not.
func TestSecondSignal(t *testing.T) {
	r := start(t, "--stun", "0")
	stdout, _, _ := hnetBase(t, "id", "--state", r.state)
	base, err := netip.ParseAddr(strings.TrimSpace(stdout))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", r.udp))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := func(request []byte) []byte {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2000)
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return b[:n]
	}
	id := identity.FromSeed([32]byte{1})
	handshake, err := session.NewClient(session.ClientConfig{Identity: id, Base: base})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := (&record.Record{Sequence: 1, Lifetime: time.Hour}).Sign(id)
	if err != nil {
		t.Fatal(err)
	}
	register, _, err := handshake.HandleCookie(time.Now(), ask(handshake.Hello(time.Now())), signed)
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := handshake.HandleWelcome(time.Now(), ask(register))
	if err != nil {
		t.Fatal(err)
	}
	ask(s.Unsequenced(time.Now(), wire.KindPing, make([]byte, 8)))

	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	drained := false
	b := make([]byte, 2000)
	for !drained {
		n, err := conn.Read(b)
		if err != nil {
			t.Fatalf("nobody says that it ends: %v", err)
		}
		_, _ = s.Receive(time.Now(), b[:n], func(kind wire.Kind, _ []byte) { drained = drained || kind == wire.KindDrain })
	}
	// The second may come a moment too early to be one.
	ended := make(chan error, 1)
	go func() { ended <- r.cmd.Wait() }()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for err = nil; err == nil; {
		select {
		case err = <-ended:
			if err == nil {
				t.Fatal("it waited for its client")
			}
		case <-again.C:
			_ = r.cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	if r.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("after a second SIGTERM: %v", r.cmd.ProcessState)
	}
}
