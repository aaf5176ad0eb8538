// Package node is the daemon put together: identity, whitelist, names, LAN discovery, the engine and the local API, wired by events.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/cpu"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/client"
	"github.com/hnet-robotics/hnet_bridge/overlay/clock"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/contact"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/host"
	"github.com/hnet-robotics/hnet_bridge/overlay/hostnames"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/lan"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
	"github.com/hnet-robotics/hnet_bridge/overlay/portmap"
	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/overlay/whitelist"
)

// Options are what a Node is made from; all fields but Leaving, Admit, Depart, Inspect, Multicast and Traffic must be set.
type Options struct {
	Config config.Config
	Paths  config.Paths
	Host   host.Host
	Log    *slog.Logger
	// Ready is called once hnet0 has its address and the local API answers, Stopping when the end begins.
	Ready    func()
	Stopping func()
	// Leaving is called with a peer that is about to leave the whitelist, while it can still be talked to. It may take a fraction of a second.
	Leaving func(ctx context.Context, peer netip.Addr)
	// Admit, Depart, Inspect and Multicast look into what hnet0 carries, see engine.Config; nil = nobody does.
	Admit     func(peer netip.Addr, packet []byte) bool
	Depart    func(peer netip.Addr, packet []byte)
	Inspect   func() engine.Inspector
	Multicast engine.Multicast
	// Traffic tells what Inspect's Inspectors saw; nil = nobody looks.
	Traffic func() api.Traffic
}

// Node is one running overlay node.
type Node struct {
	opt Options
	cfg config.Config
	log *slog.Logger

	lock      *statefile.Lock
	identity  *identity.Identity
	clock     *clock.Clock
	whitelist *whitelist.List
	names     *hostnames.Table
	contacts  *contact.Book
	warnings  *health.Warnings
	watcher   *netwatch.Watcher
	device    host.Device
	engine    *engine.Engine
	sockets   sockets
	port      uint16
	bases     *client.Client
	baseNews  baseNews
	relaying  relaying
	nat       *natProbe
	mapper    *portmap.Mapper // nil if switched off
	relay     *relay          // nil unless this node relays for its peers
	where     where
	inside    inside
	ipv4      *ipv4
	routing   routing
	spares    *spares
	lan       *lan.Discovery // nil if switched off
	server    *api.Server
	listener  *api.Listener
	metrics   net.Listener // nil if switched off
	hub       api.Hub

	inbox      *inbox
	roster     *roster
	lookups    *lookups
	clones     clones
	runs       runs
	alive      chan chan<- struct{} // asks watchPeers for a sign of life
	announcing sync.Mutex           // held while the contact record is renewed
	serving    sync.Mutex           // held while the Bases are told
	editing    sync.Mutex           // held by whoever changes the whitelist, the names or the hosts file; taken before all other locks
	goingDown  atomic.Bool          // 'hnet down' is removing the device under the engine
	stop       context.CancelCauseFunc
	closers    []func()
}

// errDown ends Run after 'hnet down'.
var errDown = errors.New("hnet down")

