package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestSecondDaemon(t *testing.T) {
	_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
	fleet.Trust(a, b)
	mustPing(t, a, b.Address)
	// The state folder is to stay as it is from now on: the profiles are written after the whitelist.
	lab.Eventually(t, 10*time.Second, "the profiles with the new peer", func() error {
		if router := snapshot(t, a.Path(stateDir))["/dds/zenoh-router.json5"]; !strings.Contains(router, b.Address.String()) {
			return errors.New(router)
		}
		return nil
	})
	for name, test := range map[string]struct {
		words []string
		args  []string
	}{
		"same state folder": {[]string{stateDir, "in use", fmt.Sprintf("pid %d", a.Daemon.PID()), "stop that one"}, []string{"--run", "/run/other"}},
		"same run folder":   {[]string{"/run/hnet/hnetd.sock", "another hnetd", "--run"}, []string{"--state", "/var/lib/other"}},
		"same both":         {[]string{stateDir, "in use"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			refuses(t, a.Host, test.words, test.args...)
			a.Hnet("status")
			mustPing(t, a, b.Address)
		})
	}
	t.Run("same device", func(t *testing.T) {
		refuses(t, a.Host, []string{"hnet0", "in use", "stop the other hnetd", "interface"}, "--state", "/var/lib/other", "--run", "/run/other")
		mustPing(t, a, b.Address)
	})
	t.Run("a device and folders of its own", func(t *testing.T) {
		a.Write("/etc/hnet/second.yaml", "interface: hnet1\nhosts_file: \"\"\n")
		refuses(t, a.Host, []string{"fc94::/16", "hnet0"}, "--state", "/var/lib/other", "--run", "/run/other", "--config", "/etc/hnet/second.yaml")
		mustPing(t, a, b.Address)
	})
}

// allPorts are those that hnetd tries: ten from the default one, but for LAN discovery's.
var allPorts = []int{5582, 5584, 5585, 5586, 5587, 5588, 5589, 5590, 5591, 5592}

