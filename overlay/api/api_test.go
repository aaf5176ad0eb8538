package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/api/apitest"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

var (
	key     = identity.FromSeed([32]byte{1}).PublicKey()
	robot   = netip.MustParseAddr("fc94::2")
	compare = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})}
)

// root lets every caller of a test server change things, whoever runs the tests.
func root(*net.UnixConn) (api.Credentials, error) { return api.Credentials{}, nil }

func noGroup() (uint32, bool) { return 0, false }

func serve(t *testing.T, n *apitest.Node) (*api.Client, string) {
	t.Helper()
	run, _ := apitest.Serve(t, n, api.Options{Credentials: root})
	c := api.NewClient(filepath.Join(run, "hnetd.sock"))
	t.Cleanup(c.Close)
	return c, filepath.Join(run, "hnetd.sock")
}

func TestRoundTrip(t *testing.T) {
	ctx := t.Context()
	shook := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	n := &apitest.Node{
		NodeStatus: api.Status{Address: netip.MustParseAddr("fc94::1"), Hostname: "a", Interface: "hnet0", NAT: "unknown", Version: "1",
			Bases:    []api.Base{{Address: netip.MustParseAddr("fc94::9"), Host: "b.c", Transport: "udp", State: api.BaseRegistered, RTT: api.Known(3.5)}},
			Warnings: []api.Warning{{Code: "w", Text: "x", Fix: "y"}}},
		NodeID: api.ID{Address: netip.MustParseAddr("fc94::1"), Ed25519: "e", WireGuard: "w"},
		PeerList: []api.Peer{{Address: robot, Hostname: "robot2", State: api.Connected, Path: api.PathLAN, Endpoint: netip.MustParseAddrPort("[fe80::1%2]:5582"),
			RTT: api.Known(0.4), Loss: api.Known(0), TxBytes: 1 << 60, LastHandshake: &shook, Whitelisted: true}},
		Names:  []api.HostEntry{{Name: "robot2", Address: robot, Source: "local"}},
		Answer: func(netip.Addr) (api.PingResult, error) { return api.PingResult{RTT: 1.5, Path: api.PathLAN}, nil },
	}
	c, _ := serve(t, n)

	status, err := c.Status(ctx)
	check(t, "status", n.NodeStatus, status, err)
	id, err := c.ID(ctx)
	check(t, "id", n.NodeID, id, err)
	peers, err := c.Peers(ctx)
	check(t, "peers", n.PeerList, peers, err)
	hosts, err := c.Hosts(ctx)
	check(t, "hosts", n.Names, hosts, err)
	ping, err := c.Ping(ctx, "robot2", time.Second)
	check(t, "ping", api.PingResult{RTT: 1.5, Path: api.PathLAN}, ping, err)
	peer, err := c.Connect(ctx, "robot2", time.Second)
	check(t, "connect", n.PeerList[0], peer, err)
	found, err := c.Resolve(ctx, "robot2")
	check(t, "resolve", n.Names[0], found, err)

	psk := []byte(strings.Repeat("k", 32))
	entry, err := c.WhitelistAdd(ctx, api.WhitelistAdd{Key: key.String(), Hostname: "phone", Endpoint: "1.2.3.4:5", PSK: psk})
	check(t, "add", api.WhitelistEntry{Address: key.Address(), Hostname: "phone", Key: key.String(), Source: "local"}, entry, err)
	check(t, "add as seen", []api.WhitelistAdd{{Address: key.Address(), Key: key.String(), Hostname: "phone", Endpoint: "1.2.3.4:5", PSK: psk}}, n.Added, nil)
	check(t, "enable", nil, any(nil), c.WhitelistEnable(ctx, true))
	list, err := c.Whitelist(ctx)
	check(t, "whitelist", api.Whitelist{Enabled: true, Entries: []api.WhitelistEntry{entry}}, list, err)
	gone, err := c.WhitelistRemove(ctx, entry.Address.String())
	check(t, "remove", entry, gone, err)
	host, err := c.HostAdd(ctx, api.HostAdd{Name: "Cam", Address: robot})
	check(t, "host add", api.HostEntry{Name: "cam", Address: robot, Source: "local"}, host, err)
	host, err = c.HostRemove(ctx, "cam")
	check(t, "host rm", api.HostEntry{Name: "cam", Address: robot, Source: "local"}, host, err)

	down := false
	n.Do(func(n *apitest.Node) { n.OnDown = func() { down = true } })
	if err := c.Down(ctx); err != nil || !down {
		t.Errorf("down: %v, %v", err, down)
	}
}

