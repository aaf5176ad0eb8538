package profile

import (
	"net/netip"
	"time"
)

// Cyclone returns the profile for Cyclone DDS 0.10, the version in ROS 2 Humble to Kilted.
func Cyclone(p Params) ([]byte, error) { return renderCyclone(p, false) }

// Cyclone11 returns the profile for Cyclone DDS 11, the version in ROS 2 Lyrical. Versions 0.10 refuse it: programs would
// not start.
func Cyclone11(p Params) ([]byte, error) { return renderCyclone(p, true) }

const (
	// unacknowledged is how many bytes a Cyclone writer may have under way to slow readers: two of the largest samples that
	// are common. Its own limit of 500 kB has a writer of larger ones wait for each to be acknowledged.
	unacknowledged = 16 << 20

	// cycloneHeartbeat is how soon Cyclone asks readers what they miss, and nackAgain how soon a reader asks again when the
	// writer is silent; by test/ddssizes. Its own are 100 ms and 3 s. What bounds repairs is that a NACK_FRAG asks for 256 pieces of one sample,
	// and the next for more only a round trip later: PrioritizeRetransmit, Watermarks/WhcAdaptive and NackDelay made no difference there.
	cycloneHeartbeat = 50 * time.Millisecond
	nackAgain        = 500 * time.Millisecond
)

func renderCyclone(p Params, eleven bool) ([]byte, error) {
	return render(p, func(w *page, peers []netip.Addr) {
		cycloneHead(w, p, eleven)
		w.lines(`
<CycloneDDS xmlns="https://cdds.io/config">
  <Domain Id="any">`)
		cycloneGeneral(w, p)
		cycloneDiscovery(w, p, peers, eleven)
		cycloneInternal(w, p)
		w.lines(`
  </Domain>
</CycloneDDS>`)
	})
}

func cycloneHead(w *page, p Params, eleven bool) {
	w.lines(`
<?xml version="1.0" encoding="UTF-8"?>
<!--`)
	if eleven {
		w.lines(`  Cyclone DDS over the hnet overlay, for Cyclone DDS 11 (ROS 2 Lyrical). Versions 0.10 refuse it.`)
	} else {
		w.lines(`  Cyclone DDS over the hnet overlay, for Cyclone DDS 0.10 (ROS 2 Humble, Iron, Jazzy, Kilted).`)
	}
	w.lines(`

  'eval "$(hnet dds env)"' puts it in force. By hand, before starting a node:
      export RMW_IMPLEMENTATION=rmw_cyclonedds_cpp
      export CYCLONEDDS_URI=file:///path/to/this/file.xml
  Settings of your own go into another file: CYCLONEDDS_URI=file:///path/to/this/file.xml,file:///path/to/yours.xml
  Where both say something, the later one wins; peers and interfaces add up.`)
	whenRead(w, p)
	w.lines(`
  The interface must be up before a node starts, or the node stops with "does not match an available interface".
-->`)
}

// whenRead says in either library's profile whether nodes must be started again.
func whenRead(w *page, p Params) {
	if p.Relay {
		w.lines(`  It stays as it is when hosts join or leave: the hnet daemon on this host makes nodes known to each other.`)
	} else {
		w.lines(`  A node reads it once, when it starts: restart nodes after the list of peers below has changed.`)
	}
}