// Open takes the state folder, the sockets and hnet0, or leaves nothing behind. Every error is one line that says what to do. Run goes on from here.
func Open(opt Options) (*Node, error) {
	n := &Node{opt: opt, cfg: opt.Config, log: opt.Log, inbox: newInbox(), ipv4: newIPv4(), alive: make(chan chan<- struct{})}
	n.warnings = health.New(opt.Log, func(w health.Warning, on bool) {
		detail := w.Text
		if !on {
			detail = "no longer: " + w.Text
		}
		n.publish(api.EventWarning, netip.Addr{}, detail)
	})
	if err := n.open(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *Node) open() (err error) {
	if err = n.openState(); err != nil {
		return err
	}
	// The API's socket comes early: a second daemon on the same run folder must fail before it touches hnet0.
	if n.listener, err = api.Listen(n.opt.Paths.Socket()); err != nil {
		return err
	}
	n.onClose(func() { n.listener.Close() })
	n.server = api.NewServer(n, api.Options{Log: n.log})
	if err = n.listenMetrics(); err != nil {
		return err
	}
	c := engine.Config{
		Identity: n.identity, Directory: directory{n}, OffersAES: offersAES(n.cfg.Cipher), Notify: n.notify, Log: n.log,
		Unpaced: !n.cfg.Pace, LowData: n.cfg.LowData, Admit: n.opt.Admit, Depart: n.opt.Depart, Inspect: n.opt.Inspect, Multicast: n.opt.Multicast,
	}
	if err = n.openSockets(&c); err != nil {
		return err
	}
	if err = n.openDevice(&c); err != nil {
		return err
	}
	// After all that a host can refuse: each opening takes an hour of the reserve.
	if n.clock, err = n.openClock(n.state("clock")); err != nil {
		return err
	}
	n.onClose(func() { n.clock.Close() })
	c.Stamp = n.clock.Now
	n.nat = newNATProbe()
	n.spares = newSpares()
	n.openBases()
	if n.relay, err = n.openRelay(); err != nil {
		return err
	}
	c.IPv4Message = n.ipv4Message
	c.Own, c.OnLink, c.Route, c.Scout = own{n}, n.onLink, n.routing.to, openScout
	if n.engine, err = engine.New(c); err != nil {
		return err
	}
	if n.cfg.LANDiscovery {
		n.lan = lan.New(lan.Config{Identity: n.identity, Excluded: n.cfg.Interface, Sightings: n.sighted, Clones: n.cloned, LowData: n.cfg.LowData, Log: n.log})
	}
	if n.cfg.PortMapping {
		n.mapper = portmap.New(portmap.Config{
			Port: func() uint16 { return n.port }, Notify: n.mapped, Log: n.log, Excluded: n.cfg.Interface, Rare: n.cfg.LowData,
		})
	}
	n.lookups = newLookups()
	n.onClose(n.lookups.close)
	// Last, since only its Run gives back what it takes.
	n.watcher, err = netwatch.New(n.log)
	return err
}

// openDevice opens hnet0 for the engine.
func (n *Node) openDevice(c *engine.Config) error {
	file, device, err := n.opt.Host.OpenDevice(host.DeviceSpec{Name: n.cfg.Interface, Address: n.identity.Address(), MTU: n.deviceMTU()})
	if err != nil {
		return err
	}
	n.device = device
	if c.Device, err = tun.NewFile(file, device.USO); err != nil {
		file.Close()
		return err
	}
	c.Excluded = uint32(device.Index)
	n.onClose(func() { c.Device.Close() })
	return nil
}

// state is the path of a file in the state folder.
func (n *Node) state(name string) string { return filepath.Join(n.opt.Paths.State, name) }

// openState takes the state folder and reads what is in it.
func (n *Node) openState() (err error) {
	if n.lock, err = statefile.LockDir(n.opt.Paths.State); err != nil {
		return err
	}
	n.onClose(func() { n.lock.Close() })
	created := false
	if n.identity, created, err = identity.LoadOrCreate(n.state("identity")); err != nil {
		return err
	}
	if created {
		n.log.Info("a new identity was made", "address", n.identity.Address(), "file", n.state("identity"))
	}
	if n.whitelist, err = whitelist.Open(n.state("whitelist.json")); err != nil {
		return err
	}
	n.whitelist.SetDefaultEnabled(n.cfg.WhitelistEnabled)
	static, err := staticEntries(n.cfg.Peers, n.identity.PublicKey())
	if err == nil {
		err = n.whitelist.SetStatic(static)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.opt.Paths.Config, err)
	}
	n.roster = newRoster()
	if n.names, err = hostnames.Open(n.state("hostnames.json")); err != nil {
		return err
	}
	if n.contacts, err = contact.Open(n.state("contacts.json")); err != nil {
		// Only a memory of endpoints; without it contact takes a moment longer.
		n.log.Warn("the endpoints of the last run are not known", "err", err, "fix", "nothing to do: it is written anew")
	}
	n.openIPv4()
	n.contacts.Keep(func(a netip.Addr) bool { _, listed := n.whitelist.Get(a); return listed })
	n.warnUnused()
	return nil
}

// openClock opens the clock reserve. A damaged one is put aside: it only guards against a clock set back, and is no reason to leave a robot
// without its network.
func (n *Node) openClock(path string) (*clock.Clock, error) {
	c, err := clock.Open(path, n.log)
	if !errors.Is(err, statefile.ErrDamaged) {
		return c, err
	}
	n.log.Warn("the clock reserve is damaged and was put aside", "err", err, "kept", path+".damaged",
		"fix", "see that this host's clock is right: if it is behind, peers refuse contact until it has caught up")
	if err := os.Rename(path, path+".damaged"); err != nil {
		return nil, fmt.Errorf("the damaged clock reserve cannot be put aside: %w", err)
	}
	return clock.Open(path, n.log)
}

// warnUnused tells of settings that are accepted and have no effect as things are.
func (n *Node) warnUnused() {
	for _, s := range []struct {
		name string
		set  bool
		fix  string
	}{
		{"dds.lanes", len(n.cfg.DDS.Lanes) > 0 && n.opt.Inspect == nil, "set 'dds.enabled' and 'dds.watch' to true, or mark urgent packets by their DSCP: 40 and above go first"},
	} {
		if s.set {
			n.warnings.Raise(health.Warning{Code: health.SettingUnused, Subject: s.name,
				Text: "the setting '" + s.name + "' has no effect", Fix: s.fix})
		}
	}
}