func check(t *testing.T, what string, want, got any, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	} else if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// The bytes are a contract: unknown numbers are null, empty lists are lists.
func TestJSON(t *testing.T) {
	n := &apitest.Node{
		NodeStatus: api.Status{Address: netip.MustParseAddr("fc94::1"), Interface: "hnet0", NAT: "unknown", Version: "1"},
		PeerList:   []api.Peer{{Address: robot, State: api.Idle, Path: api.PathNone, Whitelisted: true}},
	}
	_, socket := serve(t, n)
	for path, want := range map[string]string{
		"status":    `{"address":"fc94::1","hostname":"","interface":"hnet0","whitelist_enabled":false,"nat":"unknown","version":"1","bases":[],"warnings":[],"ipv4":""}`,
		"peers":     `[{"address":"fc94::2","hostname":"","state":"idle","path":"none","endpoint":"","rtt_ms":null,"jitter_ms":null,"loss":null,"tx_bytes":0,"rx_bytes":0,"last_handshake":null,"whitelisted":true,"ipv4":""}]`,
		"whitelist": `{"enabled":false,"entries":[]}`,
		"hosts":     `[]`,
	} {
		if status, got := raw(t, socket, "GET /v1/"+path+" HTTP/1.1\r\nHost: hnetd\r\n"); status != 200 || got != want {
			t.Errorf("%s: %d\n got %s\nwant %s", path, status, got, want)
		}
	}
}

// raw sends a request as it stands and returns the answer's status and body.
func raw(t *testing.T, socket, request string) (int, string) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head, body, _ := strings.Cut(request, "\r\n\r\n")
	head = strings.TrimSuffix(head, "\r\n")
	if body != "" && !strings.Contains(head, "Content-Length") {
		head += fmt.Sprintf("\r\nContent-Length: %d", len(body))
	}
	if _, err := io.WriteString(conn, head+"\r\nConnection: close\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text))
}

