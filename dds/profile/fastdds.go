package profile

import "time"

// FastDDS returns the profile for Fast DDS 2.6 to 2.14, the versions in ROS 2 Humble to Jazzy.
func FastDDS(p Params) ([]byte, error) { return renderFastDDS(p, false) }

// FastDDS3 returns the profile for Fast DDS 3, the version in ROS 2 Kilted and Lyrical.
func FastDDS3(p Params) ([]byte, error) { return renderFastDDS(p, true) }

func renderFastDDS(p Params, three bool) ([]byte, error) {
	return render(fastdds, p, map[string]any{
		"Three":        three,
		"SharedMemory": p.SharedMemory || p.IPv4.IsValid(),
		"Unique":       p.IPv4.IsValid(),
		"Heartbeat":    heartbeat.Nanoseconds(),
	})
}

// heartbeat is how often Fast DDS asks readers what they miss, by test/ddssizes. Its own 3 s are too long, and with less than
// this many writers load a link on which nobody answers.
const heartbeat = 100 * time.Millisecond

var fastdds = parse("fastdds", `<?xml version="1.0" encoding="UTF-8"?>
<!--
{{- if .Three}}
  Fast DDS over the hnet overlay, for Fast DDS 3 (ROS 2 Kilted, Lyrical).
{{- else}}
  Fast DDS over the hnet overlay, for Fast DDS 2 (ROS 2 Humble, Iron, Jazzy).
{{- end}}

  'eval "$(hnet dds env)"' puts it in force. By hand, before starting a node:
      export RMW_IMPLEMENTATION=rmw_fastrtps_cpp
      export {{if .Three}}FASTDDS{{else}}FASTRTPS{{end}}_DEFAULT_PROFILES_FILE=/path/to/this/file.xml
{{- if .Relay}}
  It stays as it is when hosts join or leave: the hnet daemon on this host makes nodes known to each other.
{{- else}}
  A node reads it once, when it starts: restart nodes after the list of peers below has changed.
{{- end}}
  The overlay's interface must be up before a node starts: addresses are looked up at start only.
{{- if .Both}}
  Traffic: the overlay, the LAN by IPv4, and this same host.
{{- else}}
  Traffic: the overlay and this same host. Hosts on the LAN are seen through the overlay, if they are peers.
{{- end}}
{{- if not .SharedMemory}}
  Nodes on this same host use its {{if .Both}}network{{else}}overlay{{end}} address too, not shared memory: with that, Fast DDS tells hosts apart by their
  IPv4 addresses alone and takes a robot behind another NAT with the same private address for this host.
{{- end}}
-->
<dds xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <profiles>
    <transport_descriptors>
      <transport_descriptor>
        <transport_id>hnet_overlay</transport_id>
        <type>UDPv6</type>
        <!-- One message fits one overlay packet: MTU 1280, less 40 for IPv6 and 8 for UDP, leaves {{.MaxDatagram}} bytes.
             Larger samples (images, point clouds) travel in pieces. -->
        <maxMessageSize>{{.MessageSize}}</maxMessageSize>
        <!-- Room for the pieces of a large sample; the kernel grants at most sysctl net.core.rmem_max. -->
        <receiveBufferSize>{{.ReceiveBuffer}}</receiveBufferSize>
{{- if not .Relay}}
        <!-- {{.Participants}} nodes per host and domain can be found. Each node asks at that many ports of every peer. -->
        <maxInitialPeersRange>{{.Participants}}</maxInitialPeersRange>
{{- end}}
        <!-- Only this host's overlay address, on no other interface. -->
{{- if .Three}}
        <interfaces>
          <allowlist>
            <interface name="{{xml .Own}}"/>
          </allowlist>
        </interfaces>
{{- else}}
        <interfaceWhiteList>
          <address>{{xml .Own}}</address>
        </interfaceWhiteList>
{{- end}}
      </transport_descriptor>
{{- if .Both}}
      <!-- The LAN: IPv4 on every interface, as without a profile. -->
      <transport_descriptor>
        <transport_id>hnet_lan</transport_id>
        <type>UDPv4</type>
        <receiveBufferSize>{{.ReceiveBuffer}}</receiveBufferSize>
      </transport_descriptor>
{{- end}}
{{- if .Unique}}
      <!-- Shared memory between nodes on this same host. Fast DDS tells hosts apart by their IPv4 addresses; the one on
           the overlay ({{xml .IPv4}}) is no other host's. -->
{{- else if .SharedMemory}}
      <!-- Shared memory between nodes on this same host. Fast DDS tells hosts apart by their IPv4 addresses: this host
           must have one that no peer has, or that peer is taken for this host and hears nothing. -->
{{- end}}
{{- if .SharedMemory}}
      <transport_descriptor>
        <transport_id>hnet_same_host</transport_id>
        <type>SHM</type>
      </transport_descriptor>
{{- end}}
    </transport_descriptors>
    <participant profile_name="hnet" is_default_profile="true">
      <rtps>
        <userTransports>
          <transport_id>hnet_overlay</transport_id>
{{- if .Both}}
          <transport_id>hnet_lan</transport_id>
{{- end}}
{{- if .SharedMemory}}
          <transport_id>hnet_same_host</transport_id>
{{- end}}
        </userTransports>
{{- if .Both}}
        <!-- Not the built-in transports: they have shared memory with them wherever it cannot be told who is this host. -->
{{- else}}
        <!-- Not the built-in transports: they would use IPv4 on every interface beside the overlay. -->
{{- end}}
        <useBuiltinTransports>false</useBuiltinTransports>
        <builtin>
          <discovery_config>
            <!-- A host silent for this long is taken for gone. -->
            <leaseDuration>
              <sec>20</sec>
            </leaseDuration>
{{- if .Relay}}
            <!-- Nodes announce themselves this often, three times within the above. -->
{{- else}}
            <!-- Nodes announce themselves this often, three times within the above: to many ports of every peer, so
                 not more often than needed. -->
{{- end}}
            <leaseAnnouncement>
              <sec>6</sec>
            </leaseAnnouncement>
          </discovery_config>
          <initialPeersList>
{{- if .Both}}
            <!-- The LAN's multicast group. It is the default, which a list takes the place of. -->
            <locator>
              <udpv4>
                <address>239.255.0.1</address>
              </udpv4>
            </locator>
{{- end}}
{{- if .Relay}}
            <!-- The hnet daemon on this host, which passes on who is where. Data flows between the nodes themselves. -->
            <locator>
              <udpv6>
                <port>{{.RelayPort}}</port>
                <address>{{xml .Own}}</address>
              </udpv6>
            </locator>
{{- else}}
            <!-- Where nodes are looked for, for there is no multicast on the overlay. Without a port, all discovery
                 ports up to maxInitialPeersRange are asked, in whatever domain the node is.
                 This host: nodes here find each other through its own address. -->
            <locator>
              <udpv6>
                <address>{{xml .Own}}</address>
              </udpv6>
            </locator>
            <!-- The other hosts: {{len .Peers}}. -->
{{- range .Peers}}
            <locator>
              <udpv6>
                <address>{{xml .}}</address>
              </udpv6>
            </locator>
{{- end}}
{{- end}}
          </initialPeersList>
        </builtin>
      </rtps>
    </participant>
    <!-- For all writers whose program says nothing else; QoS that a ROS node sets goes before it. -->
    <data_writer profile_name="hnet_writer" is_default_profile="true">
      <qos>
        <!-- Otherwise a writer whose history is full asks the reader with every piece of a large sample what is missing, and
             sends again what is still on its way, many times over. -->
        <disable_heartbeat_piggyback>true</disable_heartbeat_piggyback>
      </qos>
      <times>
        <!-- Instead it asks this often while something is not acknowledged. Without it a loss is noticed after 3 s. -->
        <{{if .Three}}heartbeat_period{{else}}heartbeatPeriod{{end}}>
          <sec>0</sec>
          <nanosec>{{.Heartbeat}}</nanosec>
        </{{if .Three}}heartbeat_period{{else}}heartbeatPeriod{{end}}>
      </times>
    </data_writer>
  </profiles>
</dds>
`)
