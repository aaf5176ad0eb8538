package profile

// Cyclone returns the profile for Cyclone DDS 0.10, the version in ROS 2 Humble to Kilted: overlay only, programs on
// the same host included.
func Cyclone(p Params) ([]byte, error) { return render(cyclone, p) }

var cyclone = parse("cyclone", `<?xml version="1.0" encoding="UTF-8"?>
<!--
  Cyclone DDS over the hnet overlay, for Cyclone DDS 0.10 (ROS 2 Humble, Iron, Jazzy, Kilted).

  To put it in force, save it, and before starting a node:
      export RMW_IMPLEMENTATION=rmw_cyclonedds_cpp
      export CYCLONEDDS_URI=file:///path/to/this/file.xml
{{- if .Relay}}
  It stays as it is when hosts join or leave: the hnet daemon on this host makes nodes known to each other.
{{- else}}
  A node reads it once, when it starts: restart nodes after the list of peers below has changed.
{{- end}}
  The interface must be up before a node starts, or the node stops with "does not match an available interface".
-->
<CycloneDDS xmlns="https://cdds.io/config">
  <Domain Id="any">
    <General>
      <!-- Overlay addresses are IPv6. Cyclone speaks one family at a time: IPv4 hosts are not seen meanwhile. -->
      <Transport>udp6</Transport>
      <!-- Only the overlay's interface. Nodes on this same host meet over it too. -->
      <Interfaces>
        <NetworkInterface name="{{xml .Interface}}" multicast="false"/>
      </Interfaces>
      <!-- The overlay carries no multicast: nodes are found through the {{if .Relay}}hnet daemon{{else}}list of peers{{end}}. -->
      <AllowMulticast>false</AllowMulticast>
      <!-- One message fits one overlay packet: MTU 1280, less 40 for IPv6 and 8 for UDP, leaves {{.MaxDatagram}} bytes.
           Not above {{.MessageSize}}: Fast DDS nodes with the matching profile cut off anything longer. -->
      <MaxMessageSize>{{.MessageSize}}B</MaxMessageSize>
      <!-- The same for samples sent again after a loss. -->
      <MaxRexmitMessageSize>{{.MessageSize}}B</MaxRexmitMessageSize>
      <!-- Larger samples (images, point clouds) travel in pieces of this size; the rest of a message is headers. -->
      <FragmentSize>{{.FragmentSize}}B</FragmentSize>
    </General>
    <Discovery>
      <!-- Each node takes the first free of the well-known ports, so that others can find it without multicast. -->
      <ParticipantIndex>auto</ParticipantIndex>
{{- if .Relay}}
      <!-- {{.Participants}} nodes per host and domain. -->
{{- else}}
      <!-- {{.Participants}} nodes per host and domain can be found. Each node asks at that many ports of every peer. -->
{{- end}}
      <MaxAutoParticipantIndex>{{.Participants}}</MaxAutoParticipantIndex>
{{- if .Relay}}
      <!-- How often a node tells the daemon that it is there: one small packet that stays on this host. -->
      <SPDPInterval>{{.RelayAnnounce}}s</SPDPInterval>
      <Peers>
        <!-- The hnet daemon on this host, which passes on who is where. Data flows between the nodes themselves. -->
        <Peer Address="[{{xml .Own}}]:{{.RelayPort}}"/>
      </Peers>
{{- else}}
      <Peers>
        <!-- This host: without multicast, nodes here find each other through its own address. -->
        <Peer Address="{{xml .Own}}"/>
        <!-- The other hosts: {{len .Peers}}. -->
{{- range .Peers}}
        <Peer Address="{{xml .}}"/>
{{- end}}
      </Peers>
{{- end}}
    </Discovery>
    <Internal>
      <!-- Tells Fast DDS nodes at once when a node here ends; without it they notice after 10 s. -->
      <GenerateKeyhash>true</GenerateKeyhash>
      <!-- Room for the pieces of a large sample. A wish: with less (sysctl net.core.rmem_max) nodes run all the same. -->
      <SocketReceiveBufferSize max="{{.ReceiveBuffer}}B"/>
    </Internal>
  </Domain>
</CycloneDDS>
`)
