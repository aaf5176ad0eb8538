package profile

import (
	"net/netip"
	"time"
)

// FastDDS returns the profile for Fast DDS 2.6 to 2.14, the versions in ROS 2 Humble to Jazzy.
func FastDDS(p Params) ([]byte, error) { return renderFastDDS(p, false) }

// FastDDS3 returns the profile for Fast DDS 3, the version in ROS 2 Kilted and Lyrical.
func FastDDS3(p Params) ([]byte, error) { return renderFastDDS(p, true) }

// heartbeat is how often Fast DDS asks readers what they miss, by test/ddssizes. Its own 3 s are too long, and with less than
// this many writers load a link on which nobody answers.
const heartbeat = 100 * time.Millisecond

func renderFastDDS(p Params, three bool) ([]byte, error) {
	return render(p, func(w *page, peers []netip.Addr) {
		fastHead(w, p, three)
		w.lines(`
<dds xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <profiles>`)
		fastTransports(w, p, three)
		fastParticipant(w, p, peers)
		fastWriter(w, three)
		w.lines(`
  </profiles>
</dds>`)
	})
}

// sharedMemory tells whether nodes on this host use it among themselves.
func (p Params) sharedMemory() bool { return p.SharedMemory || p.IPv4.IsValid() }

func fastHead(w *page, p Params, three bool) {
	w.lines(`
<?xml version="1.0" encoding="UTF-8"?>
<!--`)
	variable := FastDDSVariable
	if three {
		variable = FastDDS3Variable
		w.lines(`  Fast DDS over the hnet overlay, for Fast DDS 3 (ROS 2 Kilted, Lyrical).`)
	} else {
		w.lines(`  Fast DDS over the hnet overlay, for Fast DDS 2 (ROS 2 Humble, Iron, Jazzy).`)
	}
	w.lines(`

  'eval "$(hnet dds env)"' puts it in force. By hand, before starting a node:
      export RMW_IMPLEMENTATION=rmw_fastrtps_cpp
      export %s=/path/to/this/file.xml`, variable)
	whenRead(w, p)
	w.lines(`  The overlay's interface must be up before a node starts: addresses are looked up at start only.`)
	address := "overlay"
	if p.Mode == Both {
		address = "network"
		w.lines(`  Traffic: the overlay, the LAN by IPv4, and this same host.`)
	} else {
		w.lines(`  Traffic: the overlay and this same host. Hosts on the LAN are seen through the overlay, if they are peers.`)
	}
	if !p.sharedMemory() {
		w.lines(`
  Nodes on this same host use its %s address too, not shared memory: with that, Fast DDS tells hosts apart by their
  IPv4 addresses alone and takes a robot behind another NAT with the same private address for this host.`, address)
	}
	w.lines(`-->`)
}

func fastTransports(w *page, p Params, three bool) {
	w.lines(`
    <transport_descriptors>
      <transport_descriptor>
        <transport_id>hnet_overlay</transport_id>
        <type>UDPv6</type>
        <!-- One message fits one overlay packet: MTU 1280, less 40 for IPv6 and 8 for UDP, leaves %d bytes.
             Larger samples (images, point clouds) travel in pieces. -->
        <maxMessageSize>%d</maxMessageSize>
        <!-- Room for the pieces of a large sample; the kernel grants at most sysctl net.core.rmem_max. -->
        <receiveBufferSize>%d</receiveBufferSize>`, MaxDatagram, messageSize, p.Limits.receiveBuffer())
	if !p.Relay {
		w.lines(`
        <!-- %[1]d nodes per host and domain can be found. Each node asks at that many ports of every peer. -->
        <maxInitialPeersRange>%[1]d</maxInitialPeersRange>`, Participants)
	}
	w.lines(`        <!-- Only this host's overlay address, on no other interface. -->`)
	if three {
		w.lines(`
        <interfaces>
          <allowlist>
            <interface name="%s"/>
          </allowlist>
        </interfaces>`, p.Address)
	} else {
		w.lines(`
        <interfaceWhiteList>
          <address>%s</address>
        </interfaceWhiteList>`, p.Address)
	}
	w.lines(`      </transport_descriptor>`)
	if p.Mode == Both {
		w.lines(`
      <!-- The LAN: IPv4 on every interface, as without a profile. -->
      <transport_descriptor>
        <transport_id>hnet_lan</transport_id>
        <type>UDPv4</type>
        <receiveBufferSize>%d</receiveBufferSize>
      </transport_descriptor>`, p.Limits.receiveBuffer())
	}
	if p.IPv4.IsValid() {
		w.lines(`
      <!-- Shared memory between nodes on this same host. Fast DDS tells hosts apart by their IPv4 addresses; the one on
           the overlay (%s) is no other host's. -->`, p.IPv4)
	} else if p.SharedMemory {
		w.lines(`
      <!-- Shared memory between nodes on this same host. Fast DDS tells hosts apart by their IPv4 addresses: this host
           must have one that no peer has, or that peer is taken for this host and hears nothing. -->`)
	}
	if p.sharedMemory() {
		w.lines(`
      <transport_descriptor>
        <transport_id>hnet_same_host</transport_id>
        <type>SHM</type>
      </transport_descriptor>`)
	}
	w.lines(`    </transport_descriptors>`)
}

