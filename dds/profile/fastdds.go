package profile

// FastDDS returns the profile for Fast DDS 2.x, the version in ROS 2 Humble to Jazzy: overlay only, programs on the same
// host included.
func FastDDS(p Params) ([]byte, error) { return render(fastdds, p) }

var fastdds = parse("fastdds", `<?xml version="1.0" encoding="UTF-8"?>
<!--
  Fast DDS over the hnet overlay, for Fast DDS 2.x (ROS 2 Humble, Iron, Jazzy).

  To put it in force, save it, and before starting a node:
      export RMW_IMPLEMENTATION=rmw_fastrtps_cpp
      export FASTRTPS_DEFAULT_PROFILES_FILE=/path/to/this/file.xml
      export FASTDDS_DEFAULT_PROFILES_FILE=/path/to/this/file.xml
  (The first is read by Fast DDS 2.x, the second by later versions.)
{{- if .Relay}}
  It stays as it is when hosts join or leave: the hnet daemon on this host makes nodes known to each other.
{{- else}}
  A node reads it once, when it starts: restart nodes after the list of peers below has changed.
{{- end}}
  The overlay's interface must be up before a node starts: addresses are looked up at start only.
  Traffic: the overlay and this same host. Hosts on the LAN are seen through the overlay, if they are peers.
{{- if not .SharedMemory}}
  Nodes on this same host use its overlay address too, not shared memory: with that, Fast DDS tells hosts apart by their
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
        <interfaceWhiteList>
          <address>{{xml .Own}}</address>
        </interfaceWhiteList>
      </transport_descriptor>
{{- if .SharedMemory}}
      <!-- Shared memory between nodes on this same host. Fast DDS tells hosts apart by their IPv4 addresses: this host
           must have one that no peer has, or that peer is taken for this host and hears nothing. -->
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
{{- if .SharedMemory}}
          <transport_id>hnet_same_host</transport_id>
{{- end}}
        </userTransports>
        <!-- Not the built-in transports: they would use IPv4 on every interface beside the overlay. -->
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
{{- if .Relay}}
          <!-- The hnet daemon on this host, which passes on who is where. Data flows between the nodes themselves. -->
          <initialPeersList>
            <locator>
              <udpv6>
                <port>{{.RelayPort}}</port>
                <address>{{xml .Own}}</address>
              </udpv6>
            </locator>
          </initialPeersList>
{{- else}}
          <!-- Where nodes are looked for, for there is no multicast on the overlay. Without a port, all discovery
               ports up to maxInitialPeersRange are asked, in whatever domain the node is. -->
          <initialPeersList>
            <!-- This host: nodes here find each other through its own address. -->
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
          </initialPeersList>
{{- end}}
        </builtin>
      </rtps>
    </participant>
  </profiles>
</dds>
`)
