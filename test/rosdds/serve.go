package rosdds

import (
	"fmt"
	"os"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// held is a request whose reader of replies is not known yet.
type held struct {
	since  time.Time
	to     func() []wire.GUID
	answer []byte
	o      rtps.WriteOptions
}

// serve answers a request to its client alone, in the client's mapping.
func (p *peer) serve(s rtps.Sample, header []byte, m sample) {
	h := held{since: time.Now(), answer: append([]byte{0, 1, 0, 0}, header...)}
	h.answer = m.append(h.answer)
	if s.Related != nil {
		reader := s.Related.Writer
		h.o.Related = &rtps.SampleIdentity{Writer: reader, Sequence: s.Sequence}
		h.to = func() []wire.GUID {
			for _, e := range p.writer.Matched() {
				if e.GUID == reader {
					return []wire.GUID{reader}
				}
			}
			return nil
		}
	} else {
		h.to = func() (to []wire.GUID) {
			for _, e := range p.writer.Matched() {
				if e.GUID.Prefix == s.Writer.Prefix {
					to = append(to, e.GUID)
				}
			}
			return to
		}
	}
	p.held = append(p.held, h)
	p.release()
}

// release answers what is held, as far as the readers are known by now.
func (p *peer) release() {
	rest := p.held[:0]
	for _, h := range p.held {
		if h.o.To = h.to(); len(h.o.To) > 0 {
			if _, err := p.writer.Write(h.answer, h.o); err != nil {
				fmt.Fprintln(os.Stderr, "go: answer:", err)
			}
		} else if time.Since(h.since) < 10*time.Second {
			rest = append(rest, h)
		}
	}
	p.held = rest
}
