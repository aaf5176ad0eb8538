package main

import (
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/vishvananda/netlink"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// The profiles.
const (
	ours        = "hnet"
	defaults    = "defaults"    // peers named by hand, every size the library's own
	recommended = "recommended" // the same, with what ROS's guide to tuning says of large samples, sysctls included
	bare        = "bare link"   // the defaults on the link itself, without hnet

	bareSize = 1_000_000 // of the samples that are tried there
)

// byHand are the profiles to compare with.
var byHand = map[string]string{
	cyclone: `<CycloneDDS><Domain Id="any">
  <General><Transport>udp6</Transport><AllowMulticast>false</AllowMulticast>
    <Interfaces><NetworkInterface name="{{.Device}}"/></Interfaces>{{if .Recommended}}
    <MaxMessageSize>65500B</MaxMessageSize>{{end}}
  </General>
  <Discovery><ParticipantIndex>auto</ParticipantIndex><Peers><Peer Address="{{.Own}}"/><Peer Address="{{.Peer}}"/></Peers></Discovery>{{if .Recommended}}
  <Internal><SocketReceiveBufferSize max="10MB"/><Watermarks><WhcHigh>500kB</WhcHigh></Watermarks></Internal>{{end}}
</Domain></CycloneDDS>`,
	fastdds: `<dds xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"><profiles>
  <transport_descriptors><transport_descriptor><transport_id>v6</transport_id><type>UDPv6</type>{{if .Recommended}}
    <sendBufferSize>4194304</sendBufferSize><receiveBufferSize>4194304</receiveBufferSize>{{end}}
    <interfaceWhiteList><address>{{.Own}}</address></interfaceWhiteList>
  </transport_descriptor></transport_descriptors>
  <participant profile_name="p" is_default_profile="true"><rtps>
    <userTransports><transport_id>v6</transport_id></userTransports><useBuiltinTransports>false</useBuiltinTransports>
    <builtin><initialPeersList>
      <locator><udpv6><address>{{.Own}}</address></udpv6></locator><locator><udpv6><address>{{.Peer}}</address></udpv6></locator>
    </initialPeersList></builtin>
  </rtps></participant>{{if .Recommended}}
  <data_writer profile_name="w" is_default_profile="true"><qos><publishMode><kind>ASYNCHRONOUS</kind></publishMode></qos></data_writer>{{end}}
</profiles></dds>`,
}

// write gives both robots all profiles, and returns their names by vendor.
func (m *measurement) write(t lab.TB, a, b *fleet.Robot) map[string][]string {
	names := make(map[string][]string)
	for vendor, own := range map[string]func(profile.Params) ([]byte, error){cyclone: profile.Cyclone, fastdds: profile.FastDDS} {
		names[vendor] = []string{ours, defaults, recommended, bare}
		for _, r := range []*fleet.Robot{a, b} {
			text, err := own(profile.Params{Interface: "hnet0", Address: r.Address, Relay: true, Limits: profile.ReadLimits(os.DirFS("/proc/sys"))})
			if err != nil {
				t.Fatalf("%v", err)
			}
			r.Write(path(vendor, ours), string(text))
		}
		m.both(t, a, b, vendor, defaults, byHand[vendor])
		m.both(t, a, b, vendor, recommended, byHand[vendor])
		m.both(t, a, b, vendor, bare, byHand[vendor])
		if m.candidates == "" {
			continue
		}
		files, _ := filepath.Glob(filepath.Join(m.candidates, vendor+"-*.xml"))
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatalf("%v", err)
			}
			name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), vendor+"-"), ".xml")
			names[vendor] = append(names[vendor], name)
			m.both(t, a, b, vendor, name, string(text))
		}
	}
	return names
}

func path(vendor, name string) string {
	return filepath.Join("/etc/hnet", vendor+"-"+strings.ReplaceAll(name, " ", "-")+".xml")
}

// onLink is a host's IPv6 address on the link.
func onLink(t lab.TB, r *fleet.Robot) netip.Addr {
	link, err := r.Netlink().LinkByName(device(bare))
	if err != nil {
		t.Fatalf("%v", err)
	}
	list, err := r.Netlink().AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && !ip.IsLinkLocalUnicast() {
			return ip
		}
	}
	t.Fatalf("%s has no IPv6 address on the link", r.Name())
	return netip.Addr{}
}

func (m *measurement) both(t lab.TB, a, b *fleet.Robot, vendor, name, text string) {
	tmpl, err := template.New(name).Parse(text)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, x := range [][2]*fleet.Robot{{a, b}, {b, a}} {
		var out bytes.Buffer
		own, peer := x[0].Address, x[1].Address
		if name == bare {
			own, peer = onLink(t, x[0]), onLink(t, x[1])
		}
		if err := tmpl.Execute(&out, struct {
			Device      string
			Own, Peer   netip.Addr
			Recommended bool
		}{device(name), own, peer, name == recommended}); err != nil {
			t.Fatalf("%v", err)
		}
		x[0].Write(path(vendor, name), out.String())
	}
}

// debianVersion is that of an installed package, "unknown" if it is not from Debian.
func debianVersion(name string) string {
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", name).Output()
	if err != nil {
		return "unknown"
	}
	version, _, _ := strings.Cut(string(out), "-")
	return version
}
