package command

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/api/apitest"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

var update = flag.Bool("update", false, "write what the commands print as the golden files")

var (
	now   = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	self  = identity.FromSeed([32]byte{1})
	robot = identity.FromSeed([32]byte{2})
	base  = identity.FromSeed([32]byte{3})
	phone = identity.FromSeed([32]byte{4})
	guest = identity.FromSeed([32]byte{5})
	away  = identity.FromSeed([32]byte{6})
)

// node is what the golden files show.
func node() *apitest.Node {
	ago := func(d time.Duration) *time.Time { t := now.Add(-d); return &t }
	return &apitest.Node{
		NodeStatus: api.Status{
			Address: self.Address(), Hostname: "laptop", Interface: "hnet0", NAT: "unknown", Version: "1.2.3",
			IPv4: netip.MustParseAddr("198.19.7.8"),
			Bases: []api.Base{
				{Address: base.Address(), Host: "198.51.100.7", Transport: "udp", State: api.BaseRegistered, RTT: api.Known(23.456)},
				{Address: away.Address(), Host: "base.example.org", Transport: "none", State: api.BaseUnreachable},
			},
			Warnings: []api.Warning{{Code: "port_taken", Text: "UDP port 5582 is taken, 5583 is used", Fix: "set port: in /etc/hnet/hnet.yaml"}},
		},
		NodeID: api.ID{Address: self.Address(), Ed25519: "WW91ciBFZDI1NTE5IHB1YmxpYyBrZXkgZ29lcyBoZXI=", WireGuard: self.PublicKey().String(), IPv4: netip.MustParseAddr("198.19.7.8")},
		PeerList: []api.Peer{
			{Address: robot.Address(), Hostname: "robot2", State: api.Connected, Path: api.PathLAN, Endpoint: netip.MustParseAddrPort("192.168.1.12:5582"),
				RTT: api.Known(0.4123), Jitter: api.Known(0.05), Loss: api.Known(0), TxBytes: 1234567, RxBytes: 987, LastHandshake: ago(3 * time.Second), Whitelisted: true, IPv4: netip.MustParseAddr("198.19.1.2")},
			{Address: phone.Address(), Hostname: "phone", State: api.Connected, Path: api.PathRelayTCP, Endpoint: netip.MustParseAddrPort("198.51.100.7:443"),
				RTT: api.Known(1234), Jitter: api.Known(20), Loss: api.Known(0.034), TxBytes: 12e9, RxBytes: 999950, LastHandshake: ago(100 * time.Second), Whitelisted: true},
			{Address: guest.Address(), State: api.Connecting, Path: api.PathNone},
			{Address: away.Address(), Hostname: "arm", State: api.Unreachable, Path: api.PathNone, LastHandshake: ago(50 * time.Hour), Whitelisted: true},
		},
		List: api.Whitelist{Enabled: true, Entries: []api.WhitelistEntry{
			{Address: robot.Address(), Hostname: "robot2", Key: robot.PublicKey().String(), Source: "local"},
			{Address: away.Address(), Hostname: "arm", Source: "dashboard"},
		}},
		Names: []api.HostEntry{
			{Name: "robot2", Address: robot.Address(), Source: "local"},
			{Name: "arm", Address: away.Address(), Source: "dashboard"},
		},
		Answer: func(netip.Addr) (api.PingResult, error) {
			return api.PingResult{RTT: 0.5, Path: api.PathLAN, Endpoint: netip.MustParseAddrPort("192.168.1.12:5582")}, nil
		},
	}
}

func asRoot(*net.UnixConn) (api.Credentials, error) { return api.Credentials{}, nil }

// world is an Env whose output is kept.
type world struct {
	Env
	out, err safeBuffer
	env      map[string]string
}

// safeBuffer may be written by a command while a test reads.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newWorld(run string) *world {
	w := &world{env: map[string]string{"HNET_RUN": run, "HNET_CONFIG": "/etc/hnet/hnet.yaml"}}
	w.Env = Env{
		Stdout: &w.out, Stderr: &w.err,
		Getenv:    func(k string) string { return w.env[k] },
		Now:       func() time.Time { return now },
		Terminal:  func() (int, int, bool) { return 0, 0, false },
		Addresses: func(string) ([]netip.Addr, error) { return []netip.Addr{self.Address()}, nil },
	}
	return w
}

// terminal makes the output one of this size.
func (w *world) terminal(width, height int) {
	w.Terminal = func() (int, int, bool) { return width, height, true }
}

// golden compares what a command printed with testdata/NAME.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run the test with -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