func fastParticipant(w *page, p Params, peers []netip.Addr) {
	w.lines(`
    <participant profile_name="hnet" is_default_profile="true">
      <rtps>
        <userTransports>
          <transport_id>hnet_overlay</transport_id>`)
	if p.Mode == Both {
		w.lines(`          <transport_id>hnet_lan</transport_id>`)
	}
	if p.sharedMemory() {
		w.lines(`          <transport_id>hnet_same_host</transport_id>`)
	}
	w.lines(`        </userTransports>`)
	if p.Mode == Both {
		w.lines(`        <!-- Not the built-in transports: they have shared memory with them wherever it cannot be told who is this host. -->`)
	} else {
		w.lines(`        <!-- Not the built-in transports: they would use IPv4 on every interface beside the overlay. -->`)
	}
	w.lines(`
        <useBuiltinTransports>false</useBuiltinTransports>
        <builtin>
          <discovery_config>
            <!-- A host silent for this long is taken for gone. -->
            <leaseDuration>
              <sec>20</sec>
            </leaseDuration>`)
	if p.Relay {
		w.lines(`            <!-- Nodes announce themselves this often, three times within the above. -->`)
	} else {
		w.lines(`
            <!-- Nodes announce themselves this often, three times within the above: to many ports of every peer, so
                 not more often than needed. -->`)
	}
	w.lines(`
            <leaseAnnouncement>
              <sec>6</sec>
            </leaseAnnouncement>
          </discovery_config>`)
	fastPeers(w, p, peers)
	w.lines(`
        </builtin>
      </rtps>
    </participant>`)
}

func fastPeers(w *page, p Params, peers []netip.Addr) {
	w.lines(`          <initialPeersList>`)
	if p.Mode == Both {
		w.lines(`
            <!-- The LAN's multicast group. It is the default, which a list takes the place of. -->
            <locator>
              <udpv4>
                <address>239.255.0.1</address>
              </udpv4>
            </locator>`)
	}
	if p.Relay {
		w.lines(`
            <!-- The hnet daemon on this host, which passes on who is where. Data flows between the nodes themselves. -->
            <locator>
              <udpv6>
                <port>%d</port>
                <address>%s</address>
              </udpv6>
            </locator>`, RelayPort, p.Address)
	} else {
		w.lines(`
            <!-- Where nodes are looked for, for there is no multicast on the overlay. Without a port, all discovery
                 ports up to maxInitialPeersRange are asked, in whatever domain the node is.
                 This host: nodes here find each other through its own address. -->`)
		fastPeer(w, p.Address)
		w.lines(`            <!-- The other hosts: %d. -->`, len(peers))
		for _, a := range peers {
			fastPeer(w, a)
		}
	}
	w.lines(`          </initialPeersList>`)
}

func fastPeer(w *page, a netip.Addr) {
	w.lines(`
            <locator>
              <udpv6>
                <address>%s</address>
              </udpv6>
            </locator>`, a)
}

func fastWriter(w *page, three bool) {
	period := "heartbeatPeriod"
	if three {
		period = "heartbeat_period"
	}
	w.lines(`
    <!-- For all writers whose program says nothing else; QoS that a ROS node sets goes before it. -->
    <data_writer profile_name="hnet_writer" is_default_profile="true">
      <qos>
        <!-- Otherwise a writer whose history is full asks the reader with every piece of a large sample what is missing, and
             sends again what is still on its way, many times over. -->
        <disable_heartbeat_piggyback>true</disable_heartbeat_piggyback>
      </qos>
      <times>
        <!-- Instead it asks this often while something is not acknowledged. Without it a loss is noticed after 3 s. -->
        <%[1]s>
          <sec>0</sec>
          <nanosec>%[2]d</nanosec>
        </%[1]s>
      </times>
    </data_writer>
    <!-- For the answers of ROS services, in place of the above. -->
    <data_writer profile_name="service">
      <qos>
        <reliability>
          <kind>RELIABLE</kind>
          <!-- A server waits this long until it knows where the client reads answers, and then gives the answer up. The library's
               100 ms are too little right after hosts met: the client knows the server already, and calls. -->
          <max_blocking_time>
            <sec>%[3]d</sec>
          </max_blocking_time>
        </reliability>
        <disable_heartbeat_piggyback>true</disable_heartbeat_piggyback>
      </qos>
      <times>
        <%[1]s>
          <sec>0</sec>
          <nanosec>%[2]d</nanosec>
        </%[1]s>
      </times>
    </data_writer>`, period, heartbeat.Nanoseconds(), answerWait/time.Second)
}

// answerWait is how long a server of ROS, which does nothing else meanwhile, waits for a client's reader.
const answerWait = 2 * time.Second
