package machine

import (
	"flag"
	"fmt"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

var trace = flag.Bool("trace", false, "log every datagram of the simulations")

// describeDatagram writes a message in a line, for whoever looks for a fault.
func describeDatagram(b []byte) string {
	r, err := wire.NewReader(b)
	if err != nil {
		return err.Error()
	}
	var w strings.Builder
	for s, ok := r.Next(); ok; s, ok = r.Next() {
		switch s := s.(type) {
		case *wire.Data:
			fmt.Fprintf(&w, " DATA(%v>%v %d, %d B)", s.Writer, s.Reader, s.SN, len(s.Payload))
		case *wire.DataFrag:
			fmt.Fprintf(&w, " DATA_FRAG(%v>%v %d.%d/%d)", s.Writer, s.Reader, s.SN, s.FirstFragment, s.FragmentCount())
		case *wire.Heartbeat:
			fmt.Fprintf(&w, " HEARTBEAT(%v>%v %d..%d #%d %v)", s.Writer, s.Reader, s.First, s.Last, s.Count, s.Final)
		case *wire.AckNack:
			fmt.Fprintf(&w, " ACKNACK(%v>%v %v #%d %v)", s.Reader, s.Writer, s.Set, s.Count, s.Final)
		case *wire.NackFrag:
			fmt.Fprintf(&w, " NACK_FRAG(%v>%v %d %v)", s.Reader, s.Writer, s.SN, s.Set)
		case *wire.Gap:
			fmt.Fprintf(&w, " GAP(%v>%v %d..%v)", s.Writer, s.Reader, s.Start, s.Set)
		case *wire.InfoTS, *wire.InfoDst:
		default:
			fmt.Fprintf(&w, " %v", s.ID())
		}
	}
	return w.String()
}

// traced logs every datagram.
func (s *simulation) traced() {
	start := s.now
	s.tap = func(from *simNode, d Datagram) {
		s.t.Logf("%9v %s > %v:%s", s.now.Sub(start), from.name, d.To, describeDatagram(d.Payload))
	}
}