func TestRefused(t *testing.T) {
	_, socket := serve(t, &apitest.Node{Names: []api.HostEntry{{Name: "robot2", Address: robot}}})
	const json = "\r\nContent-Type: application/json\r\n\r\n"
	tests := []struct {
		name, request string
		status        int
		text          string
	}{
		{"another host", "GET /v1/status HTTP/1.1\r\nHost: example.org", 400, "Host of a request must be hnetd"},
		{"a web page", "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost", 400, "web pages"},
		{"a form", "POST /v1/whitelist HTTP/1.1\r\nHost: hnetd\r\nContent-Type: text/plain\r\n\r\n{}", 400, "Content-Type"},
		{"a body too many", "GET /v1/status HTTP/1.1\r\nHost: hnetd\r\n\r\n{}", 400, "has no body"},
		{"unknown path", "GET /v1/nothing HTTP/1.1\r\nHost: hnetd", 404, "does not know GET /v1/nothing"},
		{"wrong method", "POST /v1/status HTTP/1.1\r\nHost: hnetd" + json + "{}", 404, "does not know POST /v1/status"},
		{"unknown field", "POST /v1/hosts HTTP/1.1\r\nHost: hnetd" + json + `{"name":"a","address":"fc94::3","ttl":5}`, 400, `unknown field`},
		{"two objects", "POST /v1/hosts HTTP/1.1\r\nHost: hnetd" + json + `{"name":"a","address":"fc94::3"}{}`, 400, "goes on after"},
		{"wrong type", "POST /v1/hosts HTTP/1.1\r\nHost: hnetd" + json + `{"name":5,"address":"fc94::3"}`, 400, "name cannot be a number"},
		{"not JSON", "POST /v1/hosts HTTP/1.1\r\nHost: hnetd" + json + `hello`, 400, "cannot read the request"},
		{"empty", "POST /v1/hosts HTTP/1.1\r\nHost: hnetd\r\nContent-Length: 0" + json, 400, "the request is empty"},
		{"null", "POST /v1/hosts HTTP/1.1\r\nHost: hnetd" + json + "null", 400, "name: missing"},
		{"too long", "POST /v1/hosts HTTP/1.1\r\nHost: hnetd" + json + `{"name":"` + strings.Repeat("a", 64<<10) + `"}`, 413, "longer than 65536 bytes"},
		{"foreign address", "POST /v1/hosts HTTP/1.1\r\nHost: hnetd" + json + `{"name":"a","address":"fd00::3"}`, 400, "outside of fc94::/16"},
		{"nobody to add", "POST /v1/whitelist HTTP/1.1\r\nHost: hnetd" + json + `{}`, 400, "neither address nor key"},
		{"bad key", "POST /v1/whitelist HTTP/1.1\r\nHost: hnetd" + json + `{"key":"abc"}`, 400, "key: "},
		{"key of another", "POST /v1/whitelist HTTP/1.1\r\nHost: hnetd" + json + `{"address":"fc94::3","key":"` + key.String() + `"}`, 400, "the key's address is"},
		{"endpoint inside", "POST /v1/whitelist HTTP/1.1\r\nHost: hnetd" + json + `{"address":"fc94::3","endpoint":"[fc94::3]:1"}`, 400, "inside the overlay"},
		{"short psk", "POST /v1/whitelist HTTP/1.1\r\nHost: hnetd" + json + `{"address":"fc94::3","psk":"AAAA"}`, 400, "psk: 3 bytes, not 32"},
		{"enable what", "PUT /v1/whitelist/enabled HTTP/1.1\r\nHost: hnetd" + json + `{}`, 400, "enabled is missing"},
		{"wait for ever", "POST /v1/connect HTTP/1.1\r\nHost: hnetd" + json + `{"peer":"fc94::3","timeout_ms":9223372036854775807}`, 400, "timeout_ms"},
		{"whom", "POST /v1/ping HTTP/1.1\r\nHost: hnetd" + json + `{"timeout_ms":1}`, 400, "peer is missing"},
		{"foreign peer", "POST /v1/ping HTTP/1.1\r\nHost: hnetd" + json + `{"peer":"::1","timeout_ms":1}`, 400, "outside of fc94::/16"},
		{"unknown name", "POST /v1/ping HTTP/1.1\r\nHost: hnetd" + json + `{"peer":"x","timeout_ms":1}`, 404, "nobody is called x"},
		{"no answer", "POST /v1/ping HTTP/1.1\r\nHost: hnetd" + json + `{"peer":"robot2","timeout_ms":1}`, 504, "no answer from fc94::2"},
		{"not listed", "DELETE /v1/whitelist/fc94::7 HTTP/1.1\r\nHost: hnetd", 404, "fc94::7 is not whitelisted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, got := raw(t, socket, tt.request)
			if status != tt.status || !strings.Contains(got, tt.text) || !strings.HasPrefix(got, `{"error":{"code":"`) {
				t.Errorf("%d %s, want %d %q", status, got, tt.status, tt.text)
			}
		})
	}
}

func TestNotRunning(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "hnetd.sock")
	_, err := api.NewClient(socket).Status(t.Context())
	want := "hnetd is not running (no socket at " + socket + "): start it with 'systemctl start hnetd' or 'hnetd'"
	if !api.IsCode(err, api.CodeNotRunning) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	leaveStale(t, socket)
	if _, err := api.NewClient(socket).Status(t.Context()); !api.IsCode(err, api.CodeNotRunning) || !strings.Contains(err.Error(), "nobody answers") {
		t.Errorf("stale: %v", err)
	}
}