var pskFile = filepath.Join("testdata", "psk")

// commands are all that print and end by themselves.
var commands = []struct{ name, line string }{
	{"status", "status"},
	{"id", "id"},
	{"id-key", "id " + robot.PublicKey().String()},
	{"peers", "peers"},
	{"ip", "ip robot2"},
	{"ip-4", "ip robot2 -4"},
	{"ip-4-json", "--json ip robot2 --ipv4"},
	{"ip-address", "ip " + robot.Address().String()},
	{"whitelist-ls", "whitelist ls"},
	{"whitelist-add", "whitelist add " + phone.Address().String() + " --hostname phone --endpoint 192.0.2.1:51820 --psk-file " + pskFile},
	{"whitelist-add-key", "whitelist add " + phone.PublicKey().String()},
	{"whitelist-rm", "whitelist rm robot2"},
	{"whitelist-enable", "whitelist enable"},
	{"whitelist-disable", "whitelist disable"},
	{"host-add", "host add Camera " + phone.Address().String()},
	{"host-rm", "host rm robot2"},
	{"host-ls", "host ls"},
	{"ping", "ping robot2 -c 2 -i 1ms"},
	{"wait-daemon", "wait daemon"},
	{"wait-base", "wait base --timeout 1s"},
	{"wait-peer", "wait peer robot2 --timeout 5"},
}

func TestGolden(t *testing.T) {
	for _, c := range commands {
		for _, form := range []string{"", "-json"} {
			t.Run(c.name+form, func(t *testing.T) {
				run, _ := apitest.Serve(t, node(), api.Options{Credentials: asRoot})
				w := newWorld(run)
				args := strings.Fields(c.line)
				if form != "" {
					args = append(args, "--json")
				}
				if code := Run(t.Context(), w.Env, args); code != 0 {
					t.Fatalf("exit code %d: %s", code, w.err.String())
				}
				if w.err.String() != "" {
					t.Errorf("stderr: %s", w.err.String())
				}
				golden(t, c.name+form, w.out.String())
			})
		}
	}
}

func TestGoldenEmpty(t *testing.T) {
	for _, c := range []struct{ name, line string }{{"peers-empty", "peers"}, {"whitelist-ls-empty", "whitelist ls"}, {"host-ls-empty", "host ls"}, {"status-empty", "status"}} {
		run, _ := apitest.Serve(t, &apitest.Node{NodeStatus: api.Status{Address: self.Address(), Interface: "hnet0"}}, api.Options{Credentials: asRoot})
		w := newWorld(run)
		if code := Run(t.Context(), w.Env, strings.Fields(c.line)); code != 0 {
			t.Fatalf("%s: exit code %d: %s", c.line, code, w.err.String())
		}
		golden(t, c.name, w.out.String())
	}
}

func TestTerminal(t *testing.T) {
	run, _ := apitest.Serve(t, node(), api.Options{Credentials: asRoot})
	tests := []struct {
		name, line, env string
		width           int
		colour          bool
	}{
		{"peers-200", "peers", "", 200, true},
		{"peers-120", "peers", "", 120, true},
		{"peers-60", "peers", "", 60, true},
		{"peers-nocolor", "peers", "NO_COLOR", 200, false},
		{"status-terminal", "status", "", 80, true},
		{"whitelist-80", "whitelist ls", "", 80, true},
	}
	for _, tt := range tests {
		w := newWorld(run)
		w.terminal(tt.width, 24)
		w.env[tt.env] = "1"
		if code := Run(t.Context(), w.Env, strings.Fields(tt.line)); code != 0 {
			t.Fatalf("%s: exit code %d: %s", tt.line, code, w.err.String())
		}
		out := w.out.String()
		if strings.Contains(out, "\x1b[") != tt.colour {
			t.Errorf("%s: colours: %v, want %v", tt.name, !tt.colour, tt.colour)
		}
		golden(t, tt.name, strings.ReplaceAll(out, "\x1b", "^"))
	}
}

