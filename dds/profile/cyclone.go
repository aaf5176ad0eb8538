package profile

import "time"

// Cyclone returns the profile for Cyclone DDS 0.10, the version in ROS 2 Humble to Kilted.
func Cyclone(p Params) ([]byte, error) { return renderCyclone(p, false) }

// Cyclone11 returns the profile for Cyclone DDS 11, the version in ROS 2 Lyrical. Versions 0.10 refuse it: programs would
// not start.
func Cyclone11(p Params) ([]byte, error) { return renderCyclone(p, true) }

func renderCyclone(p Params, eleven bool) ([]byte, error) {
	v := map[string]any{
		"Eleven":    eleven,
		"LAN":       p.LAN,
		"LANBeside": p.lanBeside(),
		"Unacked":   unacknowledged,
		"Heartbeat": cycloneHeartbeat.Milliseconds(),
		"Again":     nackAgain.Milliseconds(),
	}
	return render(cyclone, p, v)
}

const (
	// unacknowledged is how many bytes a Cyclone writer may have under way to slow readers: two of the largest samples that
	// are common. Its own limit of 500 kB has a writer of larger ones wait for each to be acknowledged.
	unacknowledged = 16 << 20

	// cycloneHeartbeat is how soon Cyclone asks readers what they miss, and nackAgain how soon a reader asks again when the
	// writer is silent; by test/ddssizes. Its own are 100 ms and 3 s.
	cycloneHeartbeat = 50 * time.Millisecond
	nackAgain        = 500 * time.Millisecond
)

var cyclone = parse("cyclone", `<?xml version="1.0" encoding="UTF-8"?>
<!--
{{- if .Eleven}}
  Cyclone DDS over the hnet overlay, for Cyclone DDS 11 (ROS 2 Lyrical). Versions 0.10 refuse it.
{{- else}}
  Cyclone DDS over the hnet overlay, for Cyclone DDS 0.10 (ROS 2 Humble, Iron, Jazzy, Kilted).
{{- end}}

  'eval "$(hnet dds env)"' puts it in force. By hand, before starting a node:
      export RMW_IMPLEMENTATION=rmw_cyclonedds_cpp
      export CYCLONEDDS_URI=file:///path/to/this/file.xml
  Settings of your own go into another file: CYCLONEDDS_URI=file:///path/to/this/file.xml,file:///path/to/yours.xml
  Where both say something, the later one wins; peers and interfaces add up.
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
{{- if .LANBeside}}
      <!-- Cyclone speaks one family at a time: IPv4, in which both the LAN and the overlay can be reached. -->
      <Transport>udp</Transport>
      <Interfaces>
        <!-- The overlay. It carries no multicast: nodes there are found through the hnet daemon. But to say so here would
             switch multicast off on the LAN too. -->
        <NetworkInterface name="{{xml .Interface}}"/>
{{- range .LAN}}
        <!-- The LAN, as it was when this was written. It may be missing when a node starts, which then does without it. -->
        <NetworkInterface name="{{xml .}}" presence_required="false"/>
{{- end}}
      </Interfaces>
      <!-- On the LAN nodes are found by multicast, as they are without a profile; data goes to each by itself. -->
      <AllowMulticast>spdp</AllowMulticast>
      <!-- Addresses on other LANs are not tried by way of the router: hosts there are reached over the overlay. Nodes on the LAN
           without this profile need the same: CYCLONEDDS_URI='<General><DontRoute>true</DontRoute></General>'. -->
      <DontRoute>true</DontRoute>
{{- else}}
      <!-- Overlay addresses are IPv6. Cyclone speaks one family at a time: IPv4 hosts are not seen meanwhile. -->
      <Transport>udp6</Transport>
      <!-- Only the overlay's interface. Nodes on this same host meet over it too. -->
      <Interfaces>
        <NetworkInterface name="{{xml .Interface}}" multicast="false"/>
      </Interfaces>
      <!-- The overlay carries no multicast: nodes are found through the {{if .Relay}}hnet daemon{{else}}list of peers{{end}}. -->
      <AllowMulticast>false</AllowMulticast>
{{- end}}
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
{{- end}}
{{- if .Eleven}}
      <!-- A peer that is not there yet is not given up; 30 s is the default. -->
      <InitialLocatorPruneDelay>inf</InitialLocatorPruneDelay>
{{- end}}
      <Peers>
{{- if and .Relay .LANBeside}}
        <!-- The hnet daemon on this host, which passes on who is where. Data flows between the nodes themselves. -->
        <Peer Address="{{xml .IPv4}}:{{.RelayPort}}"{{if .Eleven}} PruneDelay="inf"{{end}}/>
{{- else if .Relay}}
        <!-- The hnet daemon on this host, which passes on who is where. Data flows between the nodes themselves. -->
        <Peer Address="[{{xml .Own}}]:{{.RelayPort}}"{{if .Eleven}} PruneDelay="inf"{{end}}/>
{{- else}}
        <!-- This host: without multicast, nodes here find each other through its own address. -->
        <Peer Address="{{xml .Own}}"{{if .Eleven}} PruneDelay="inf"{{end}}/>
        <!-- The other hosts: {{len .Peers}}. -->
{{- $eleven := .Eleven}}
{{- range .Peers}}
        <Peer Address="{{xml .}}"{{if $eleven}} PruneDelay="inf"{{end}}/>
{{- end}}
{{- end}}
      </Peers>
    </Discovery>
    <Internal>
      <!-- Tells Fast DDS nodes at once when a node here ends; without it they notice after 10 s. -->
      <GenerateKeyhash>true</GenerateKeyhash>
      <!-- Room for the pieces of a large sample. A wish: with less nodes run all the same. The kernel grants at most
           sysctl net.core.rmem_max; 'hnet status' warns where that is too small. -->
      <SocketReceiveBufferSize max="{{.ReceiveBuffer}}B"/>
      <!-- Writers of large samples have more than one under way, also while some are sent again. -->
      <Watermarks>
        <WhcHigh>{{.Unacked}}B</WhcHigh>
      </Watermarks>
      <MaxQueuedRexmitBytes>{{.Unacked}}B</MaxQueuedRexmitBytes>
      <!-- A loss is noticed this soon, -->
      <HeartbeatInterval>{{.Heartbeat}}ms</HeartbeatInterval>
      <!-- and this soon again if what was to repair it was lost too. -->
      <AutoReschedNackDelay>{{.Again}}ms</AutoReschedNackDelay>
    </Internal>
  </Domain>
</CycloneDDS>
`)
