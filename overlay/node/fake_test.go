package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/host"
	"github.com/hnet-robotics/hnet_bridge/overlay/hostnames"
)

// fakeHost is a host whose device is one end of a pair of sockets.
type fakeHost struct {
	open func() (*os.File, error) // nil: a pair of sockets

	mu     sync.Mutex
	far    *os.File
	routes map[netip.Addr]int
	names  []hostnames.Name
	ipv4   host.IPv4Spec

	ipv4Error error
}

var _ host.Host = (*fakeHost)(nil)

func (h *fakeHost) OpenDevice(host.DeviceSpec) (*os.File, host.Device, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	device := host.Device{Index: 1 << 20}
	if h.open != nil {
		f, err := h.open()
		return f, device, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, device, err
	}
	if h.far != nil {
		h.far.Close()
	}
	h.far = os.NewFile(uintptr(fds[1]), "far end of hnet0")
	return os.NewFile(uintptr(fds[0]), "hnet0"), device, nil
}

func (h *fakeHost) RemoveDevice(string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.far.Close()
}

func (h *fakeHost) SetPeerRoute(_ string, peer netip.Addr, mtu int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.routes == nil {
		h.routes = make(map[netip.Addr]int)
	}
	if h.routes[peer] = mtu; mtu == 0 {
		delete(h.routes, peer)
	}
	return nil
}

func (h *fakeHost) route(peer netip.Addr) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.routes[peer]
}

func (h *fakeHost) SetIPv4(_ string, s host.IPv4Spec) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ipv4Error != nil {
		return h.ipv4Error
	}
	h.ipv4 = s
	return nil
}

func (h *fakeHost) WriteHosts(_ string, names []hostnames.Name) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names = names
	return nil
}

func (h *fakeHost) written() map[string]netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := make(map[string]netip.Addr)
	for _, n := range h.names {
		names[n.Name] = n.Address
	}
	return names
}

func (h *fakeHost) GrowBuffers(syscall.Conn, int) error { return nil }

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// testOptions are for a node on this machine's loopback that nobody else notices.
func testOptions(t *testing.T, log io.Writer, change func(*config.Config)) (Options, *fakeHost) {
	t.Helper()
	dir := t.TempDir()
	cfg := config.Default()
	cfg.Port, cfg.PortSet, cfg.LANDiscovery, cfg.PortMapping = 0, true, false, false
	if change != nil {
		change(&cfg)
	}
	h := &fakeHost{}
	t.Cleanup(func() {
		if h.far != nil {
			h.far.Close()
		}
	})
	return Options{
		Config: cfg, Paths: config.Paths{Config: "hnet.yaml", State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")},
		Host: h, Log: slog.New(slog.NewTextHandler(log, nil)), Ready: func() {}, Stopping: func() {},
	}, h
}

// openNode opens a node that does not run, and ends it with the test.
func openNode(t *testing.T, change func(*config.Config)) *Node {
	t.Helper()
	opt, _ := testOptions(t, io.Discard, change)
	n, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, n) })
	return n
}

// end closes a node that does not run.
func end(t *testing.T, n *Node) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := n.Run(ctx); err != nil {
		t.Error(err)
	}
}

// running is a node that runs.
type running struct {
	*Node
	t      *testing.T
	log    *lockedBuffer
	host   *fakeHost
	events <-chan api.Event
	stop   func() error // ends it and returns what Run did
}

func run(t *testing.T, opt Options, h *fakeHost, log *lockedBuffer) *running {
	t.Helper()
	n, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	ready := make(chan struct{})
	n.opt.Ready = func() { close(ready) }
	r := &running{Node: n, t: t, log: log, host: h, events: n.Subscribe(t.Context())}
	r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	go func() { ended <- n.Run(ctx) }()
	select {
	case <-ready:
	case <-time.After(patience):
		t.Fatal("the node does not become ready")
	}
	return r
}

func start(t *testing.T, change func(*config.Config)) *running {
	t.Helper()
	log := &lockedBuffer{}
	opt, h := testOptions(t, log, change)
	return run(t, opt, h, log)
}

// patience is how long what should happen at once is waited for.
const patience = 10 * time.Second

// await returns the next event that is wanted.
func (r *running) await(what string, wanted func(api.Event) bool) api.Event {
	r.t.Helper()
	for late := time.After(patience); ; {
		select {
		case e := <-r.events:
			if wanted(e) {
				return e
			}
		case <-late:
			r.t.Fatalf("no event: %s\n%s", what, r.log)
		}
	}
}

func (r *running) awaitPeer(kind api.EventType, peer netip.Addr) api.Event {
	r.t.Helper()
	return r.await(string(kind), func(e api.Event) bool { return e.Type == kind && e.Peer != nil && e.Peer.Address == peer })
}

// awaitUp returns the event that tells that a peer is connected.
func (r *running) awaitUp(peer netip.Addr) api.Event {
	r.t.Helper()
	return r.await("connected", func(e api.Event) bool {
		return e.Type == api.EventPeerState && e.Peer.Address == peer && e.Peer.State == api.Connected
	})
}

// endpoint is where the node is reached by others on this machine.
func (r *running) endpoint() string {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), r.port).String()
}

func (r *running) mustAdd(add api.WhitelistAdd) api.WhitelistEntry {
	r.t.Helper()
	e, err := r.WhitelistAdd(r.t.Context(), add)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// trust lets two nodes talk; only the first one knows the key and where the other is.
func trust(a, b *running) {
	b.mustAdd(api.WhitelistAdd{Address: a.identity.Address(), Hostname: "robot-a"})
	a.mustAdd(api.WhitelistAdd{Key: b.identity.PublicKey().String(), Hostname: "robot-b", Endpoint: b.endpoint()})
	for _, pair := range [][2]*running{{a, b}, {b, a}} {
		ctx, cancel := context.WithTimeout(a.t.Context(), patience)
		defer cancel()
		if _, err := pair[0].Connect(ctx, pair[1].identity.Address()); err != nil {
			a.t.Fatal(err)
		}
	}
}

var errFake = errors.New("no device today: come back tomorrow")
