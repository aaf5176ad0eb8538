package profile

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

var writers = map[string]func(Params) ([]byte, error){"cyclone": Cyclone, "cyclone11": Cyclone11, "fastdds": FastDDS, "fastdds3": FastDDS3}

func addrs(texts ...string) (as []netip.Addr) {
	for _, s := range texts {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func own() Params {
	return Params{Interface: "hnet0", Address: netip.MustParseAddr("fc94:6b5d:f8ee:c7bc:9e9b:7f36:0b0a:11d1")}
}

func TestGolden(t *testing.T) {
	peers := addrs("fc94:ffff::2", "fc94:3a1e:22::9", "fc94:3a1e:3::9", "fc94:ffff::2")
	with := func(change func(*Params)) Params {
		p := own()
		change(&p)
		return p
	}
	both := func(p *Params) {
		p.Relay, p.Mode, p.IPv4, p.LAN = true, Both, netip.MustParseAddr("198.18.7.9"), []string{"eth0", "wlan0"}
	}
	for file, test := range map[string]struct {
		write  func(Params) ([]byte, error)
		params Params
	}{
		"cyclone_alone":         {Cyclone, own()},
		"cyclone_peers":         {Cyclone, with(func(p *Params) { p.Peers = peers })},
		"cyclone_escaped":       {Cyclone, with(func(p *Params) { p.Interface = `a<b>&"c'-->` })},
		"cyclone_relay":         {Cyclone, with(func(p *Params) { p.Relay, p.Peers = true, peers })},
		"fastdds_relay":         {FastDDS, with(func(p *Params) { p.Relay, p.Peers = true, peers })},
		"cyclone11_relay":       {Cyclone11, with(func(p *Params) { p.Relay = true })},
		"cyclone11_peers":       {Cyclone11, with(func(p *Params) { p.Peers = peers })},
		"cyclone_both":          {Cyclone, with(both)},
		"cyclone11_both":        {Cyclone11, with(both)},
		"cyclone_both_no_ipv4":  {Cyclone, with(func(p *Params) { both(p); p.IPv4 = netip.Addr{} })},
		"fastdds_both":          {FastDDS, with(both)},
		"fastdds_both_no_ipv4":  {FastDDS, with(func(p *Params) { both(p); p.IPv4 = netip.Addr{} })},
		"fastdds3_relay":        {FastDDS3, with(func(p *Params) { p.Relay = true })},
		"fastdds_limited":       {FastDDS, with(func(p *Params) { p.Relay, p.Limits = true, Limits{Receive: 212992, Send: 212992} })},
		"fastdds_alone":         {FastDDS, own()},
		"fastdds_peers":         {FastDDS, with(func(p *Params) { p.Peers = peers })},
		"fastdds_shared_memory": {FastDDS, with(func(p *Params) { p.Peers, p.SharedMemory = peers, true })},
	} {
		t.Run(file, func(t *testing.T) {
			got, err := test.write(test.params)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, file+".xml", got)
			if err := wellFormed(got); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		})
	}
}

func TestGoldenZenoh(t *testing.T) {
	p := own()
	p.Peers = addrs("fc94:ffff::2", "fc94:3a1e:22::9")
	both := p
	both.Mode = Both
	for file, test := range map[string]struct {
		write  func(Params) ([]byte, error)
		params Params
	}{
		"zenoh_router_alone": {ZenohRouter, own()},
		"zenoh_router_peers": {ZenohRouter, p},
		"zenoh_router_both":  {ZenohRouter, both},
		"zenoh_session":      {ZenohSession, p},
	} {
		t.Run(file, func(t *testing.T) {
			got, err := test.write(test.params)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, file+".json5", got)
			if _, err := parseJSON5(got); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		})
	}
}

// golden compares with a file of testdata, or writes it.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; go test -update writes it):\n%s", path, diff)
	}
}

