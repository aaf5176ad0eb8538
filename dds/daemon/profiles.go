package daemon

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/node"
	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

// What the profiles warn of.
const (
	profileWarning health.Code = "dds_profiles" // they could not be written, or not all
	limitWarning   health.Code = "dds_limits"   // the kernel gives DDS programs too little room; its subject is the setting
)

// profilesEvery is how often what no event tells of is looked at: kernel limits, the interfaces of the LAN. cycloneEvery is for the version of Cyclone that is
// installed: it takes a look at a thousand names of libraries, which was four fifths of all that an idle hnetd allocated.
const (
	profilesEvery = 10 * time.Second
	cycloneEvery  = time.Minute
)

// profileKeeper keeps the profiles of DDS programs as this host needs them.
type profileKeeper struct {
	log    *slog.Logger
	cfg    config.Config
	paths  config.Paths
	node   *node.Node
	system fs.FS // the root of the file system, to read from
	lan    func() []string
	swept  bool // of what a crash left
	made   made

	cyclone  profile.CycloneVersion
	detected time.Time
}

// installed returns the version of Cyclone DDS that is installed, as of a minute ago at most.
func (k *profileKeeper) installed(now time.Time) profile.CycloneVersion {
	if k.detected.IsZero() || now.Sub(k.detected) >= cycloneEvery {
		k.cyclone, _ = profile.DetectCyclone(k.system, nil, "")
		k.detected = now
	}
	return k.cyclone
}

// made are the files as they were made last, and what of. To make them takes some milliseconds, and nearly always nothing has changed.
type made struct {
	params  profile.Params
	cyclone profile.CycloneVersion
	files   []profile.File
	left    error
}

// set returns the files for p.
func (k *profileKeeper) set(p profile.Params, dir string, cyclone profile.CycloneVersion) ([]profile.File, error) {
	if m := &k.made; len(m.files) == 0 || m.cyclone != cyclone || !same(m.params, p) {
		*m = made{params: p, cyclone: cyclone}
		m.files, m.left = profile.Set(p, dir, cyclone)
	}
	return k.made.files, k.made.left
}

