package doctor

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/nat"
)

var (
	self  = netip.MustParseAddr("fc94::1")
	robot = netip.MustParseAddr("fc94::2")
	baseA = netip.MustParseAddr("fc94::a")
	baseB = netip.MustParseAddr("fc94::b")
	far   = netip.MustParseAddrPort("203.0.113.5:5582")
	today = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
)

// healthy is a node behind an ordinary router, at two Bases, with a direct path to robot2.
func healthy() Findings {
	return Findings{
		Address: self, Port: 5582, Links: Links{Known: true, IPv4: 1, IPv6: 1}, Clock: Clock{Wall: today},
		NAT:  nat.Result{Mapping: nat.MappingIndependent, Filtering: nat.FilteringAddressPort, Confirmed: true, Local4: true},
		UDP4: ReachWorks, UDP6: ReachAbsent, PortMapping: PortMapping{Enabled: true, Done: true, Why: "pcp: not authorized"},
		Bases: []Base{
			{Address: baseA, Host: "198.51.100.7", UDP: 5582, TCP: 443, State: api.BaseRegistered, Transport: "udp", RTT: 23 * time.Millisecond},
			{Address: baseB, Host: "base.example.org", UDP: 5582, State: api.BaseRegistered, Transport: "udp", RTT: 40 * time.Millisecond},
		},
		Whitelist: true, DDS: &DDS{},
		Peer: &Peer{
			Address: robot, Hostname: "robot2", Whitelisted: true, KeyKnown: true, State: api.Connected, Path: api.PathDirect, RTT: 31 * time.Millisecond,
			LossKnown: true, MTU: 1500, NAT: nat.PortRestricted, AtBase: baseA, Handshake: Handshake{Tried: true, Ever: true, Ago: 40 * time.Second},
			Candidates: []Candidate{{Endpoint: far, Path: api.PathDirect, Outcome: InUse, RTT: 31 * time.Millisecond}},
		},
	}
}

// lost makes the peer one that cannot be reached.
func lost(f *Findings) {
	p := f.Peer
	p.State, p.Path, p.AtBase, p.Candidates, p.LossKnown, p.MTU, p.RTT = api.Connecting, api.PathNone, netip.Addr{}, nil, false, 0, 0
	p.Handshake = Handshake{Tried: true}
}

func relayed(f *Findings) {
	p := f.Peer
	p.Path, p.Via, p.Candidates = api.PathRelayUDP, baseA, []Candidate{{Endpoint: far, Path: api.PathDirect, Outcome: Silent}}
}

func noBases(f *Findings) { f.Bases = nil }

func basesDown(f *Findings) {
	for i := range f.Bases {
		f.Bases[i].State, f.Bases[i].Transport, f.Bases[i].RTT, f.Bases[i].LastError = api.BaseUnreachable, "none", 0, "no answer by UDP or TCP"
	}
}

func blocked(f *Findings) {
	f.NAT = nat.Result{UDPBlocked: true, Local4: true}
	f.UDP4 = ReachBlocked
	f.Bases[0].Transport, f.Bases[1].State = "tcp", api.BaseUnreachable
	f.Bases[1].Transport = "none"
	relayed(f)
	f.Peer.Path = api.PathRelayTCP
}

func symmetric(f *Findings) { f.NAT.Mapping = nat.MappingDependent }

func nodeOnly(f *Findings) { f.Peer = nil }

