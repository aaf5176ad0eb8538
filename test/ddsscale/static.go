package main

import (
	"context"
	"net/netip"
	"os"
	"time"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
	"github.com/hnet-robotics/hnet_bridge/test/dds"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// announced is what one participant sends to one static peer, a host with nothing to discover.
type announced struct {
	vendor    string
	ports     int     // asked in each announcement
	perMinute float64 // datagrams
	bytes     float64 // of a datagram, on hnet0
}

// static counts the announcements of real programs to a static peer, as profiles without the relay have it.
func static(t lab.TB, span time.Duration) (list []announced) {
	programs, err := dds.Build(context.Background())
	if err != nil {
		t.Fatalf("%v", err)
	}
	l := lab.New(t)
	a, b := l.Host("robot1"), l.Host("robot2")
	l.LAN(lab.Link{}, a, b)
	from, to := fleet.Start(t, a, "dds: {enabled: false}\n"), fleet.Start(t, b, "dds: {enabled: false}\n")
	fleet.Trust(from, to)
	from.Hnet("wait", "peer", to.Address.String(), "--timeout", "30s")
	for _, v := range []struct {
		name, program, variable string
		write                   func(profile.Params) ([]byte, error)
	}{
		{"Cyclone DDS", programs.Cyclone, "CYCLONEDDS_URI=file:///etc/hnet/profile.xml", profile.Cyclone},
		{"Fast DDS", programs.FastDDS, "FASTRTPS_DEFAULT_PROFILES_FILE=/etc/hnet/profile.xml", profile.FastDDS},
	} {
		text, err := v.write(profile.Params{Interface: "hnet0", Address: from.Address, Mode: profile.Overlay, Peers: []netip.Addr{to.Address}})
		if err != nil {
			t.Fatalf("%v", err)
		}
		from.Write("/etc/hnet/profile.xml", string(text))
		cmd := from.Command(context.Background(), v.program, "both", "--name", "x", "--count", "0", "--rate", "1")
		cmd.Env = append(os.Environ(), v.variable)
		p := from.StartCmd(t, cmd)
		p.WaitLine("^ready$", 20*time.Second)
		time.Sleep(10 * time.Second) // the haste of the beginning
		c := from.Capture(t, "hnet0")
		time.Sleep(span)
		ports := map[uint16]bool{}
		n, bytes := 0, 0
		for _, f := range c.Stop() {
			if d, ok := datagram(f); ok && f.Out && d.Addr() == to.Address && d.Port() >= 7400 {
				ports[d.Port()] = true
				n++
				bytes += f.Len
			}
		}
		p.Stop()
		if n == 0 {
			t.Fatalf("%s announces nothing in %v", v.name, span)
		}
		list = append(list, announced{v.name, len(ports), float64(n) / span.Minutes(), float64(bytes) / float64(n)})
	}
	return list
}
