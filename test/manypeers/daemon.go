package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/whitelist"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// daemon is hnetd in a host's network. It is started by this program itself: a start of 10 ms is not to be measured through a helper process.
type daemon struct {
	t       lab.TB
	host    *lab.Host
	dir     string
	cmd     *exec.Cmd
	log     bytes.Buffer
	id      *identity.Identity
	env     []string        // beside that of this program
	started []time.Duration // to READY=1
}

// extra is more configuration of all daemons.
var extra string

// newDaemon prepares a daemon whose whitelist names these peers. It does not start it.
func newDaemon(t lab.TB, h *lab.Host, entries []whitelist.Entry) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "manypeers")
	if err != nil {
		t.Fatalf("%v", err)
	}
	d := &daemon{t: t, host: h, dir: dir}
	t.Cleanup(func() { d.stop(); os.RemoveAll(dir) })
	if d.id, _, err = identity.LoadOrCreate(d.make("state", "identity")); err != nil {
		t.Fatalf("%v", err)
	}
	d.trust(entries)
	config := "hosts_file: " + d.make("hosts", "hosts") + "\nport_mapping: false\n" + extra
	if err := os.WriteFile(d.make("config", "hnet.yaml"), []byte(config), 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	return d
}

// make returns the path of a file in a folder of the daemon's, which it makes.
func (d *daemon) make(folder, file string) string {
	if err := os.MkdirAll(filepath.Join(d.dir, folder), 0o700); err != nil {
		d.t.Fatalf("%v", err)
	}
	return filepath.Join(d.dir, folder, file)
}

// trust writes the whitelist as hnetd stores it.
func (d *daemon) trust(entries []whitelist.Entry) {
	b, err := json.Marshal(struct {
		Version int               `json:"version"`
		Entries []whitelist.Entry `json:"entries"`
	}{1, entries})
	if err == nil {
		err = os.WriteFile(d.make("state", "whitelist.json"), b, 0o600)
	}
	if err != nil {
		d.t.Fatalf("%v", err)
	}
}

// start starts hnetd and returns when it has told that it is ready.
func (d *daemon) start() {
	d.t.Helper()
	path := filepath.Join(d.dir, "notify")
	_ = os.Remove(path)
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		d.t.Fatalf("%v", err)
	}
	defer c.Close()
	d.log.Reset()
	d.cmd = exec.Command(fleet.Binary(d.t, "hnetd"), "-config", d.make("config", "hnet.yaml"), "-state", d.make("state", ""), "-run", d.make("run", ""))
	d.cmd.Env = append(append(os.Environ(), "NOTIFY_SOCKET="+path), d.env...)
	d.cmd.Stderr = &d.log
	begin := time.Now()
	if err := d.host.Do(d.cmd.Start); err != nil {
		d.t.Fatalf("%v", err)
	}
	_ = c.SetReadDeadline(begin.Add(fleet.ReadyTimeout))
	b := make([]byte, 100)
	if n, err := c.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "READY=1") {
		d.stop()
		d.t.Fatalf("hnetd does not get ready: %q %v\n%s", b[:n], err, d.log.String())
	}
	d.started = append(d.started, time.Since(begin))
}

func (d *daemon) stop() {
	if d.cmd != nil && d.cmd.Process != nil {
		_ = d.cmd.Process.Signal(unix.SIGTERM)
		_ = d.cmd.Wait()
		d.cmd = nil
	}
}

// hnet runs the command line beside the daemon and returns how long it took.
func (d *daemon) hnet(args ...string) (output []byte, took time.Duration) {
	d.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(fleet.Binary(d.t, "hnet"), args...)
	cmd.Env = append(os.Environ(), "HNET_RUN="+d.make("run", ""), "HNET_CONFIG="+d.make("config", "hnet.yaml"))
	cmd.Stdout, cmd.Stderr = &out, &errs
	begin := time.Now()
	err := d.host.Do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		d.t.Fatalf("hnet %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.Bytes(), time.Since(begin)
}

// peers asks hnetd for all peers.
func (d *daemon) peers() (peers []api.Peer) {
	d.t.Helper()
	out, _ := d.hnet("--json", "peers")
	if err := json.Unmarshal(out, &peers); err != nil {
		d.t.Fatalf("hnet peers: %v", err)
	}
	return peers
}

// usage is what a process uses.
type usage struct {
	rss, anon, peak float64       // resident memory, its private part, and the most so far, MB
	cpu             time.Duration // so far
	switches        uint64        // how often a thread of it went to sleep so far
}

func (d *daemon) usage() (u usage) {
	d.t.Helper()
	dir := "/proc/" + strconv.Itoa(d.cmd.Process.Pid)
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		d.t.Fatalf("%v\n%s", err, d.log.String())
	}
	u.rss, u.anon, u.peak = field(status, "VmRSS")/1024, field(status, "RssAnon")/1024, field(status, "VmHWM")/1024
	threads, _ := filepath.Glob(dir + "/task/*")
	for _, thread := range threads {
		if b, err := os.ReadFile(thread + "/schedstat"); err == nil {
			var ns int64
			fmt.Sscan(string(b), &ns)
			u.cpu += time.Duration(ns)
		}
		if b, err := os.ReadFile(thread + "/status"); err == nil {
			u.switches += uint64(field(b, "voluntary_ctxt_switches"))
		}
	}
	return u
}

// field is a number of a /proc status file.
func field(status []byte, name string) (v float64) {
	for line := range strings.Lines(string(status)) {
		if key, value, ok := strings.Cut(line, ":"); ok && key == name {
			fmt.Sscan(value, &v)
		}
	}
	return v
}

// entry is the whitelist's entry of a peer.
func entry(id *identity.Identity, name string) whitelist.Entry {
	return whitelist.Entry{Address: id.Address(), Key: id.PublicKey(), Hostname: name, Source: whitelist.SourceLocal}
}

// stranger is the i-th of the peers that are not there.
func stranger(i int) *identity.Identity {
	return identity.FromSeed([32]byte{1, byte(i), byte(i >> 8), byte(i >> 16)})
}

// underlay is where others reach the host's daemon.
func (d *daemon) underlay() netip.AddrPort { return netip.AddrPortFrom(d.host.Addr4("lan0"), 5582) }