// TestModes has a row for each failure mode that concerns connectivity.
func TestModes(t *testing.T) {
	tests := []struct {
		name   string
		change []func(*Findings)
		fails  string // the checks that fail
		cause  string
		fix    string
	}{
		{"healthy", nil, "", "", ""},
		{"healthy node", []func(*Findings){nodeOnly}, "", "", ""},
		{"nothing known", []func(*Findings){func(f *Findings) { *f = Findings{Bases: f.Bases} }}, "", "", ""},
		{
			"no network", []func(*Findings){lost, basesDown, func(f *Findings) { f.Links = Links{Known: true} }}, "network base:fc94::a base:fc94::b found path",
			"this host has no network: none of its links has an address", "plug in the cable or join the Wi-Fi; 'ip addr' shows the links",
		},
		{
			"link-local only", []func(*Findings){nodeOnly, func(f *Findings) { f.Links = Links{Known: true, LinkLocal: 2} }}, "",
			"this host has link-local addresses only: peers on the same link can be reached, nobody else", "see why DHCP or router advertisements do not arrive: 'ip addr', 'journalctl -b'",
		},
		{
			"copied identity", []func(*Findings){lost, func(f *Findings) {
				f.Warnings = []health.Warning{{Code: health.IdentityCopy, Text: "192.168.1.9 runs with this node's identity", Fix: "on the copy: hnet down"}}
			}}, "found path warning:identity_cloned", "192.168.1.9 runs with this node's identity", "on the copy: hnet down",
		},
		{
			"peer's identity copied", []func(*Findings){func(f *Findings) {
				f.Warnings = []health.Warning{{Code: health.PeerCopy, Subject: robot.String(), Text: "two hosts run as robot2", Fix: "new identity on one"}}
			}}, "warning:peer_cloned", "two hosts run as robot2", "new identity on one",
		},
		{"the node itself", []func(*Findings){func(f *Findings) { f.Peer.Address = self }}, "peer", "robot2 is this node itself", "name another peer; 'hnet peers' lists them"},
		{
			"not whitelisted here", []func(*Findings){lost, func(f *Findings) { f.Peer.Whitelisted, f.Peer.Handshake.Tried = false, false }}, "whitelist found path",
			"robot2 is not on this node's whitelist", "run here: hnet whitelist add fc94::2",
		},
		{
			"not whitelisted there, on the LAN", []func(*Findings){lost, func(f *Findings) { f.Peer.OnLAN = true }}, "handshake path",
			"robot2 is on this LAN and does not answer: most likely it does not have this node on its whitelist, or a firewall there drops UDP",
			"run there: hnet whitelist add fc94::1; if it is listed, let UDP in there",
		},
		{
			"not whitelisted there, or off, by Bases", []func(*Findings){lost}, "found path",
			"robot2 is not on this LAN and does not ask for this node at Base 198.51.100.7, Base base.example.org: it is off or offline, uses other Bases, or does not have this node on its whitelist",
			"see there that 'hnet status' shows one of these Bases, and run there: hnet whitelist add fc94::1",
		},
		{
			"no answer where it was alive", []func(*Findings){lost, func(f *Findings) { f.Peer.Candidates = []Candidate{{Endpoint: far, Outcome: Answers}} }, noBases}, "handshake path",
			"something answers where robot2 should be, but not its handshake: most likely it does not have this node on its whitelist", "run there: hnet whitelist add fc94::1",
		},
		{
			"preshared keys differ", []func(*Findings){lost, func(f *Findings) { f.Peer.AtBase = baseA }}, "handshake path",
			"robot2 asks for this node at Base 198.51.100.7 and handshakes fail all the same: most likely the preshared keys differ, or packets get lost on the way",
			"give both sides the same preshared key ('hnet whitelist add ADDRESS --psk-file FILE') or none; what robot2 thinks of it is in its log: journalctl -u hnetd",
		},
		{
			"no Base and another LAN", []func(*Findings){lost, noBases, func(f *Findings) { f.Peer.KeyKnown = false }}, "found path",
			"no Base is configured and robot2 is not on this LAN",
			"name a Base under 'bases:' in hnet.yaml on both, or add it by its key, which 'hnet id' shows there: hnet whitelist add KEY --endpoint HOST:PORT",
		},
		{
			"an endpoint without key", []func(*Findings){lost, noBases, func(f *Findings) {
				f.Peer.KeyKnown, f.Peer.Candidates = false, []Candidate{{Endpoint: far, Outcome: Untried}}
			}}, "found path",
			"robot2's key is not known, and neither this LAN nor a Base tells it: no handshake can be made",
			"add it by its key, which 'hnet id' shows there: hnet whitelist add KEY --endpoint HOST:PORT",
		},
		{
			"no Base and a silent endpoint", []func(*Findings){lost, noBases, func(f *Findings) { f.Peer.Candidates = []Candidate{{Endpoint: far, Outcome: Silent}} }}, "endpoints path",
			"robot2 does not answer where it should be (203.0.113.5:5582), and there is no Base to find it by",
			"see that hnetd runs there, that firewalls and the router there let its UDP port in, and run there: hnet whitelist add fc94::1",
		},
		{
			"all Bases dead", []func(*Findings){lost, basesDown}, "base:fc94::a base:fc94::b found path",
			"none of the 2 Bases can be reached: no answer by UDP or TCP", "see that this network leads to the Internet and lets UDP port 5582 or TCP port 443 out, and that a Base runs",
		},
		{
			"the only Base dead", []func(*Findings){nodeOnly, basesDown, func(f *Findings) { f.Bases = f.Bases[:1] }}, "base:fc94::a",
			"Base 198.51.100.7 cannot be reached: no answer by UDP or TCP",
			"see that hnet_base runs there and can be reached at UDP 5582 or TCP 443, and that 'hnet_base id' there prints fc94::a",
		},
		{
			"all Bases dead, the peer is on the LAN", []func(*Findings){basesDown, func(f *Findings) { f.Peer.Path, f.Peer.OnLAN = api.PathLAN, true }}, "",
			"none of the 2 Bases can be reached: no answer by UDP or TCP", "see that this network leads to the Internet and lets UDP port 5582 or TCP port 443 out, and that a Base runs",
		},
		{
			"one Base of two dead", []func(*Findings){nodeOnly, func(f *Findings) {
				f.Bases[1].State, f.Bases[1].LastError = api.BaseUnreachable, "its key is not the one of fc94::b"
			}}, "",
			"Base base.example.org cannot be reached: its key is not the one of fc94::b",
			"see that hnet_base runs there and can be reached at UDP 5582, and that 'hnet_base id' there prints fc94::b",
		},
		{
			"still connecting", []func(*Findings){lost, func(f *Findings) { f.Bases = f.Bases[:1]; f.Bases[0].State = api.BaseConnecting }}, "bases found path",
			"this node is still connecting to its Bases", "try again in some seconds; if that lasts, see that the network lets UDP port 5582 or TCP port 443 out",
		},
		{
			"no Bases", []func(*Findings){nodeOnly, noBases}, "",
			"no Base is configured: peers are found on this LAN and at known endpoints only", "name a Base under 'bases:' in hnet.yaml, on every node",
		},
		{
			"UDP blocked", []func(*Findings){blocked}, "",
			"UDP is blocked by the network: traffic goes over TCP through Base 198.51.100.7", "ask the network's administrator for UDP port 5582 outbound",
		},
		{
			"UDP blocked, the node", []func(*Findings){blocked, nodeOnly}, "",
			"UDP is blocked by the network: traffic goes over TCP through Base 198.51.100.7", "ask the network's administrator for UDP port 5582 outbound",
		},
		{
			"UDP blocked there", []func(*Findings){relayed, func(f *Findings) { f.Peer.NAT, f.Peer.Path = nat.UDPBlocked, api.PathRelayTCP }}, "",
			"robot2's network blocks UDP: traffic is relayed through Base 198.51.100.7", "ask the administrator of that network for UDP port 5582 outbound",
		},
		{
			"symmetric both sides", []func(*Findings){relayed, symmetric, func(f *Findings) { f.Peer.NAT = nat.Symmetric }}, "",
			"both networks give each connection a new port (symmetric NAT): relayed through Base 198.51.100.7",
			"switch on UPnP or PCP on one of the two routers, or forward UDP port 5582 to this host on its router",
		},
		{
			"symmetric here, mapping off", []func(*Findings){relayed, symmetric, func(f *Findings) { f.PortMapping = PortMapping{} }}, "",
			"this network gives each connection a new port (symmetric NAT), and robot2 cannot be reached from outside: relayed through Base 198.51.100.7 until a direct path is found",
			"set 'port_mapping: true' in hnet.yaml here, or forward UDP port 5582 to this host on its router",
		},
		{
			"carrier-grade NAT", []func(*Findings){relayed, symmetric, func(f *Findings) {
				f.PortMapping = PortMapping{Enabled: true, Done: true, External: netip.MustParseAddrPort("100.64.1.1:5582"), Protocol: "upnp", Double: true}
			}}, "",
			"this network gives each connection a new port (symmetric NAT), and robot2 cannot be reached from outside: relayed through Base 198.51.100.7 until a direct path is found",
			"ask the provider for a public IPv4 address or for IPv6: forwarding a port on the router does not help behind a provider's NAT",
		},
		{
			"symmetric there", []func(*Findings){relayed, func(f *Findings) { f.Peer.NAT = nat.Symmetric }}, "",
			"robot2's network gives each connection a new port (symmetric NAT), and this node cannot be reached from outside: relayed through Base 198.51.100.7 until a direct path is found",
			"switch on UPnP or PCP on robot2's router, or forward the UDP port of its hnetd to it there",
		},
		{
			"symmetric, the node", []func(*Findings){nodeOnly, symmetric}, "",
			"this network gives each connection a new port (symmetric NAT): direct paths are found late, or never to peers behind another such network",
			"switch on UPnP or PCP on this network's router, or forward UDP port 5582 to this host there",
		},
		{"symmetric and direct all the same", []func(*Findings){symmetric}, "", "", ""},
		{"symmetric and mapped", []func(*Findings){nodeOnly, symmetric, func(f *Findings) { f.PortMapping.External, f.PortMapping.Protocol = far, "pcp" }}, "", "", ""},
		{
			"relayed on one LAN", []func(*Findings){relayed, func(f *Findings) { f.Peer.OnLAN = true }}, "",
			"robot2 is on this LAN and cannot be reached directly: a firewall on one of the two hosts, or the access point (client isolation), is in the way; relayed through Base 198.51.100.7",
			"let UDP port 5582 in on both hosts; switch client isolation off",
		},
		{
			"relayed, no NAT here", []func(*Findings){relayed, func(f *Findings) { f.NAT.Mapping = nat.MappingNone }}, "",
			"no direct path to robot2 was found: a firewall at one end drops UDP; relayed through Base 198.51.100.7", "let UDP port 5582 in through this host's firewall, or do the same there",
		},
		{
			"relayed for no known reason", []func(*Findings){relayed}, "",
			"no direct path to robot2 was found: a NAT or firewall on the way drops UDP; relayed through Base 198.51.100.7",
			"switch on UPnP or PCP on this network's router, or forward UDP port 5582 to this host there",
		},
		{
			"clock without battery", []func(*Findings){nodeOnly, func(f *Findings) { f.Clock = Clock{Wall: time.Unix(0, 0)} }}, "",
			"this host's clock is at least 56 years behind: hnet works all the same, logs and programs that compare times do not", "set the clock, and keep it right: timedatectl set-ntp true",
		},
		{
			"clock behind an earlier run", []func(*Findings){func(f *Findings) { f.Clock.Lead = 3*365*24*time.Hour + time.Minute }}, "",
			"this host's clock is 3 years behind: hnet works all the same, logs and programs that compare times do not", "set the clock, and keep it right: timedatectl set-ntp true",
		},
		{"timestamps ahead by some crashes", []func(*Findings){func(f *Findings) { f.Clock.Lead = 30 * time.Hour }}, "", "", ""},
		{
			"clock behind and no reserve", []func(*Findings){lost, func(f *Findings) {
				f.Clock.Offset, f.Clock.OffsetKnown, f.Clock.ReserveLost = -3*365*24*time.Hour, true, true
			}}, "clock found path",
			"this host's clock is 3 years behind, and the record that makes up for it was lost: peers that knew this node refuse it as a replay", "set the clock, and keep it right: timedatectl set-ntp true",
		},
		{
			"small MTU", []func(*Findings){func(f *Findings) { f.Peer.MTU = 1100 }}, "",
			"path MTU to robot2 is 1100: packets are split inside the tunnel, which costs speed and multiplies loss",
			"raise the MTU on the way (a VPN, PPPoE or modem in between?); until then keep DDS messages below 1200 bytes (maxMessageSize)",
		},
		{
			"loss", []func(*Findings){func(f *Findings) { f.Peer.Loss, f.Peer.Path = 0.08, api.PathLAN }}, "",
			"the way to robot2 loses 8 % of the packets", "move closer to the access point or use a cable",
		},
		{
			"ping works, topics do not", []func(*Findings){relayed, func(f *Findings) { f.DDS = &DDS{Problem: "cyclone.xml does not name robot2"} }}, "dds",
			"programs do not use the overlay as they should: cyclone.xml does not name robot2", "run eval \"$(hnet dds env)\" in the shell that starts the programs, and restart them",
		},
		{
			"through the overlay", []func(*Findings){lost, func(f *Findings) {
				f.Warnings = []health.Warning{{Code: health.OverlayInside, Subject: robot.String(), Text: "robot2's endpoint is routed through hnet0", Fix: "give another endpoint"}}
			}}, "found path warning:path_through_hnet", "robot2's endpoint is routed through hnet0", "give another endpoint",
		},
		{
			"a name that does not resolve", []func(*Findings){lost, noBases, func(f *Findings) {
				f.Warnings = []health.Warning{{Code: health.Endpoint, Subject: robot.String(), Text: "robot.example.org cannot be resolved", Fix: "check the name"}}
				f.Peer.Candidates = []Candidate{{Endpoint: far, Outcome: Silent}}
			}}, "endpoints path warning:endpoint_unknown", "robot.example.org cannot be resolved", "check the name",
		},
		{
			"a warning about another peer", []func(*Findings){func(f *Findings) {
				f.Warnings = []health.Warning{{Code: health.PeerCopy, Subject: "fc94::9", Text: "two hosts run as arm"}}
			}}, "", "", "",
		},
		{
			"another warning", []func(*Findings){func(f *Findings) {
				f.Warnings = []health.Warning{{Code: health.HostsFile, Text: "cannot write /etc/hosts"}}
			}}, "", "cannot write /etc/hosts", "see 'hnet status'",
		},
		{
			"unreachable without a reason", []func(*Findings){lost, noBases, func(f *Findings) {
				f.Peer.Candidates, f.Peer.Handshake = []Candidate{{Endpoint: far, Outcome: Untried}}, Handshake{}
			}}, "path", "robot2 could not be reached, and nothing tells why", "see that hnetd runs there, and run there: hnet whitelist add fc94::1",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := healthy()
			for _, change := range tt.change {
				change(&f)
			}
			d := Diagnose(f)
			var fails []string
			for _, c := range d.Checks {
				if c.Status == api.CheckFail {
					fails = append(fails, c.Name)
				}
			}
			if got := strings.Join(fails, " "); got != tt.fails {
				t.Errorf("fails: %q, want %q", got, tt.fails)
			}
			if d.Cause != tt.cause || d.Fix != tt.fix {
				t.Errorf("cause %q\n want %q\n  fix %q\n want %q", d.Cause, tt.cause, d.Fix, tt.fix)
			}
			sound(t, f, d)
		})
	}
}