// leaveStale leaves a socket file as a killed daemon does.
func leaveStale(t *testing.T, socket string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "run", "hnetd.sock")
	l, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode() != fs.ModeSocket|0o666 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if _, err := api.Listen(socket); err == nil || !strings.Contains(err.Error(), "another hnetd already answers") {
		t.Errorf("second: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}

	leaveStale(t, socket)
	if l, err = api.Listen(socket); err != nil {
		t.Fatalf("stale: %v", err)
	}
	l.Close()

	// A live socket whose owner holds no lock.
	other, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen(socket); err == nil || !strings.Contains(err.Error(), "another hnetd already answers") {
		t.Errorf("alive without lock: %v", err)
	}
	other.Close()

	if err := os.WriteFile(socket, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen(socket); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("a file: %v", err)
	}
	if b, _ := os.ReadFile(socket); string(b) != "x" {
		t.Error("the file in the way was touched")
	}
	if _, err := api.Listen(filepath.Join(dir, strings.Repeat("x", 108), "hnetd.sock")); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("long path: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	s := api.NewServer(&apitest.Node{}, api.Options{Group: noGroup})
	if w := s.Warnings(); len(w) != 1 || w[0].Code != "group_missing" || w[0].Fix == "" {
		t.Errorf("%+v", w)
	}
	s = api.NewServer(&apitest.Node{}, api.Options{Group: func() (uint32, bool) { return 7, true }})
	if w := s.Warnings(); len(w) != 0 {
		t.Errorf("%+v", w)
	}
}

func TestEvents(t *testing.T) {
	n := &apitest.Node{}
	c, _ := serve(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	events, err := c.Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	want := []api.Event{
		{Time: time.Unix(1, 0).UTC(), Type: api.EventPeerState, Peer: &api.Peer{Address: robot, State: api.Connected}},
		{Time: time.Unix(2, 0).UTC(), Type: api.EventWhitelist, Detail: "x"},
	}
	for _, ev := range want {
		n.Publish(ev)
		got, err := events.Next()
		check(t, "event", ev, got, err)
	}
	cancel()
	if _, err := events.Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}
}

func TestEventsEndWithDaemon(t *testing.T) {
	run, stop := apitest.Serve(t, &apitest.Node{}, api.Options{Credentials: root})
	events, err := api.NewClient(filepath.Join(run, "hnetd.sock")).Subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := events.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

// A reader that does not read holds nobody up, and learns that it was cut when it reads again.
func TestSlowReader(t *testing.T) {
	n := &apitest.Node{}
	c, _ := serve(t, n)
	slow, err := c.Subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	const sent = 5000
	pad := strings.Repeat("x", 1000)
	start := time.Now()
	for range sent {
		n.Publish(api.Event{Time: start, Type: api.EventWarning, Detail: pad})
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("publishing took %v", took)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	var last api.Event
	got := 0
	for {
		ev, err := slow.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = ev
		got++
	}
	if last.Type != api.EventOverflow || last.Detail == "" || got >= sent {
		t.Errorf("%d events, the last %+v", got, last)
	}
}

func TestLimits(t *testing.T) {
	var uid atomic.Uint32
	uid.Store(1000)
	run, _ := apitest.Serve(t, &apitest.Node{}, api.Options{Group: noGroup, Credentials: func(*net.UnixConn) (api.Credentials, error) {
		return api.Credentials{UID: uid.Load(), GID: 1000}, nil
	}})
	socket := filepath.Join(run, "hnetd.sock")
	open := func() (refused bool) {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		io.WriteString(conn, "GET /v1/id HTTP/1.1\r\nHost: hnetd\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode == 503
	}
	fill := func() (n int) {
		for n < 100 && !open() {
			n++
		}
		return n
	}
	if n := fill(); n != 24 {
		t.Errorf("one user got %d places", n)
	}
	uid.Store(1001)
	if n := fill(); n != 24 {
		t.Errorf("the next user got %d places", n)
	}
	uid.Store(1002)
	if n := fill(); n != 8 {
		t.Errorf("the third user got %d places", n)
	}
	uid.Store(0)
	if n := fill(); n != 8 {
		t.Errorf("root got %d places", n)
	}
	for range 50 {
		if _, err := api.NewClient(socket).Status(t.Context()); !api.IsCode(err, api.CodeBusy) {
			t.Fatalf("the client is told %v", err)
		}
	}
}

// Of those beyond the limits only a few are held, and none of them for long enough to matter.
func TestLobby(t *testing.T) {
	_, socket := serve(t, &apitest.Node{})
	var last net.Conn
	for range 64 + 8 + 1 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		last = conn
	}
	last.SetReadDeadline(time.Now().Add(2 * time.Second))
	if n, err := last.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v: the connection is held", n, err)
	}
}

func TestStreamLimit(t *testing.T) {
	c, _ := serve(t, &apitest.Node{})
	for i := range 32 {
		events, err := c.Subscribe(t.Context())
		if err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		defer events.Close()
	}
	if _, err := c.Subscribe(t.Context()); !api.IsCode(err, api.CodeBusy) {
		t.Errorf("one more: %v", err)
	}
}

// A place taken is given back.
func TestPlacesComeBack(t *testing.T) {
	_, socket := serve(t, &apitest.Node{})
	for i := range 300 {
		if status, _ := raw(t, socket, "GET /v1/id HTTP/1.1\r\nHost: hnetd\r\n"); status != 200 {
			t.Fatalf("connection %d: %d", i, status)
		}
	}
}
