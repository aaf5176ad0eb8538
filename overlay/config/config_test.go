package config

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	installed "github.com/hnet-robotics/hnet_bridge/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

func testKey(t testing.TB, n byte) identity.PublicKey {
	t.Helper()
	return identity.FromSeed([32]byte{n}).PublicKey()
}

var compare = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.IgnoreUnexported(Peer{})}

func TestDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "bases:\npeers:\nport:\ndds:\n"} {
		got, err := Parse("hnet.yaml", []byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if diff := cmp.Diff(Default(), got, compare); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	got, err := Load(filepath.Join(t.TempDir(), "missing.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got, compare); diff != "" {
		t.Errorf("missing file (-want +got):\n%s", diff)
	}
}

func TestEverything(t *testing.T) {
	dir := t.TempDir()
	psk := [32]byte{31: 7}
	pskFile := filepath.Join(dir, "psk")
	if err := os.WriteFile(pskFile, []byte(base64.StdEncoding.EncodeToString(psk[:])+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, other := testKey(t, 1), testKey(t, 2)
	text := `
interface: mesh0
mtu: 1400
port: 0
bases:
  - {host: 198.51.100.7, address: "fc94::7", udp: 5000, tcp: 0}
  - host: base.example.org
    address: fc94::8
peers:
  - {key: "` + key.String() + `", endpoint: "[2001:db8::5]:51820", psk_file: ` + pskFile + `, relay: true}
  - key: ` + other.String() + `
lan_discovery: false
port_mapping: false
whitelist_enabled: false
relay: true
low_data: true
pace: false
nice: 3
proxy: "http://me:s%40cret@proxy.example.org:3128"
cipher: aes256gcm
hosts_file: ""
log_level: debug
metrics: "127.0.0.1:9586"
dds: {enabled: false, dir: /tmp/dds, mode: overlay, lanes: [{match: "/cmd_vel", lane: urgent, redundant: true}, {match: /map}], watch: false, release: jazzy, mixed: allow}
multicast: true
ipv4: 10.94.0.0/16
`
	path := filepath.Join(dir, "hnet.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Interface: "mesh0", MTU: 1400, Port: 0, PortSet: true,
		Bases: []Base{
			{Host: "198.51.100.7", Address: netip.MustParseAddr("fc94::7"), UDP: 5000},
			{Host: "base.example.org", Address: netip.MustParseAddr("fc94::8"), UDP: DefaultPort, TCP: DefaultBaseTCP},
		},
		Peers: []Peer{
			{Key: key, Endpoint: "[2001:db8::5]:51820", PSKFile: pskFile, PSK: &psk, Relay: true},
			{Key: other},
		},
		WhitelistEnabledSet: true, Relay: true, LowData: true, Proxy: "http://me:s%40cret@proxy.example.org:3128", Cipher: CipherAES256GCM,
		LogLevel: slog.LevelDebug, Metrics: "127.0.0.1:9586", Nice: 3,
		DDS:       DDS{Dir: "/tmp/dds", Mode: DDSOverlay, Lanes: []Lane{{Match: "/cmd_vel", Lane: "urgent", Redundant: true}, {Match: "/map", Lane: "normal"}}, Release: "jazzy", Mixed: true},
		Multicast: true,
		IPv4:      IPv4{Range: netip.MustParsePrefix("10.94.0.0/16")},
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMistakes(t *testing.T) {
	key := testKey(t, 1).String()
	tests := []struct{ name, text, want string }{
		{"unknown key", "mtu: 0\nlan_discvery: true\n", `f.yaml:2: unknown key "lan_discvery" in the configuration: the nearest known key is "lan_discovery"`},
		{"swapped letters", "prot: 1\n", `f.yaml:1: unknown key "prot" in the configuration: the nearest known key is "port"`},
		{"unknown key in a base", "bases:\n  - host: a.b\n    adress: fc94::1\n", `f.yaml:3: unknown key "adress" in a Base: the nearest known key is "address"`},
		{"unknown key in dds", "dds:\n  lane: []\n", `f.yaml:2: unknown key "lane" in dds: the nearest known key is "lanes"`},
		{"key is a list", "[a]: 1\n", `f.yaml:1: unknown key a list in the configuration: the nearest known key is "dds"`},
		{"merge key", "<<: {mtu: 0}\n", `f.yaml:1: unknown key "<<" in the configuration: the nearest known key is "dds"`},
		{"duplicate", "mtu: 0\nport: 1\nmtu: 1300\n", `f.yaml:3: mtu: already given on line 1: remove one of the two`},
		{"not a mapping", "- a\n", `f.yaml:1: the configuration: expected a mapping (key: value), found a list`},
		{"text for a number", "mtu: big\n", `f.yaml:1: mtu: expected a whole number, found "big"`},
		{"fraction", "mtu: 1300.5\n", `f.yaml:1: mtu: expected a whole number, found "1300.5"`},
		{"huge", "port: 99999999999999999999\n", `f.yaml:1: port: expected a whole number, found "99999999999999999999"`},
		{"mtu low", "\n\nmtu: 1279\n", `f.yaml:3: mtu: expected 0 (found per path) or 1280..65535, found 1279`},
		{"mtu high", "mtu: 65536\n", `f.yaml:1: mtu: expected 0 (found per path) or 1280..65535, found 65536`},
		{"nice", "nice: 20\n", `f.yaml:1: nice: expected -20..19, found 20`},
		{"port", "port: 65536\n", `f.yaml:1: port: expected a port 0..65535, found 65536`},
		{"yes", "relay: yes\n", `f.yaml:1: relay: expected true or false, found "yes"`},
		{"list for a boolean", "relay: [true]\n", `f.yaml:1: relay: expected true or false, found a list`},
		{"number for text", "interface: 5\n", `f.yaml:1: interface: expected text, found "5"`},
		{"interface", "interface: a/b\n", `f.yaml:1: interface: expected the name of a network interface of our own: 1 to 15 letters, digits, - _ or . (found "a/b")`},
		{"interface long", "interface: abcdefghijklmnop\n", `f.yaml:1: interface: expected the name of a network interface of our own: 1 to 15 letters, digits, - _ or . (found "abcdefghijklmnop")`},
		{"cipher", "cipher: aes\n", `f.yaml:1: cipher: expected auto | chacha20poly1305 | aes256gcm, found "aes"`},
		{"log_level", "log_level: loud\n", `f.yaml:1: log_level: expected debug | info | warn | error, found "loud"`},
		{"metrics", "metrics: 9586\n", `f.yaml:1: metrics: expected text, found "9586"`},
		{"metrics port", "metrics: \"127.0.0.1\"\n", `f.yaml:1: metrics: expected "" or an address to listen on such as 127.0.0.1:9586, found "127.0.0.1"`},
		{"hosts_file", "hosts_file: hosts\n", `f.yaml:1: hosts_file: expected a path that begins with /, found "hosts"`},
		{"bases not a list", "bases: {host: a}\n", `f.yaml:1: bases: expected a list, found a mapping (key: value)`},
		{"base empty", "bases:\n  -\n", `f.yaml:2: bases: expected one mapping (key: value) for each -, found nothing`},
		{"base without host", "bases:\n  - address: fc94::1\n", `f.yaml:2: this Base has no host: expected host: and address:`},
		{"base without address", "bases:\n  - host: a.b\n", `f.yaml:2: this Base has no address, which pins its identity: expected what 'hnet_base id' prints on it`},
		{"base address", "bases:\n  - {host: a.b, address: 1.2.3.4}\n", `f.yaml:2: address: 1.2.3.4 is outside of fc94::/16, where every address of the overlay lies`},
		{"base inside", "bases:\n  - {host: fc94::2, address: fc94::1}\n", `f.yaml:2: host: fc94::2 is an address inside the overlay: expected how the host is reached without it`},
		{"base twice", "bases:\n  - {host: a.b, address: fc94::1}\n  - {host: c.d, address: fc94::1}\n", `f.yaml:3: address: fc94::1 is listed twice: remove one of the two Bases`},
		{"base unreachable", "bases:\n  - {host: a.b, address: fc94::1, udp: 0, tcp: 0}\n", `f.yaml:2: this Base cannot be reached with udp: 0 and tcp: 0: expected a port for one of them`},
		{"mistyped address", "bases:\n  - {host: 192.168.1, address: fc94::1}\n", `f.yaml:2: host: expected an IP address or a DNS name, found "192.168.1"`},
		{"peer without key", "peers:\n  - endpoint: \"1.2.3.4:5\"\n", `f.yaml:2: this peer has no key: expected key: with its WireGuard public key`},
		{"peer twice", "peers:\n  - key: " + key + "\n  - key: " + key + "\n", `f.yaml:3: key: ` + key + ` is listed twice: remove one of the two peers`},
		{"endpoint", "peers:\n  - key: " + key + "\n    endpoint: 1.2.3.4\n", `f.yaml:3: endpoint: expected HOST:PORT such as 203.0.113.5:51820 or [2001:db8::5]:51820, found "1.2.3.4"`},
		{"endpoint port", "peers:\n  - key: " + key + "\n    endpoint: 1.2.3.4:0\n", `f.yaml:3: endpoint: expected a port 1..65535 after the last colon, found "0"`},
		{"endpoint inside", "peers:\n  - key: " + key + "\n    endpoint: \"[fc94::9]:5582\"\n", `f.yaml:3: endpoint: fc94::9 is an address inside the overlay: expected how the host is reached without it`},
		{"psk_file", "peers:\n  - key: " + key + "\n    psk_file: psk\n", `f.yaml:3: psk_file: expected a path that begins with /, found "psk"`},
		{"dds dir", "dds: {dir: here}\n", `f.yaml:1: dir: expected a path that begins with /, found "here"`},
		{"ipv4 word", "ipv4: on\n", `f.yaml:1: ipv4: expected auto | off | a range such as 10.94.0.0/16, found "on"`},
		{"ipv4 of the Internet", "ipv4: 8.8.0.0/16\n", `f.yaml:1: ipv4: expected a range of private addresses, found 8.8.0.0/16, which has others' on the Internet`},
		{"ipv4 with host bits", "ipv4: 10.94.0.1/16\n", `f.yaml:1: ipv4: expected a range without host bits: 10.94.0.0/16`},
		{"ipv4 too small", "ipv4: 10.94.0.0/30\n", `f.yaml:1: ipv4: expected a range of /8 to /28, found 10.94.0.0/30`},
		{"dds mode", "dds: {mode: lan}\n", `f.yaml:1: mode: expected both | overlay, found "lan"`},
		{"lane", "dds:\n  lanes:\n    - {match: /a, lane: fast}\n", `f.yaml:3: lane: expected urgent | normal | bulk, found "fast"`},
		{"watch", "dds: {watch: sometimes}\n", `f.yaml:1: watch: expected true or false, found "sometimes"`},
		{"release", "dds:\n  release: melodic\n", `f.yaml:2: release: expected auto | any | foxy | galactic | humble | iron | jazzy | kilted | lyrical | rolling, found "melodic"`},
		{"mixed", "dds: {mixed: yes}\n", `f.yaml:1: mixed: expected separate | allow, found "yes"`},
		{"lane without match", "dds:\n  lanes:\n    - {lane: bulk}\n", `f.yaml:3: this lane has no match: expected match: with a topic such as "/cmd_vel"`},
		{"topic", "dds:\n  lanes:\n    - {match: cmd_vel}\n", `f.yaml:3: match: expected a topic that begins with / such as "/cmd_vel" (* and ? stand for anything), found "cmd_vel"`},
		{"proxy kind", "proxy: socks5://a.b:1080\n", `f.yaml:1: proxy: a proxy of the kind socks5: expected an HTTP proxy, http://HOST:PORT`},
		{"proxy number", "proxy: 5\n", `f.yaml:1: proxy: expected text, found "5"`},
		{"proxy port", "\nproxy: http://u:secret@a.b\n", `f.yaml:2: proxy: expected a port 1..65535 of the proxy: http://HOST:PORT`},
		{"proxy inside", "proxy: \"http://u:secret@[fc94::1]:3128\"\n", `f.yaml:1: proxy: expected the proxy's host as an IP address outside the overlay or a DNS name`},
		{"proxy path", "proxy: http://u:secret@a.b:1/x\n", `f.yaml:1: proxy: expected nothing behind the proxy's port`},
		{"alias", "interface: &x a\nhosts_file: *x\n", `f.yaml:2: hosts_file: expected text, found an alias (*): write the value out`},
		{"second document", "mtu: 0\n---\nmtu: 0\n", `f.yaml:2: a second document: expected one only (remove the line ---)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(tt.text))
			if err == nil {
				t.Fatal("accepted")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What is wrong with a proxy is said without its password.
func TestProxyPasswordIsNotShown(t *testing.T) {
	const secret = "s3cr3t"
	for _, value := range []string{
		"u:s3cr3t@a.b:1", "http://u:s3cr3t", "http://u:s3cr3t@:80", "http://u:s3cr3t@a.b:0", "http://u:s3cr3t@a.b:99999", "http://u:s3cr3t@a b:1",
		"http://u:%s3cr3t@a.b:1", "ftp://u:s3cr3t@a.b:1", "https://u:s3cr3t@a.b:1", "http://u:s3cr3t@a.b:1?x", "http://u:s3cr3t@a.b:1#x",
		"http://a.b/u:s3cr3t@a.b:1", "http:u:s3cr3t@a.b:1", "s3cr3t", "http://u:x/s3cr3t@a.b:1", "http://u:#s3cr3t@a.b:1",
	} {
		_, err := Parse("f.yaml", []byte("mtu: 0\nproxy: '"+value+"'\n"))
		if err == nil || strings.Contains(err.Error(), secret) || !strings.HasPrefix(err.Error(), "f.yaml:2: proxy: ") {
			t.Errorf("%s: %v", value, err)
		}
		t.Setenv("HTTPS_PROXY", value)
		if u, err := (Config{}).ProxyFor("base.example.org", 443); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s in the environment: %v, %v", value, u, err)
		}
	}
}

func TestProxyFor(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"} {
		t.Setenv(name, "")
	}
	for _, tt := range []struct {
		config, environment, exceptions, host, want string
		fails                                       bool
	}{
		{"", "", "", "base.example.org", "", false},
		{"", "http://u:p@proxy.corp:3128", "", "base.example.org", "http://u:p@proxy.corp:3128", false},
		{"", "proxy.corp:3128", "", "203.0.113.5", "http://proxy.corp:3128", false},
		{"", "u:p@proxy.corp", "", "2001:db8::5", "http://u:p@proxy.corp:80", false},
		{"", "http://proxy.corp/", "", "base.example.org", "http://proxy.corp:80/", false},
		{"", "http://proxy.corp:3128", "example.org", "base.example.org", "", false},
		{"", "http://proxy.corp:3128", "203.0.113.0/24,[2001:db8::5]:443", "203.0.113.5", "", false},
		{"", "http://proxy.corp:3128", "203.0.113.0/24,[2001:db8::5]:443", "2001:db8::5", "", false},
		{"", "http://proxy.corp:3128", "", "127.0.0.1", "", false},
		{"", "socks5://proxy.corp:1080", "", "base.example.org", "", true},
		{"", "socks5://proxy.corp:1080", "*", "base.example.org", "", false},
		{"", "http://%zz", "", "base.example.org", "", true},
		{"none", "http://proxy.corp:3128", "", "base.example.org", "", false},
		{"http://[2001:db8::1]:8080", "http://proxy.corp:3128", "*", "base.example.org", "http://[2001:db8::1]:8080", false},
	} {
		t.Setenv("https_proxy", tt.environment)
		t.Setenv("no_proxy", tt.exceptions)
		u, err := Config{Proxy: tt.config}.ProxyFor(tt.host, 443)
		got := ""
		if u != nil {
			got = u.String()
		}
		if (err != nil) != tt.fails || got != tt.want {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
	}
}

func TestNotYAML(t *testing.T) {
	for _, text := range []string{"mtu: 0\nport: [1\n", "\t\tmtu: 0\n", "\x00", "a: b: c\n"} {
		_, err := Parse("f.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), "not valid YAML: ") || !strings.HasPrefix(err.Error(), "f.yaml") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Parse("f.yaml", make([]byte, MaxFile+1)); err == nil || !strings.HasPrefix(err.Error(), "f.yaml: longer than") {
		t.Errorf("too long: %v", err)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); err == nil || err.Error() != dir+": cannot read the configuration: is a directory" {
		t.Errorf("directory: %v", err)
	}
	path := filepath.Join(dir, "hnet.yaml")
	psk := filepath.Join(dir, "psk")
	text := "peers:\n  - key: " + testKey(t, 1).String() + "\n    psk_file: " + psk + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := path + ":3: psk_file: cannot read the preshared key in " + psk + ": no such file or directory"
	if _, err := Load(path); err == nil || err.Error() != want {
		t.Errorf("psk_file missing: %v, want %s", err, want)
	}
	var ce *Error
	secret := "c2VjcmV0IGJ1dCB0b28gc2hvcnQ="
	for _, content := range []string{"", secret, strings.Repeat("A", 300), base64.StdEncoding.EncodeToString(make([]byte, 32))} {
		if err := os.WriteFile(psk, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if !errors.As(err, &ce) || ce.Line != 3 {
			t.Errorf("psk %q: %v", content, err)
		} else if content != "" && strings.Contains(err.Error(), content) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

// The sample explains every key, and what it shows as defaults are the defaults.
func TestSample(t *testing.T) {
	if got, err := Parse("hnet.yaml", []byte(installed.Sample)); err != nil || !cmp.Equal(got, Default(), compare) {
		t.Errorf("the sample as it is: %v", err)
	}
	text := regexp.MustCompile(`(?m)^#([a-z ])`).ReplaceAllString(installed.Sample, "$1")
	text = regexp.MustCompile(`(?m)^ [A-Za-z0-9'].*$`).ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, "fc94:...", "fc94::1")
	text = strings.ReplaceAll(text, "base64 X25519", testKey(t, 1).String())
	got, err := Parse("hnet.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	want := Default()
	want.PortSet, want.WhitelistEnabledSet = true, true
	want.Bases = []Base{{Host: "198.51.100.7", Address: netip.MustParseAddr("fc94::1"), UDP: 5582, TCP: 443}}
	want.Peers = []Peer{{Key: testKey(t, 1), Endpoint: "203.0.113.5:51820", PSKFile: "/etc/hnet/psk"}}
	want.DDS.Lanes = []Lane{{Match: "/cmd_vel", Lane: "urgent", Redundant: true}}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFindPaths(t *testing.T) {
	env := map[string]string{"HNET_STATE": "/s", "HNET_RUN": ""}
	got := FindPaths(func(k string) string { return env[k] })
	if want := (Paths{"/etc/hnet/hnet.yaml", "/s", "/run/hnet"}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got.Socket() != "/run/hnet/hnetd.sock" {
		t.Error(got.Socket())
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(installed.Sample))
	f.Add([]byte("bases:\n  - {host: a.b, address: fc94::1}\ndds: {lanes: [{match: /a}]}\n"))
	f.Add([]byte("peers: [{key: x}]\n--- \n"))
	f.Add([]byte("a: &a [*a]\n<<: *a\n? [x]\n: y"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f.yaml", data)
		if err != nil {
			var ce *Error
			if !errors.As(err, &ce) || strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("%#v", err)
			}
			return
		}
		if c.MTU != 0 && (c.MTU < MinMTU || c.MTU > MaxMTU) || checkInterface(c.Interface) != nil || len(c.Peers) > MaxPeers || len(c.Bases) > MaxBases {
			t.Errorf("accepted %+v", c)
		}
		if u, err := c.ProxyFor("a.b", 443); c.Proxy != "" && c.Proxy != NoProxy && (err != nil || u == nil) {
			t.Errorf("accepted a proxy that is none: %v", err)
		}
		for _, b := range c.Bases {
			if CheckHost(b.Host) != nil || CheckAddress(b.Address) != nil {
				t.Errorf("accepted %+v", b)
			}
		}
	})
}