// sound holds for every diagnosis.
func sound(t *testing.T, f Findings, d api.Diagnosis) {
	t.Helper()
	bad := false
	for _, c := range d.Checks {
		bad = bad || c.Status == api.CheckFail || c.Status == api.CheckWarn
		if c.Name == "" || c.Detail == "" || c.Detail != oneLine(c.Detail) {
			t.Errorf("check %+v", c)
		}
	}
	if bad != (d.Cause != "") || (d.Cause == "") != (d.Fix == "") || d.Cause != oneLine(d.Cause) || d.Fix != oneLine(d.Fix) {
		t.Errorf("something wrong: %v, cause %q, fix %q", bad, d.Cause, d.Fix)
	}
	if f.Peer != nil && d.Peer != f.Peer.Address || f.Peer == nil && d.Peer.IsValid() {
		t.Errorf("about %v", d.Peer)
	}
	if len(d.Checks) > maxChecks {
		t.Errorf("%d checks", len(d.Checks))
	}
	for _, w := range Warnings(f) {
		if w.Text == "" || w.Fix == "" || !strings.Contains(fmt.Sprint(Codes), string(w.Code)) {
			t.Errorf("warning %+v", w)
		}
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct {
		name   string
		change []func(*Findings)
		want   []string
	}{
		{"healthy", nil, nil},
		{"nothing known", []func(*Findings){func(f *Findings) { *f = Findings{} }}, nil},
		{"symmetric", []func(*Findings){symmetric, relayed}, nil},
		{"blocked", []func(*Findings){blocked}, []string{"base_unreachable fc94::b", "udp_blocked "}},
		{"Bases down", []func(*Findings){basesDown}, []string{"bases_unreachable "}},
		{"the rest", []func(*Findings){func(f *Findings) {
			f.Peer.MTU, f.Clock.Lead, f.DDS.Problem = 1100, 1000*time.Hour, "old"
		}}, []string{"clock_wrong ", "dds_profile ", "path_mtu fc94::2"}},
	}
	for _, tt := range tests {
		f := healthy()
		for _, change := range tt.change {
			change(&f)
		}
		var got []string
		for _, w := range Warnings(f) {
			got = append(got, string(w.Code)+" "+w.Subject)
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Whatever the combination: a cause if and only if something is wrong, and no panic.
func FuzzDiagnose(f *testing.F) {
	f.Add(uint64(0), "x", "")
	f.Add(^uint64(0), "a\nb", "fc94::2")
	f.Fuzz(func(t *testing.T, bits uint64, text, subject string) {
		take := func(n uint64) uint64 {
			v := bits % n
			bits = bits/n | v<<59
			return v
		}
		g := healthy()
		for _, change := range []func(*Findings){
			nodeOnly, noBases, basesDown, symmetric,
			func(f *Findings) { f.Links = Links{Known: true, LinkLocal: int(take(2))} },
			func(f *Findings) {
				f.Clock = Clock{Lead: time.Duration(bits), ReserveLost: true, Wall: time.Unix(int64(bits%1e10), 0)}
			},
			func(f *Findings) { f.DDS = &DDS{Problem: text} },
			func(f *Findings) { f.BasesUnused = true },
			func(f *Findings) { f.NAT = nat.Result{Mapping: nat.Mapping(take(5)), UDPBlocked: take(2) == 1} },
			func(f *Findings) {
				f.Warnings = []health.Warning{{Code: health.Code("w" + text), Subject: subject, Text: "x" + text}, {Code: health.Endpoint, Subject: subject, Text: "y"}}
			},
		} {
			if take(2) == 1 {
				change(&g)
			}
		}
		if g.Peer != nil {
			for _, change := range []func(*Findings){
				lost, relayed,
				func(f *Findings) { f.Peer.Whitelisted = false },
				func(f *Findings) { f.Peer.KeyKnown = false },
				func(f *Findings) { f.Peer.OnLAN = true },
				func(f *Findings) { f.Peer.AtBase = baseB },
				func(f *Findings) { f.Peer.Hostname = "" },
				func(f *Findings) {
					f.Peer.State = api.PeerState([]api.PeerState{"", api.Idle, api.Unreachable}[take(3)])
				},
				func(f *Findings) {
					f.Peer.Candidates = append(f.Peer.Candidates, Candidate{Outcome: Outcome(take(6)), Detail: text})
				},
				func(f *Findings) { f.Peer.MTU = int(take(1500)) },
				func(f *Findings) { f.Peer.Handshake = Handshake{} },
			} {
				if take(2) == 1 {
					change(&g)
				}
			}
		}
		sound(t, g, Diagnose(g))
	})
}
