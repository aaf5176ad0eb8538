package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/net/netutil"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
)

const (
	// metricsTimeout bounds a scrape, in both directions.
	metricsTimeout = 10 * time.Second
	// maxScrapers bounds the connections.
	maxScrapers = 16
)

// listenMetrics opens the configured address of the Prometheus metrics.
func (n *Node) listenMetrics() error {
	if n.cfg.Metrics == "" {
		return nil
	}
	l, err := net.Listen("tcp", n.cfg.Metrics)
	if err != nil {
		return fmt.Errorf("metrics cannot be served on %s: %w: set another 'metrics' in %s, or \"\" for none", n.cfg.Metrics, err, n.opt.Paths.Config)
	}
	n.metrics = netutil.LimitListener(l, maxScrapers)
	n.onClose(func() { l.Close() })
	return nil
}

// serveMetrics answers scrapes at /metrics until ctx ends.
func (n *Node) serveMetrics(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		n.writeMetrics(w)
		metrics.WriteProcessMetrics(w)
	})
	server := http.Server{Handler: mux, ReadTimeout: metricsTimeout, WriteTimeout: metricsTimeout, MaxHeaderBytes: 8 << 10}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(n.metrics); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// writeMetrics writes the node's own metrics. Names and labels are listed in docs/operating.md.
func (n *Node) writeMetrics(w io.Writer) {
	for _, s := range n.engine.Peers() {
		labels := fmt.Sprintf(`{peer=%q,hostname=%q}`, s.Address.String(), n.hostnameOf(s.Address))
		metrics.WriteCounterUint64(w, "hnet_peer_transmit_bytes_total"+labels, s.Tx)
		metrics.WriteCounterUint64(w, "hnet_peer_receive_bytes_total"+labels, s.Rx)
		connected := uint64(0)
		if s.State == engine.Connected {
			connected = 1
		}
		metrics.WriteGaugeUint64(w, "hnet_peer_connected"+labels, connected)
		if s.Measured {
			metrics.WriteGaugeFloat64(w, "hnet_peer_rtt_seconds"+labels, s.RTT.Seconds())
			metrics.WriteGaugeFloat64(w, "hnet_peer_jitter_seconds"+labels, s.Jitter.Seconds())
		}
		if s.LossKnown {
			metrics.WriteGaugeFloat64(w, "hnet_peer_loss_ratio"+labels, s.Loss)
		}
	}
	n.writeTopicMetrics(w)
	metrics.WriteGaugeUint64(w, "hnet_whitelist_entries", uint64(n.whitelist.Len()))
	for _, warning := range n.warnings.List() {
		metrics.WriteGaugeUint64(w, "hnet_warning{code="+strconv.Quote(string(warning.Code))+",subject="+strconv.Quote(warning.Subject)+"}", 1)
	}
	st := n.engine.Stats()
	for _, dropped := range []struct {
		reason string
		count  *atomic.Uint64
	}{
		{"barred", &st.Barred}, {"copy", &st.Copies}, {"denied", &st.Denied}, {"lane_overflow", &st.LaneOverflow}, {"malformed", &st.Malformed}, {"refused", &st.Refused},
		{"replayed", &st.Replayed}, {"send_error", &st.SendErrors}, {"spoofed", &st.Spoofed}, {"unauthentic", &st.Unauthentic},
		{"unknown", &st.Unknown}, {"write_error", &st.WriteErrors},
	} {
		metrics.WriteCounterUint64(w, "hnet_dropped_total{reason="+strconv.Quote(dropped.reason)+"}", dropped.count.Load())
	}
	metrics.WriteCounterUint64(w, "hnet_signalled_total", st.Signalled.Load())
}