func TestPortInUse(t *testing.T) {
	for name, test := range map[string]struct {
		configuration string
		taken         []int
		refusal       []string // or
		warning       string
	}{
		"configured":         {"port: 6000\n", []int{6000}, []string{"6000", "in use", "port", "/etc/hnet/hnet.yaml"}, ""},
		"the default, named": {"port: 5582\n", []int{5582}, []string{"5582", "in use"}, ""},
		"the default":        {"", []int{5582}, nil, "port_taken"},
		"nine of ten":        {"", allPorts[:9], nil, "port_taken"},
		"all ten":            {"", allPorts, []string{"5582 to 5592", "in use", "port"}, ""},
		"LAN discovery's":    {"port: 5583\n", nil, []string{"5583", "LAN discovery", "port", "lan_discovery: false"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := lab.New(t)
			h := l.Host("robot1")
			occupy(t, h, test.taken)
			if test.refusal != nil {
				if err := os.MkdirAll(h.Path("/etc/hnet"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(h.Path("/etc/hnet/hnet.yaml"), []byte(test.configuration), 0o600); err != nil {
					t.Fatal(err)
				}
				refuses(t, h, test.refusal)
				return
			}
			other := l.Host("robot2")
			l.LAN(lab.Link{}, h, other)
			a, b := fleet.Start(t, h, test.configuration), fleet.Start(t, other, "")
			if !warnings(a)[test.warning] {
				t.Errorf("no warning %s:\n%s", test.warning, a.Hnet("status"))
			}
			fleet.Trust(a, b)
			mustPing(t, a, b.Address)
		})
	}
}

// TestHostRefuses takes from a host what hnetd needs.
func TestHostRefuses(t *testing.T) {
	run := func(h *lab.Host, script string) func(t *testing.T) {
		return func(t *testing.T) { h.Run(t, "sh", "-ec", script) }
	}
	for name, test := range map[string]struct {
		script string
		words  []string
	}{
		"state folder is read-only": {"mkdir -p /var/lib/hnet; mount -t tmpfs -o ro,mode=700 none /var/lib/hnet", []string{stateDir, "read-only", "state"}},
		"state folder is a file":    {"touch /var/lib/hnet", []string{stateDir, "not a directory"}},
		"run folder is read-only":   {"mkdir -p /run/hnet; mount -t tmpfs -o ro,mode=755 none /run/hnet", []string{"/run/hnet", "read-only", "--run"}},
		"run folder is a file":      {"touch /run/hnet", []string{"/run/hnet", "not a directory", "--run"}},
		"no /dev/net/tun":           {"mount -t tmpfs none /dev/net", []string{"/dev/net/tun", "modprobe tun", "--device"}},
		"IPv6 off and sealed": {"echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; mount --bind -o ro /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys",
			[]string{"IPv6", "hnet0", "sysctl net.ipv6.conf"}},
		"device name taken by a bridge": {"ip link add hnet0 type bridge", []string{"hnet0", "exists", "ip link delete hnet0", "interface"}},
		"device name taken by a TUN":    {"ip tuntap add dev hnet0 mode tun", []string{"hnet0", "exists", "ip link delete hnet0"}},
		"device name taken by a TAP":    {"ip tuntap add dev hnet0 mode tap", []string{"hnet0", "exists", "ip link delete hnet0"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := lab.New(t).Host("robot1")
			run(h, test.script)(t)
			out, code := finish(t, h, fleet.Binary(t, "hnetd"))
			checkRefusal(t, out, code, test.words)
			if links := h.Run(t, "ip", "-o", "link"); strings.Count(links, "hnet0") != strings.Count(test.script, "link add hnet0")+strings.Count(test.script, "dev hnet0") {
				t.Errorf("the failed start left a device, or took one away:\n%s", links)
			}
			if _, err := os.Lstat(h.Path("/run/hnet/hnetd.sock")); err == nil {
				t.Error("the failed start left its socket")
			}
		})
	}
}

func TestStartWithoutRights(t *testing.T) {
	h := lab.New(t).Host("robot1")
	command := asNobody(t, h, fleet.Binary(t, "hnetd"))
	t.Run("to the folders", func(t *testing.T) {
		out, code := finish(t, h, command[0], command[1:]...)
		checkRefusal(t, out, code, []string{stateDir, "permission denied"})
	})
	t.Run("to the network", func(t *testing.T) {
		h.Run(t, "install", "-d", "-o", "65534", "/run/mine", "/run/mine/state", "/run/mine/run")
		out, code := finish(t, h, command[0], append(command[1:], "--state", "/run/mine/state", "--run", "/run/mine/run")...)
		// Whether opening /dev/net/tun fails or making hnet0 with it depends on the device's mode, which udev sets.
		checkRefusal(t, out, code, []string{"run as root", "NET_ADMIN"})
	})
}

// TestIPv6OffByDefault is a host whose administrator switched IPv6 off with sysctl: hnet0 has it all the same.
func TestIPv6OffByDefault(t *testing.T) {
	l := lab.New(t)
	ha, hb := l.Host("robot1"), l.Host("robot2")
	l.LAN(lab.Link{}, ha, hb, lab.IPv4Only)
	for _, h := range []*lab.Host{ha, hb} {
		h.Run(t, "sh", "-ec", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
	}
	a, b := fleet.Start(t, ha, ""), fleet.Start(t, hb, "")
	fleet.Trust(a, b)
	mustPing(t, a, b.Address)
}

func TestDamagedState(t *testing.T) {
	l := lab.New(t)
	h := l.Host("robot1")
	r := fleet.Start(t, h, "")
	r.Hnet("whitelist", "add", "fc94::1", "--hostname", "robot2")
	r.Daemon.Stop()
	good := snapshot(t, h.Path(stateDir))
	identity, list := good["/identity"], good["/whitelist.json"]
	restore := "restore it from a backup"
	for name, test := range map[string]struct {
		file, content string
		mode          os.FileMode
		words         []string
	}{
		"identity empty":             {"identity", "", 0o600, []string{"identity", "empty", restore, "NEW address"}},
		"identity cut short":         {"identity", identity[:len(identity)/2], 0o600, []string{"identity", "damaged", restore}},
		"identity with a turned bit": {"identity", strings.Replace(identity, "seed: ", "seed: f", 1), 0o600, []string{"identity", "damaged", restore}},
		"identity of zeros":          {"identity", strings.Repeat("\x00", len(identity)), 0o600, []string{"identity", "damaged", restore}},
		"identity for all to read":   {"identity", identity, 0o644, []string{"identity", "0644", "chmod 600"}},
		"whitelist cut short":        {"whitelist.json", list[:len(list)/2], 0o600, []string{"whitelist.json", "damaged"}},
		"whitelist empty":            {"whitelist.json", "", 0o600, []string{"whitelist.json"}},
		"whitelist of zeros":         {"whitelist.json", strings.Repeat("\x00", 100), 0o600, []string{"whitelist.json", "damaged"}},
		"hostnames cut short":        {"hostnames.json", "{\"version\": 1,", 0o600, []string{"hostnames.json", "damaged"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(h.Path(stateDir), test.file)
			put(t, path, test.content, test.mode)
			defer func() {
				if content, had := good["/"+test.file]; had {
					put(t, path, content, 0o600)
				} else if err := os.Remove(path); err != nil {
					t.Error(err)
				}
			}()
			refuses(t, h, test.words)
		})
	}
	address := r.Address
	r.Restart()
	if out := strings.TrimSpace(r.Hnet("ip", "robot2")); out != "fc94::1" {
		t.Errorf("after all files were put back, robot2 is %s", out)
	}
	if out := r.Hnet("id"); !strings.Contains(out, address.String()) {
		t.Errorf("the address was %s, now:\n%s", address, out)
	}
}

// TestDamagedMemory shows that what can be made anew does not stop a start.
func TestDamagedMemory(t *testing.T) {
	t.Parallel()
	_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
	fleet.Trust(a, b)
	damage := func(file, content string) {
		t.Helper()
		a.Daemon.Kill9()
		put(t, a.Path(filepath.Join(stateDir, file)), content, 0o600)
		up(t, a)
		a.Hnet("wait", "peer", "robot2", "--timeout", "5s")
		if !strings.Contains(a.Daemon.Output(), filepath.Join(stateDir, file)) {
			t.Errorf("the damaged file %s (%.20q) is not named:\n%s", file, content, a.Daemon.Output())
		}
	}
	// The clock's reserve comes first: every kill of a daemon moves its timestamps an hour on, and without the reserve they begin at the clock again.
	damage("clock", "yesterday")
	if kept := a.Run(t, "cat", stateDir+"/clock.damaged"); kept != "yesterday" {
		t.Errorf("what was in the damaged file is lost: %q", kept)
	}
	for _, content := range []string{"", "{", "yesterday", strings.Repeat("\x00", 64), strings.Repeat("9", 1<<20)} {
		damage("contacts.json", content)
	}
}

func TestBadConfiguration(t *testing.T) {
	h := lab.New(t).Host("robot1")
	for name, test := range map[string]struct {
		content string
		words   []string
	}{
		"unknown key":    {"# mine\nport: 5582\nlan_discovry: true\n", []string{"/etc/hnet/hnet.yaml:3:", "lan_discovry", "lan_discovery"}},
		"no YAML":        {"port: 5582\n\tmtu: 3\n", []string{"/etc/hnet/hnet.yaml:2:"}},
		"a list":         {"- port\n", []string{"/etc/hnet/hnet.yaml:1:"}},
		"port too high":  {"port: 65536\n", []string{"/etc/hnet/hnet.yaml:1:", "port", "65535"}},
		"bad interface":  {"interface: a/b\n", []string{"/etc/hnet/hnet.yaml:1:", "interface"}},
		"key of nobody":  {"peers:\n  - {key: AAAA}\n", []string{"/etc/hnet/hnet.yaml:2:", "key"}},
		"key of zeros":   {"peers:\n  - {key: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}\n", []string{"/etc/hnet/hnet.yaml:2:", "key"}},
		"inner endpoint": {"peers:\n  - {key: \"mC3B7ZbBkLxJ9dZ6WmVTJEuUMR6QtvmCVYJcnsiYxzo=\", endpoint: \"[fc94::1]:5582\"}\n", []string{"/etc/hnet/hnet.yaml:2:", "fc94::1"}},
		"zero bytes":     {"port: \x00\x00\n", []string{"/etc/hnet/hnet.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.MkdirAll(h.Path("/etc/hnet"), 0o755); err != nil {
				t.Fatal(err)
			}
			put(t, h.Path("/etc/hnet/hnet.yaml"), test.content, 0o600)
			refuses(t, h, test.words)
			if _, err := os.Stat(h.Path(stateDir)); err == nil {
				t.Error("a state folder was made before the configuration was read")
			}
		})
	}
	t.Run("a folder", func(t *testing.T) {
		refuses(t, h, []string{"/etc/hnet", "directory"}, "--config", "/etc/hnet")
	})
	t.Run("usage", func(t *testing.T) {
		for _, args := range [][]string{{"--nonsense"}, {"extra"}, {"--state"}} {
			if out, code := finish(t, h, fleet.Binary(t, "hnetd"), args...); code != 2 || strings.Contains(out, "panic") {
				t.Errorf("hnetd %v: exit code %d\n%s", args, code, out)
			}
		}
	})
}

// TestHostsFileOutOfReach: names are a convenience, and the node runs without them, with a warning.
func TestHostsFileOutOfReach(t *testing.T) {
	h := lab.New(t).Host("robot1")
	h.Run(t, "sh", "-ec", "mount --bind /etc/hosts /etc/hosts; mount -o remount,ro,bind /etc/hosts")
	before, err := os.ReadFile(h.Path("/etc/hosts"))
	if err != nil {
		t.Fatal(err)
	}
	r := fleet.Start(t, h, "")
	r.Hnet("whitelist", "add", "fc94::1", "--hostname", "robot2")
	if !warnings(r)["hosts_file"] {
		t.Errorf("no warning hosts_file:\n%s", r.Hnet("status"))
	}
	after, err := os.ReadFile(h.Path("/etc/hosts"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(before), string(after)); diff != "" {
		t.Errorf("/etc/hosts changed:\n%s", diff)
	}
}

// put writes a file with its mode, and fails the test if it cannot.
func put(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
