package server

import (
	"io"
	"strconv"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"
)

type counter = atomic.Uint64

// Stats counts what a Server did. The fields may be read at any time.
type Stats struct {
	RelayedPackets, RelayedBytes counter // datagrams, and their bytes without relay headers

	// Relayed datagrams that were dropped; a train counts once, but for DroppedSlow.
	DroppedNoLink counter // the channel has no link
	DroppedRate   counter // the client's relay rate
	DroppedQueue  counter // no room in the fair queue
	DroppedSend   counter // the kernel took it not
	DroppedSlow   counter // a connection that takes less than is sent to it

	DroppedControl counter // control datagrams and answers without room; those that matter are sent again

	Hellos     counter // that were answered
	Handshakes counter // registrations made
	Repeated   counter // registers that came again
	Moved      counter // registrations that went to another endpoint
	Expired    counter // registrations of silent clients
	STUN       counter // requests answered

	Malformed          counter // what no client sends
	Unauthentic        counter // control datagrams that do not open, or are replays
	UnknownSession     counter // datagrams of sessions that are not known, or not from there
	RefusedRate        counter // more than a source, or a client, may send
	RefusedCookie      counter // registers without a valid cookie
	RefusedHandshake   counter // registers that do not open, or with a bad record
	RefusedStale       counter // registers with an older record than the one known
	RefusedAdmission   counter // registers of nodes that are not let in
	RefusedFull        counter // registers that there is no room for
	RefusedBusy        counter // registers for which there was no time
	RefusedDraining    counter // hellos and registers to a server that ends
	RefusedInterests   counter // addresses beyond what a client, or all of them, may ask for
	RefusedConnections counter // over TCP, beyond the limits
	RefusedTLS         counter // connections whose TLS handshake failed
}

// Gauges is how things stand.
type Gauges struct {
	UDP, TCP    int // registrations by transport
	Provisional int // registrations whose client has not shown itself yet
	Links       int
	Interests   int
	Connections int
	// What waits: letters are control datagrams and answers.
	Letters, Trains, TrainBytes, ConnectionBytes int
}

// Stats returns the counters.
func (s *Server) Stats() *Stats { return &s.stats }

// Gauges returns how things stand.
func (s *Server) Gauges() Gauges {
	s.mu.RLock()
	r := &s.registry
	g := Gauges{UDP: r.overUDP, TCP: r.overTCP, Provisional: r.waiting, Links: r.links, Interests: r.interests}
	s.mu.RUnlock()
	g.Letters, g.Trains, g.TrainBytes = s.egress.sizes()
	g.Connections, g.ConnectionBytes = s.conns.len(), int(s.conns.waiting.Load())
	return g
}

// WriteMetrics writes the metrics in the Prometheus text format. Names and labels are listed in docs/operating.md.
func (s *Server) WriteMetrics(w io.Writer) {
	g := s.Gauges()
	for _, v := range []struct {
		name  string
		value int
	}{
		{`hnet_base_registrations{transport="udp"}`, g.UDP}, {`hnet_base_registrations{transport="tcp"}`, g.TCP},
		{"hnet_base_registrations_provisional", g.Provisional}, {"hnet_base_links", g.Links}, {"hnet_base_interests", g.Interests},
		{"hnet_base_connections", g.Connections}, {"hnet_base_queue_control_datagrams", g.Letters}, {"hnet_base_queue_relay_trains", g.Trains},
		{"hnet_base_queue_relay_bytes", g.TrainBytes}, {"hnet_base_queue_connection_bytes", g.ConnectionBytes},
	} {
		metrics.WriteGaugeUint64(w, v.name, uint64(max(0, v.value)))
	}
	st := &s.stats
	for _, v := range []struct {
		name  string
		value *counter
	}{
		{"hnet_base_relayed_packets_total", &st.RelayedPackets}, {"hnet_base_relayed_bytes_total", &st.RelayedBytes},
		{"hnet_base_hellos_total", &st.Hellos}, {"hnet_base_handshakes_total", &st.Handshakes}, {"hnet_base_registers_repeated_total", &st.Repeated},
		{"hnet_base_moves_total", &st.Moved}, {"hnet_base_expired_total", &st.Expired}, {"hnet_base_stun_answers_total", &st.STUN},
	} {
		metrics.WriteCounterUint64(w, v.name, v.value.Load())
	}
	for _, v := range []struct {
		metric, reason string
		value          *counter
	}{
		{"dropped", "no_link", &st.DroppedNoLink}, {"dropped", "client_rate", &st.DroppedRate}, {"dropped", "fair_queue", &st.DroppedQueue},
		{"dropped", "send", &st.DroppedSend}, {"dropped", "slow_connection", &st.DroppedSlow}, {"dropped", "control_queue", &st.DroppedControl},
		{"refused", "malformed", &st.Malformed}, {"refused", "unauthentic", &st.Unauthentic}, {"refused", "unknown_session", &st.UnknownSession},
		{"refused", "rate", &st.RefusedRate}, {"refused", "cookie", &st.RefusedCookie}, {"refused", "handshake", &st.RefusedHandshake},
		{"refused", "stale_record", &st.RefusedStale}, {"refused", "admission", &st.RefusedAdmission}, {"refused", "full", &st.RefusedFull},
		{"refused", "busy", &st.RefusedBusy}, {"refused", "draining", &st.RefusedDraining}, {"refused", "interests", &st.RefusedInterests},
		{"refused", "connections", &st.RefusedConnections}, {"refused", "tls", &st.RefusedTLS},
	} {
		metrics.WriteCounterUint64(w, "hnet_base_"+v.metric+"_total{reason="+strconv.Quote(v.reason)+"}", v.value.Load())
	}
}
