package spdp

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// Profiles of users who want multicast on hnet0: nothing names a peer.
const (
	cycloneMulticast = `<CycloneDDS><Domain><General>
<Transport>udp6</Transport>
<Interfaces><NetworkInterface name="hnet0" multicast="true"/></Interfaces>
<AllowMulticast>spdp</AllowMulticast>
<MaxMessageSize>1200B</MaxMessageSize><FragmentSize>1100B</FragmentSize>
</General></Domain></CycloneDDS>
`
	fastddsMulticast = `<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
<transport_descriptors><transport_descriptor>
<transport_id>hnet0</transport_id><type>UDPv6</type><maxMessageSize>1200</maxMessageSize>
<interfaceWhiteList><address>%s</address></interfaceWhiteList>
</transport_descriptor></transport_descriptors>
<participant profile_name="hnet0" is_default_profile="true"><rtps>
<useBuiltinTransports>false</useBuiltinTransports><userTransports><transport_id>hnet0</transport_id></userTransports>
</rtps></participant>
</profiles>
`
)

// TestMulticast: programs that insist on multicast find each other over hnet0, of one vendor and of both, with no relay of
// discovery and no peer named anywhere; off the whitelist nobody hears anything.
func TestMulticast(t *testing.T) {
	t.Parallel()
	list := daemons(t, 2, "dds: {enabled: false}\nmulticast: true\n")
	a, b := list[0], list[1]
	running := map[string]*lab.Process{}
	for _, r := range list {
		r.Write(profileOf(cyclone), cycloneMulticast)
		r.Write(profileOf(fastdds), fmt.Sprintf(fastddsMulticast, r.Address))
	}
	start := func(r *robot, domain int) {
		for _, v := range vendors {
			n := fmt.Sprintf("%s-%d", name(r, v), domain)
			running[n] = r.startNamed(n, v, "both", domain, "--rate", "10")
		}
	}
	start(a, 0)
	trust(list...)
	began := time.Now()
	start(b, 0)
	// Programs of one host have nobody between the two vendors' groups.
	for who, p := range running {
		for other := range running {
			if who[:6] != other[:6] {
				heard(t, p, other)
			}
		}
	}
	t.Logf("all heard all of the other host within %v", time.Since(began).Round(10*time.Millisecond))
	if out := a.Daemon.Output(); !strings.Contains(out, "multicast passes") {
		t.Errorf("the daemon does not say that multicast passes: %s", out)
	}
	a.Hnet("whitelist", "rm", b.Address.String())
	apart := map[string]*lab.Process{}
	for _, n := range []string{"-one", "-two"} {
		for _, r := range list {
			apart[r.Name()+n] = r.startNamed(r.Name()+n, cyclone, "both", 1, "--rate", "10")
		}
	}
	for who, p := range apart {
		for other := range apart {
			if who[:6] == other[:6] && who != other {
				heard(t, p, other)
			}
		}
	}
	for who, p := range apart {
		heardNobody(t, p, who)
	}
}

// heardNobody checks that a program has not heard one of another host, after those of its own.
func heardNobody(t *testing.T, p *lab.Process, who string) {
	t.Helper()
	for other := range received(p) {
		if other[:6] != who[:6] {
			t.Errorf("%s heard %s", who, other)
		}
	}
}

// TestMulticastIPv4 is with programs of Cyclone DDS as they are without any transport in their profile.
func TestMulticastIPv4(t *testing.T) {
	list := daemons(t, 2, "dds: {enabled: false}\nmulticast: true\nipv4: auto\n")
	trust(list...)
	running := map[string]*lab.Process{}
	for _, r := range list {
		waitIPv4(t, r)
		r.Write(profileOf(cyclone), strings.Replace(cycloneMulticast, "<Transport>udp6</Transport>\n", "", 1))
		running[name(r, cyclone)] = r.start(cyclone, "both", 0, "--rate", "10")
	}
	for who, p := range running {
		for other := range running {
			if who != other {
				heard(t, p, other)
			}
		}
	}
}

// waitIPv4 waits until a robot has an IPv4 address on hnet0.
func waitIPv4(t *testing.T, r *robot) (s api.Status) {
	t.Helper()
	lab.Eventually(t, patience, "an IPv4 address on hnet0", func() error {
		if r.JSON(&s, "status"); !s.IPv4.IsValid() {
			return errors.New("there is none")
		}
		return nil
	})
	return s
}
