package spdp

import (
	"fmt"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// Profiles without IPv6: Cyclone DDS as it is by default, and Fast DDS with its built-in transports. What is in place of
// the verb names the relay, or nobody.
const (
	cycloneFour = `<CycloneDDS><Domain>
<General><Interfaces><NetworkInterface name="hnet0" multicast="false"/></Interfaces><AllowMulticast>false</AllowMulticast></General>
<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>%s</Discovery>
</Domain></CycloneDDS>
`
	cyclonePeer = `<Peers><Peer address="%v:7402"/></Peers>`
	fastddsFour = `<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
<transport_descriptors><transport_descriptor><transport_id>four</transport_id><type>UDPv4</type></transport_descriptor></transport_descriptors>
<participant profile_name="hnet0" is_default_profile="true"><rtps>
<useBuiltinTransports>false</useBuiltinTransports><userTransports><transport_id>four</transport_id></userTransports>
<builtin><initialPeersList><locator><udpv4><port>7402</port><address>%v</address></udpv4></locator></initialPeersList></builtin>
</rtps></participant>
</profiles>
`
)

// TestIPv4: programs that have no IPv6 find each other at their hosts' IPv4 addresses on hnet0, whether they announce
// themselves to the relay or have to be asked.
func TestIPv4(t *testing.T) {
	list := daemons(t, 2, "ipv4: auto\n")
	trust(list...)
	running := map[string]*lab.Process{}
	for i, r := range list {
		four := waitIPv4(t, r).IPv4
		peer := ""
		if i == 0 {
			peer = fmt.Sprintf(cyclonePeer, four)
		}
		r.Write(profileOf(cyclone), fmt.Sprintf(cycloneFour, peer))
		r.Write(profileOf(fastdds), fmt.Sprintf(fastddsFour, four))
		for _, v := range vendors {
			running[name(r, v)] = r.start(v, "both", 5, "--rate", "10")
		}
	}
	began := time.Now()
	for who, p := range running {
		for other := range running {
			if who != other {
				heard(t, p, other)
			}
		}
	}
	t.Logf("everybody heard everybody within %v", time.Since(began).Round(10*time.Millisecond))
	list[1].Hnet("whitelist", "rm", list[0].Address.String())
	began = time.Now()
	for _, p := range running {
		matched(t, p, 1)
	}
	notLater(t, "gone on both sides", began)
}