func TestUsageErrors(t *testing.T) {
	tests := []struct{ line, want string }{
		{"", "no command given: see 'hnet --help'"},
		{"statsu", "unknown command \"statsu\": did you mean 'hnet status'?"},
		{"frobnicate", "unknown command \"frobnicate\": see 'hnet --help'"},
		{"whitelist", "whitelist needs one of add, disable, enable, ls, rm: see 'hnet whitelist --help'"},
		{"whitelist ad", "unknown command \"ad\": did you mean 'hnet whitelist add'?"},
		{"whitelist add", "ADDRESS or KEY is missing: see 'hnet whitelist add --help'"},
		{"whitelist add robot", "\"robot\" is neither an address of the overlay (fc94:...) nor a WireGuard public key: see 'hnet whitelist add --help'"},
		{"whitelist add fd00::1", "fd00::1 is outside of fc94::/16, where every address of the overlay lies: see 'hnet whitelist add --help'"},
		{"whitelist add fc94::1 --endpoint x", "--endpoint: expected HOST:PORT such as 203.0.113.5:51820 or [2001:db8::5]:51820, found \"x\": see 'hnet whitelist add --help'"},
		{"whitelist rm", "PEER is missing: see 'hnet whitelist rm --help'"},
		{"whitelist rm a b", "unexpected argument \"b\": see 'hnet whitelist rm --help'"},
		{"host add a", "ADDRESS is missing: see 'hnet host add --help'"},
		{"host add a b", "\"b\" is no address: see 'hnet host add --help'"},
		{"peers --wach", "unknown flag: --wach: see 'hnet peers --help'"},
		{"status --json=maybe", "invalid argument \"maybe\" for \"--json\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax: see 'hnet status --help'"},
		{"ping a -i soon", "invalid argument \"soon\" for \"-i, --interval\" flag: expected a time such as 500ms or 30s: see 'hnet ping --help'"},
		{"ping a -c -1", "-c -1: expected a number of probes: see 'hnet ping --help'"},
		{"wait", "wait needs one of base, daemon, peer: see 'hnet wait --help'"},
		{"wait peer", "PEER is missing: see 'hnet wait peer --help'"},
		{"wait daemon --timeout -3", "invalid argument \"-3\" for \"--timeout\" flag: expected a time such as 500ms or 30s: see 'hnet wait daemon --help'"},
		{"dds show", "show needs one of cyclone, fastdds, zenoh: see 'hnet dds show --help'"},
		{"completion basj", "unknown command \"basj\": did you mean 'hnet completion bash'?"},
		{"id a b", "unexpected argument \"b\": see 'hnet id --help'"},
	}
	for _, tt := range tests {
		w := newWorld(t.TempDir())
		code := Run(t.Context(), w.Env, strings.Fields(tt.line))
		if code != 2 || w.out.String() != "" || w.err.String() != "hnet: "+tt.want+"\n" {
			t.Errorf("hnet %s: exit code %d, stdout %q, stderr\n%swant\nhnet: %s", tt.line, code, w.out.String(), w.err.String(), tt.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	n := node()
	n.Answer = nil
	run, _ := apitest.Serve(t, n, api.Options{Credentials: asRoot})
	empty := t.TempDir()
	tests := []struct{ run, line, want string }{
		{run, "whitelist rm " + phone.Address().String(), phone.Address().String() + " is not whitelisted: see 'hnet whitelist ls'"},
		{run, "whitelist rm nobody", "nobody is called nobody: see 'hnet host ls', or use the address"},
		{run, "whitelist add fc94::1 --psk-file /nowhere", "cannot read the preshared key in /nowhere: no such file or directory"},
		{run, "host add a_b fc94::1", "a_b is no hostname: use letters, digits and -"},
		{run, "ip x", "nobody is called x: see 'hnet host ls', or use the address"},
		{run, "ping robot2 -c 1 -W 10ms", "no answer from " + robot.Address().String() + " in 10ms: is hnetd running there, and this node on its whitelist?"},
		{run, "ping nobody", "nobody is called nobody: see 'hnet host ls', or use the address"},
		{run, "wait peer arm --timeout 20ms", "waited 20ms in vain: " + away.Address().String() + " is not connected: is hnetd running there, and this node on its whitelist?"},
		{run, "wait peer nobody", "nobody is called nobody: see 'hnet host ls', or use the address"},
		{empty, "status", "hnetd is not running (no socket at " + empty + "/hnetd.sock): start it with 'systemctl start hnetd' or 'hnetd'"},
		{empty, "peers --watch", "hnetd is not running (no socket at " + empty + "/hnetd.sock): start it with 'systemctl start hnetd' or 'hnetd'"},
		{empty, "wait daemon --timeout 1ms", "waited 1ms in vain: hnetd is not running (no socket at " + empty + "/hnetd.sock): start it with 'systemctl start hnetd' or 'hnetd'"},
	}
	for _, tt := range tests {
		w := newWorld("/nowhere")
		code := Run(t.Context(), w.Env, append([]string{"--run", tt.run}, strings.Fields(tt.line)...))
		if code != 1 || w.err.String() != "hnet: "+tt.want+"\n" {
			t.Errorf("hnet %s: exit code %d, stderr\n%swant\nhnet: %s", tt.line, code, w.err.String(), tt.want)
		}
	}
}

func TestRequestAsSent(t *testing.T) {
	n := node()
	run, _ := apitest.Serve(t, n, api.Options{Credentials: asRoot})
	w := newWorld(run)
	if code := Run(t.Context(), w.Env, []string{"whitelist", "add", phone.PublicKey().String(), "--hostname", "phone", "--endpoint", "[2001:db8::1]:51820", "--psk-file", pskFile}); code != 0 {
		t.Fatal(w.err.String())
	}
	want := []api.WhitelistAdd{{Address: phone.Address(), Key: phone.PublicKey().String(), Hostname: "phone", Endpoint: "[2001:db8::1]:51820", PSK: []byte("0123456789abcdef0123456789abcdef")}}
	if diff := cmp.Diff(want, n.Added, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDown(t *testing.T) {
	n := node()
	run, stop := apitest.Serve(t, n, api.Options{Credentials: asRoot})
	n.Do(func(n *apitest.Node) { n.OnDown = func() { go stop() } })
	w := newWorld(run)
	if code := Run(t.Context(), w.Env, []string{"down"}); code != 0 || w.out.String() != "hnet0 is removed, hnetd has stopped\n" {
		t.Errorf("exit code %d, %q, %q", code, w.out.String(), w.err.String())
	}
}

func TestWaitDaemonWaitsForAddress(t *testing.T) {
	run, _ := apitest.Serve(t, node(), api.Options{Credentials: asRoot})
	looks := 0
	w := newWorld(run)
	w.Addresses = func(name string) ([]netip.Addr, error) {
		switch looks++; looks {
		case 1:
			return nil, errors.New("there is no interface " + name)
		case 2:
			return []netip.Addr{robot.Address()}, nil
		}
		return []netip.Addr{self.Address()}, nil
	}
	if code := Run(t.Context(), w.Env, []string{"wait", "daemon"}); code != 0 || looks != 3 {
		t.Errorf("exit code %d after %d looks: %s", code, looks, w.err.String())
	}
	for _, missing := range []struct {
		addresses func(string) ([]netip.Addr, error)
		want      string
	}{
		{func(string) ([]netip.Addr, error) { return nil, errors.New("there is no interface hnet0") }, "hnetd answers, but there is no interface hnet0: look at 'hnet status'"},
		{func(string) ([]netip.Addr, error) { return nil, nil }, "hnetd answers, but hnet0 does not have the address " + self.Address().String() + ": look at 'hnet status'"},
	} {
		w = newWorld(run)
		w.Addresses = missing.addresses
		if code := Run(t.Context(), w.Env, []string{"wait", "daemon", "--timeout", "1ms"}); code != 1 || w.err.String() != "hnet: waited 1ms in vain: "+missing.want+"\n" {
			t.Errorf("exit code %d: %s", code, w.err.String())
		}
	}
}

// wait daemon may begin before the daemon does.
func TestWaitDaemonEarly(t *testing.T) {
	run := t.TempDir()
	w := newWorld(run)
	done := make(chan int)
	go func() { done <- Run(t.Context(), w.Env, []string{"wait", "daemon"}) }()
	apitest.ServeIn(t, run, node(), api.Options{Credentials: asRoot})
	if code := <-done; code != 0 {
		t.Errorf("exit code %d: %s", code, w.err.String())
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := newWorld(t.TempDir())
	if code := Run(ctx, w.Env, []string{"wait", "daemon"}); code != 1 || w.err.String() != "hnet: interrupted\n" {
		t.Errorf("exit code %d, %q", code, w.err.String())
	}
}

func TestVersion(t *testing.T) {
	run, _ := apitest.Serve(t, node(), api.Options{Credentials: asRoot})
	w := newWorld(run)
	if code := Run(t.Context(), w.Env, []string{"version"}); code != 0 || !strings.HasPrefix(w.out.String(), "hnet "+api.Version()+" (go") || !strings.HasSuffix(w.out.String(), "\nhnetd 1.2.3\n") {
		t.Errorf("exit code %d, %q", code, w.out.String())
	}
	w = newWorld(t.TempDir())
	if code := Run(t.Context(), w.Env, []string{"version", "--json"}); code != 0 || !strings.Contains(w.out.String(), `"hnetd": null`) {
		t.Errorf("exit code %d, %q", code, w.out.String())
	}
}
