package rtps

import (
	"fmt"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/machine"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Reader reads a topic.
type Reader struct {
	p *Participant
	r *machine.Reader
}

// NewReader makes a reader and announces it.
func (p *Participant) NewReader(config ReaderConfig) (*Reader, error) {
	r := &Reader{p: p}
	err := error(ErrClosed)
	p.do(func(now time.Time) {
		if !p.closed {
			r.r, err = p.machine.NewReader(now, config)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", config.Topic, err)
	}
	return r, nil
}

// GUID is the reader's.
func (r *Reader) GUID() wire.GUID { return r.r.GUID() }

// Matched returns the writers that the reader reads from, own ones included.
func (r *Reader) Matched() []Endpoint {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return r.r.Matched()
}

// Close takes the reader off the domain. Callbacks that are under way may still come.
func (r *Reader) Close() error {
	r.p.do(func(now time.Time) { r.r.Close(now) })
	return nil
}

// Heard reports whether a matched writer knows this reader by now; see the machine's method of that name.
func (r *Reader) Heard(writer wire.GUID) bool {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return r.r.Heard(writer)
}

// Recycle gives the payload of a sample back, which must not be used any more then: a stream of long samples costs no memory for each. Who keeps
// the payload, or a part of it, does not call it.
func (p *Participant) Recycle(s *Sample) {
	p.machine.Recycle(s.Payload)
	s.Payload = nil
}