// keepProfiles writes the profiles when the node runs and whenever they would be others, until ctx ends.
func keepProfiles(ctx context.Context, log *slog.Logger, cfg config.Config, paths config.Paths, n *node.Node) {
	k := &profileKeeper{log: log, cfg: cfg, paths: paths, node: n, system: os.DirFS("/"), lan: func() []string { return lanInterfaces(cfg.Interface) }}
	changed := make(chan struct{}, 1)
	go tellChanges(ctx, n, changed, api.EventWhitelist)
	tick := time.NewTicker(profilesEvery)
	defer tick.Stop()
	for {
		k.write(ctx)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// same reports whether profiles for a and b are the same.
func same(a, b profile.Params) bool {
	if !slices.Equal(a.Peers, b.Peers) { // the long part, which reflection would take a hundred times as long for
		return false
	}
	a.Peers, b.Peers = nil, nil
	return reflect.DeepEqual(a, b)
}

// write brings the files up to date, and the warnings.
func (k *profileKeeper) write(ctx context.Context) {
	p, err := k.params(ctx)
	if err != nil {
		return // the node ends
	}
	dir := k.cfg.DDS.Folder(k.paths)
	files, left := k.set(p, dir, k.installed(time.Now()))
	err = left
	if len(files) > 0 {
		changed, failed := k.store(dir, files)
		err = errors.Join(err, failed)
		if len(changed) > 0 {
			k.log.Info("DDS profiles are written; programs read them when they start", "folder", dir, "files", strings.Join(changed, " "))
		}
	}
	fix := "make " + dir + " writable, or set dds.dir to another folder"
	if left != nil {
		fix = "see what the text says; programs use the profiles written before"
	}
	k.warn(err, health.Warning{Code: profileWarning, Fix: fix})
	k.warnOfLimits(p.Limits)
}

// store puts the files where programs read them. A state folder that was taken away is not made anew: the node would go on in it without its identity.
func (k *profileKeeper) store(dir string, files []profile.File) (changed []string, err error) {
	if err := openFolder(k.paths.State, dir); err != nil {
		return nil, err
	}
	if !k.swept {
		if err := statefile.Sweep(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		k.swept = true
	}
	return profile.Store(dir, files)
}

func (k *profileKeeper) warn(err error, w health.Warning) {
	if err == nil {
		k.node.Clear(w.Code, w.Subject)
		return
	}
	w.Text = strings.Join(strings.Fields(err.Error()), " ")
	k.node.Raise(w)
}

// warnOfLimits raises what sysctl should raise, and ends what it has.
func (k *profileKeeper) warnOfLimits(l profile.Limits) {
	advice := l.Advice()
	for _, setting := range profile.AdvisedSettings {
		i := slices.IndexFunc(advice, func(a profile.Advice) bool { return a.Setting == setting })
		if i < 0 {
			k.node.Clear(limitWarning, setting)
			continue
		}
		k.node.Raise(health.Warning{Code: limitWarning, Subject: setting, Text: advice[i].Text,
			Fix: "sysctl -w " + advice[i].Line() + ", and to keep it: hnet dds install --sysctl"})
	}
}

func (k *profileKeeper) params(ctx context.Context) (p profile.Params, err error) {
	id, err := k.node.ID(ctx)
	if err != nil {
		return p, err
	}
	sys, err := fs.Sub(k.system, "proc/sys")
	if err != nil {
		return p, err
	}
	p = profile.Params{
		Interface: k.cfg.Interface, Address: id.Address, IPv4: overlayIPv4(k.cfg.Interface), Mode: profile.Mode(k.cfg.DDS.Mode),
		Limits: profile.ReadLimits(sys),
	}
	if p.IPv4.IsValid() && p.Mode == profile.Both {
		p.LAN = k.lan()
	}
	p.Peers = k.node.Whitelisted()
	return p, nil
}

// openFolder lets everybody into the state folder as far as the profiles, which programs of any user read, if they are in
// there. What is secret in it has a mode of its own.
func openFolder(state, dir string) error {
	inside, err := filepath.Rel(state, dir)
	if err != nil || !filepath.IsLocal(inside) {
		return nil
	}
	info, err := os.Stat(state)
	if err != nil || info.Mode().Perm()&0o011 == 0o011 {
		return err
	}
	return os.Chmod(state, info.Mode().Perm()|0o011)
}

// overlayIPv4 is this host's IPv4 address on the overlay's interface, if it has one.
func overlayIPv4(name string) netip.Addr {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return netip.Addr{}
	}
	return ipv4Of(i)
}

func ipv4Of(i *net.Interface) netip.Addr {
	prefixes, err := i.Addrs()
	if err != nil {
		return netip.Addr{}
	}
	for _, p := range prefixes {
		if prefix, err := netip.ParsePrefix(p.String()); err == nil && prefix.Addr().Is4() {
			return prefix.Addr()
		}
	}
	return netip.Addr{}
}

// virtual are devices that lead to containers and virtual machines of this host.
var virtual = []string{"docker", "br-", "veth", "virbr", "vnet", "lxc", "lxd", "cni", "flannel", "cali", "podman", "tun", "tap", "wg"}

// lanInterfaces are the interfaces that lead to a LAN where DDS programs may be, those with hardware first.
func lanInterfaces(overlay string) (names []string) {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	const want = net.FlagUp | net.FlagMulticast
	hardware := make(map[string]bool)
	for _, i := range all {
		leads := i.Name != overlay && i.Flags&want == want && i.Flags&(net.FlagLoopback|net.FlagPointToPoint) == 0
		if !leads || slices.ContainsFunc(virtual, func(prefix string) bool { return strings.HasPrefix(i.Name, prefix) }) || !ipv4Of(&i).IsValid() {
			continue
		}
		_, err := os.Stat(filepath.Join("/sys/class/net", i.Name, "device"))
		hardware[i.Name] = err == nil
		names = append(names, i.Name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if hardware[a] != hardware[b] {
			if hardware[a] {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return names[:min(len(names), profile.MaxLAN)]
}