// staticEntries are the whitelist's entries for the peers of the configuration, of which the node itself cannot be one.
func staticEntries(peers []config.Peer, own identity.PublicKey) (entries []whitelist.Entry, err error) {
	for _, p := range peers {
		if p.Key == own {
			return nil, fmt.Errorf("the key %s under 'peers' is this node's own: remove it", p.Key)
		}
		entries = append(entries, whitelist.Entry{
			Address: p.Key.Address(), Key: p.Key, Endpoint: p.Endpoint, PSK: p.PSK, Relay: p.Relay, Source: whitelist.SourceConfig,
		})
	}
	return entries, nil
}

// defaultDeviceMTU lets peers' routes grow with their paths up to what jumbo frames carry; the route of the whole overlay stays at 1280.
const defaultDeviceMTU = 8920

func (n *Node) deviceMTU() int {
	if n.cfg.MTU != 0 {
		return n.cfg.MTU
	}
	return defaultDeviceMTU
}

// offersAES decides by the processor: without AES instructions ChaCha20-Poly1305 is several times as fast.
func offersAES(c config.Cipher) bool {
	switch c {
	case config.CipherAES256GCM:
		return true
	case config.CipherAuto:
		return (cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ) || (cpu.ARM64.HasAES && cpu.ARM64.HasPMULL)
	}
	return false
}

func (n *Node) onClose(f func()) { n.closers = append(n.closers, f) }

func (n *Node) close() {
	for i := len(n.closers) - 1; i >= 0; i-- {
		n.closers[i]()
	}
	n.closers = nil
}

// Run carries traffic until ctx ends or 'hnet down'; hnet0 stays unless it was the latter. A nil error is an orderly end.
func (n *Node) Run(ctx context.Context) error {
	defer n.close()
	ctx, n.stop = context.WithCancelCause(ctx)
	defer n.stop(nil)
	n.log.Info("node is up", "address", n.identity.Address(), "interface", n.cfg.Interface, "port", n.port, "version", api.Version())
	for _, w := range n.server.Warnings() {
		n.warnings.Raise(health.Warning{Code: health.Code(w.Code), Text: w.Text, Fix: w.Fix})
	}
	if !n.whitelist.Enabled() {
		n.warnOpen(true)
	}
	n.editing.Lock()
	n.writeHosts()
	n.editing.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, n.opt.Stopping)()
	watch := func(f func(context.Context)) { g.Go(func() error { f(ctx); return nil }) }
	// The sockets are the engine's, and the Bases are taken leave of by them: the engine ends after their client.
	carrying, left := context.WithCancel(context.WithoutCancel(ctx))
	defer left()
	g.Go(func() error {
		if err := n.engine.Run(carrying); err != nil && !n.goingDown.Load() {
			return err
		}
		return nil
	})
	g.Go(func() error { return n.server.Serve(ctx, n.listener) })
	g.Go(func() error { return ended(ctx, n.watcher.Run(ctx)) })
	watch(n.watchLinks)
	watch(n.watchPeers)
	watch(n.watchBases)
	watch(n.watchNAT)
	watch(n.watchSpares)
	watch(n.watchSelf)
	n.startIPv4()
	watch(n.watchIPv4)
	g.Go(func() error { defer left(); return ended(ctx, n.bases.Run(ctx)) })
	if n.mapper != nil {
		g.Go(func() error { return ended(ctx, n.mapper.Run(ctx)) })
	}
	if n.relay != nil {
		g.Go(func() error { return ended(ctx, n.relay.run(ctx)) })
	}
	watch(n.watchClones)
	watch(func(ctx context.Context) { n.contacts.Run(ctx, n.contactsStored) })
	if n.lan != nil {
		g.Go(func() error { return ended(ctx, n.lan.Run(ctx)) })
	}
	if n.metrics != nil {
		g.Go(func() error { return n.serveMetrics(ctx) })
	}
	n.wanted()
	n.resolveAll()
	n.reconnect()
	n.opt.Ready()
	err := g.Wait()
	if failed := n.contacts.Flush(); failed != nil {
		n.contactsStored(failed)
	}
	if err != nil && !errors.Is(context.Cause(ctx), errDown) && !errors.Is(err, context.Canceled) {
		return err
	}
	n.log.Info("node has stopped", "address", n.identity.Address())
	return nil
}

// contactsStored tells the outcome of writing the contact book.
func (n *Node) contactsStored(err error) {
	n.warnings.Set(err, health.Warning{Code: health.Contacts, Fix: "make " + n.opt.Paths.State + " writable"})
}

// ended forgives an error that only says that ctx ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// reconnect begins a handshake at once with every peer that the last run had a session with: they still seal with keys that are lost,
// and would notice only after 15 seconds.
func (n *Node) reconnect() {
	for _, address := range n.contacts.LastConnected() {
		_ = n.engine.Connect(address) // it can only have left the whitelist
	}
}