// wellFormed reads XML strictly; the decoder refuses "--" in comments too.
func wellFormed(b []byte) error {
	d := xml.NewDecoder(bytes.NewReader(b))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// TestContent reads the files back and looks at what the libraries will see.
func TestContent(t *testing.T) {
	p := own()
	p.Interface = `a&b"`
	p.Peers = addrs("fc94::2", "fc94::1")
	hosts := []string{p.Address.String(), "fc94::1", "fc94::2"}

	var c struct {
		Interface struct {
			Name string `xml:"name,attr"`
		} `xml:"Domain>General>Interfaces>NetworkInterface"`
		Peers []struct {
			Address string `xml:",attr"`
		} `xml:"Domain>Discovery>Peers>Peer"`
	}
	read(t, Cyclone, p, &c)
	var got []string
	for _, peer := range c.Peers {
		got = append(got, peer.Address)
	}
	if c.Interface.Name != p.Interface || !slices.Equal(got, hosts) {
		t.Errorf("Cyclone: interface %q, peers %q, want %q, %q", c.Interface.Name, got, p.Interface, hosts)
	}

	type fast struct {
		WhiteList []string `xml:"profiles>transport_descriptors>transport_descriptor>interfaceWhiteList>address"`
		Defined   []string `xml:"profiles>transport_descriptors>transport_descriptor>transport_id"`
		Used      []string `xml:"profiles>participant>rtps>userTransports>transport_id"`
		Peers     []string `xml:"profiles>participant>rtps>builtin>initialPeersList>locator>udpv6>address"`
	}
	for _, shm := range []bool{false, true} {
		p.SharedMemory = shm
		want := fast{WhiteList: hosts[:1], Defined: []string{"hnet_overlay"}, Peers: hosts}
		if shm {
			want.Defined = append(want.Defined, "hnet_same_host")
		}
		want.Used = want.Defined
		var f fast
		read(t, FastDDS, p, &f)
		if diff := cmp.Diff(want, f); diff != "" {
			t.Errorf("Fast DDS, shared memory %v (-want +got):\n%s", shm, diff)
		}
	}
}

func read(t *testing.T, write func(Params) ([]byte, error), p Params, v any) {
	t.Helper()
	b, err := write(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	for name, write := range writers {
		p := own()
		p.Peers = addrs("fc94::3", "fc94::1", "fc94::2")
		given := slices.Clone(p.Peers)
		a, err := write(p)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(given, p.Peers) {
			t.Errorf("%s changed the caller's peers", name)
		}
		p.Peers = addrs("fc94::2", "fc94::3", "fc94::1", "fc94::1")
		b, err := write(p)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s depends on the order of the peers", name)
		}
	}
}

func TestRefused(t *testing.T) {
	many := make([]netip.Addr, 0, MaxPeers+1)
	for i := range MaxPeers + 1 {
		many = append(many, netip.MustParseAddr(fmt.Sprintf("fc94::%x", i+1)))
	}
	for name, test := range map[string]struct {
		change func(*Params)
		want   string // "" = accepted
	}{
		"as many peers as fit":  {func(p *Params) { p.Peers = many[1:] }, ""},
		"the same peer often":   {func(p *Params) { p.Peers = slices.Repeat(many[:1], MaxPeers+1) }, ""},
		"too many peers":        {func(p *Params) { p.Peers = many }, "65 peers are more than the 64"},
		"no address":            {func(p *Params) { p.Address = netip.Addr{} }, "no overlay address yet"},
		"address outside":       {func(p *Params) { p.Address = netip.MustParseAddr("fd94::1") }, "own address: fd94::1 is not an overlay address"},
		"address with zone":     {func(p *Params) { p.Address = netip.MustParseAddr("fc94::1%hnet0") }, "not an overlay address"},
		"IPv4 address":          {func(p *Params) { p.Address = netip.MustParseAddr("192.0.2.1") }, "not an overlay address"},
		"peer outside":          {func(p *Params) { p.Peers = addrs("fc94::1", "2001:db8::1") }, "peer: 2001:db8::1 is not an overlay address"},
		"peer with zone":        {func(p *Params) { p.Peers = addrs("fc94::1%eth0") }, "peer: fc94::1%eth0 is not"},
		"invalid peer":          {func(p *Params) { p.Peers = make([]netip.Addr, 1) }, "peer: invalid IP is not"},
		"IPv4 peer in IPv6":     {func(p *Params) { p.Peers = addrs("::ffff:192.0.2.1") }, "is not an overlay address"},
		"own address as a peer": {func(p *Params) { p.Peers = append(addrs("fc94::1"), p.Address) }, "this host's own address"},
		"no interface":          {func(p *Params) { p.Interface = "" }, `"" is not the name`},
		"long interface":        {func(p *Params) { p.Interface = "sixteencharacter" }, "is not the name"},
		"longest interface":     {func(p *Params) { p.Interface = "fifteencharacte" }, ""},
		"space in interface":    {func(p *Params) { p.Interface = "a b" }, "is not the name"},
		"control in interface":  {func(p *Params) { p.Interface = "a\x00b" }, "is not the name"},
		"slash in interface":    {func(p *Params) { p.Interface = "a/b" }, "is not the name"},
		"folder as interface":   {func(p *Params) { p.Interface = ".." }, "is not the name"},
		"IPv6 as IPv4":          {func(p *Params) { p.IPv4 = netip.MustParseAddr("::1") }, "::1 is not an IPv4 address"},
		"unknown mode":          {func(p *Params) { p.Mode = "lan" }, `mode "lan" is neither both nor overlay`},
		"LAN with a slash":      {func(p *Params) { p.LAN = []string{"a/b"} }, "is not the name"},
		"many LANs":             {func(p *Params) { p.LAN = []string{"a", "b", "c", "d"} }, "4 interfaces are more than the 3"},
		"bytes above ASCII":     {func(p *Params) { p.Interface = "h\xffnet" }, "is not the name"},
	} {
		for writer, write := range writers {
			t.Run(writer+"/"+name, func(t *testing.T) {
				p := own()
				test.change(&p)
				b, err := write(p)
				switch {
				case test.want == "" && (err != nil || wellFormed(b) != nil):
					t.Errorf("refused or damaged: %v", err)
				case test.want != "" && (err == nil || b != nil || !strings.Contains(err.Error(), test.want)):
					t.Errorf("error %v, want %q and no profile", err, test.want)
				case err != nil && strings.Contains(err.Error(), "\n"):
					t.Errorf("error of more than one line: %v", err)
				}
			})
		}
	}
}

// TestSizes keeps the promise of the comments: what is sent fits one overlay packet, fragments fit a message, and the
// two libraries agree.
func TestSizes(t *testing.T) {
	const headers = 20 + 16 + 12 + 36 + 32
	if messageSize > MaxDatagram || fragmentSize+headers > messageSize || fragmentSize%4 != 0 {
		t.Errorf("fragment %d, message %d, datagram %d", fragmentSize, messageSize, MaxDatagram)
	}
	// RTPS ports of the last participant of the last domain must exist.
	if index := Participants - 1; 7400+250*232+11+2*index > 65535 {
		t.Errorf("participant index %d has no port", index)
	}
}
