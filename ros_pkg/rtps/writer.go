package rtps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/machine"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// maxBlocking is how long a write waits for room if its QoS does not say.
const maxBlocking = 100 * time.Millisecond

// Writer writes to a topic.
type Writer struct {
	p        *Participant
	w        *machine.Writer
	blocking time.Duration

	progress chan struct{} // closed and made anew when a reader acknowledged something; under p.mu
}

// NewWriter makes a writer and announces it.
func (p *Participant) NewWriter(config WriterConfig) (*Writer, error) {
	w := &Writer{p: p, blocking: config.QoS.MaxBlocking}
	if w.blocking == 0 {
		w.blocking = maxBlocking
	}
	err := error(ErrClosed)
	p.do(func(now time.Time) {
		if p.closed {
			return
		}
		if w.w, err = p.machine.NewWriter(now, config); err == nil {
			w.w.Progress = w.advance
		}
	})
	if err != nil {
		return nil, fmt.Errorf("cannot write to %s: %w", config.Topic, err)
	}
	return w, nil
}

// advance is called with p.mu held.
func (w *Writer) advance() {
	if w.progress != nil {
		close(w.progress)
		w.progress = nil
	}
}

// wait returns a channel that is closed at the next progress; p.mu is held.
func (w *Writer) wait() <-chan struct{} {
	if w.progress == nil {
		w.progress = make(chan struct{})
	}
	return w.progress
}

// GUID is the writer's.
func (w *Writer) GUID() wire.GUID { return w.w.GUID() }

// Write sends a sample to the matched readers, now, and keeps it as far as the QoS asks for. The payload is copied.
// Only a reliable KeepAll writer ever waits: for room in its history, at most QoS.MaxBlocking; then the error is ErrFull
// and the sample is not written. In a callback that would hold up what it waits for: there ErrFull comes at once if
// MaxBlocking is negative.
func (w *Writer) Write(payload []byte, o WriteOptions) (wire.SequenceNumber, error) {
	seq, full, err := w.try(payload, &o)
	if full == nil || w.blocking < 0 {
		return seq, err
	}
	timeout := time.NewTimer(w.blocking)
	defer timeout.Stop()
	for full != nil {
		select {
		case <-full:
			seq, full, err = w.try(payload, &o)
		case <-timeout.C:
			return 0, err
		}
	}
	return seq, err
}

// try returns the channel to wait for if the history is full.
func (w *Writer) try(payload []byte, o *WriteOptions) (seq wire.SequenceNumber, full <-chan struct{}, err error) {
	p := w.p
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return 0, nil, ErrClosed
	}
	before := p.machine.Next()
	seq, err = w.w.Write(time.Now(), payload, o)
	if errors.Is(err, ErrFull) {
		full = w.wait()
	}
	p.finish(before, false)
	return seq, full, err
}

// Dispose tells the readers that the topic's instance is gone.
func (w *Writer) Dispose() (wire.SequenceNumber, error) {
	var seq wire.SequenceNumber
	err := error(ErrClosed)
	w.p.do(func(now time.Time) {
		if !w.p.closed {
			seq, err = w.w.Dispose(now)
		}
	})
	return seq, err
}

// Matched returns the readers that the writer writes to, own ones included.
func (w *Writer) Matched() []Endpoint {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.w.Matched()
}

// WaitAcked waits until all reliable readers matched now have acknowledged all that was written so far, or are gone.
func (w *Writer) WaitAcked(ctx context.Context) error {
	w.p.mu.Lock()
	last := w.w.Last()
	for !w.p.closed && !w.w.Acked(last) {
		next := w.wait()
		w.p.mu.Unlock()
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
		w.p.mu.Lock()
	}
	w.p.mu.Unlock()
	return nil
}

// Close takes the writer off the domain.
func (w *Writer) Close() error {
	w.p.do(func(now time.Time) { w.w.Close(now) })
	return nil
}