func cycloneGeneral(w *page, p Params) {
	w.lines(`    <General>`)
	if p.lanBeside() {
		w.lines(`
      <!-- Cyclone speaks one family at a time: IPv4, in which both the LAN and the overlay can be reached. -->
      <Transport>udp</Transport>
      <Interfaces>
        <!-- The overlay. It carries no multicast: nodes there are found through the hnet daemon. But to say so here would
             switch multicast off on the LAN too. -->
        <NetworkInterface name="%s"/>`, escape(p.Interface))
		for _, name := range p.LAN {
			w.lines(`
        <!-- The LAN, as it was when this was written. It may be missing when a node starts, which then does without it. -->
        <NetworkInterface name="%s" presence_required="false"/>`, escape(name))
		}
		w.lines(`
      </Interfaces>
      <!-- On the LAN nodes are found by multicast, as they are without a profile; data goes to each by itself. -->
      <AllowMulticast>spdp</AllowMulticast>
      <!-- Addresses on other LANs are not tried by way of the router: hosts there are reached over the overlay. Nodes on the LAN
           without this profile need the same: CYCLONEDDS_URI='<General><DontRoute>true</DontRoute></General>'. -->
      <DontRoute>true</DontRoute>`)
	} else {
		found := "list of peers"
		if p.Relay {
			found = "hnet daemon"
		}
		w.lines(`
      <!-- Overlay addresses are IPv6. Cyclone speaks one family at a time: IPv4 hosts are not seen meanwhile. -->
      <Transport>udp6</Transport>
      <!-- Only the overlay's interface. Nodes on this same host meet over it too. -->
      <Interfaces>
        <NetworkInterface name="%s" multicast="false"/>
      </Interfaces>
      <!-- The overlay carries no multicast: nodes are found through the %s. -->
      <AllowMulticast>false</AllowMulticast>`, escape(p.Interface), found)
	}
	w.lines(`
      <!-- One message fits one overlay packet: MTU 1280, less 40 for IPv6 and 8 for UDP, leaves %[1]d bytes.
           Not above %[2]d: Fast DDS nodes with the matching profile cut off anything longer. -->
      <MaxMessageSize>%[2]dB</MaxMessageSize>
      <!-- The same for samples sent again after a loss. -->
      <MaxRexmitMessageSize>%[2]dB</MaxRexmitMessageSize>
      <!-- Larger samples (images, point clouds) travel in pieces of this size; the rest of a message is headers. -->
      <FragmentSize>%[3]dB</FragmentSize>
    </General>`, MaxDatagram, messageSize, fragmentSize)
}

func cycloneDiscovery(w *page, p Params, peers []netip.Addr, eleven bool) {
	w.lines(`
    <Discovery>
      <!-- Each node takes the first free of the well-known ports, so that others can find it without multicast. -->
      <ParticipantIndex>auto</ParticipantIndex>`)
	if p.Relay {
		w.lines(`
      <!-- %[1]d nodes per host and domain. -->
      <MaxAutoParticipantIndex>%[1]d</MaxAutoParticipantIndex>
      <!-- How often a node tells the daemon that it is there: one small packet that stays on this host. -->
      <SPDPInterval>%[2]ds</SPDPInterval>`, Participants, relayAnnounce)
	} else {
		w.lines(`
      <!-- %[1]d nodes per host and domain can be found. Each node asks at that many ports of every peer. -->
      <MaxAutoParticipantIndex>%[1]d</MaxAutoParticipantIndex>`, Participants)
	}
	never := "" // given up
	if eleven {
		never = ` PruneDelay="inf"`
		w.lines(`
      <!-- A peer that is not there yet is not given up; 30 s is the default. -->
      <InitialLocatorPruneDelay>inf</InitialLocatorPruneDelay>`)
	}
	w.lines(`      <Peers>`)
	if p.Relay {
		daemon := netip.AddrPortFrom(p.Address, RelayPort)
		if p.lanBeside() {
			daemon = netip.AddrPortFrom(p.IPv4, RelayPort)
		}
		w.lines(`
        <!-- The hnet daemon on this host, which passes on who is where. Data flows between the nodes themselves. -->
        <Peer Address="%s"%s/>`, daemon, never)
	} else {
		w.lines(`
        <!-- This host: without multicast, nodes here find each other through its own address. -->
        <Peer Address="%s"%s/>
        <!-- The other hosts: %d. -->`, p.Address, never, len(peers))
		for _, a := range peers {
			w.lines(`        <Peer Address="%s"%s/>`, a, never)
		}
	}
	w.lines(`
      </Peers>
    </Discovery>`)
}

func cycloneInternal(w *page, p Params) {
	w.lines(`
    <Internal>
      <!-- Tells Fast DDS nodes at once when a node here ends; without it they notice after 10 s. -->
      <GenerateKeyhash>true</GenerateKeyhash>
      <!-- Room for the pieces of a large sample. A wish: with less nodes run all the same. The kernel grants at most
           sysctl net.core.rmem_max; 'hnet status' warns where that is too small. -->
      <SocketReceiveBufferSize max="%[1]dB"/>
      <!-- Writers of large samples have more than one under way, also while some are sent again. -->
      <Watermarks>
        <WhcHigh>%[2]dB</WhcHigh>
      </Watermarks>
      <MaxQueuedRexmitBytes>%[2]dB</MaxQueuedRexmitBytes>
      <!-- A loss is noticed this soon, -->
      <HeartbeatInterval>%[3]dms</HeartbeatInterval>
      <!-- and this soon again if what was to repair it was lost too. -->
      <AutoReschedNackDelay>%[4]dms</AutoReschedNackDelay>
    </Internal>`, p.Limits.receiveBuffer(), unacknowledged, cycloneHeartbeat.Milliseconds(), nackAgain.Milliseconds())
}
