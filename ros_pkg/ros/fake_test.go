package ros

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// fakeNet is a domain in memory: nothing is lost, callbacks come one at a time, as those of rtps do.
type fakeNet struct {
	mu           sync.Mutex
	participants []*fakeParticipant
	writers      []*fakeWriter
	readers      []*fakeReader

	calls []func()
	busy  bool

	deaf func(wire.GUID) bool // writers that have not answered readers
}

type fakeParticipant struct {
	net    *fakeNet
	info   *rtps.ParticipantInfo
	keys   uint32
	events []func(rtps.GraphEvent)
	gone   bool
}

// join adds a participant of a vendor.
func (n *fakeNet) join(vendor wire.VendorID, userData string) *fakeParticipant {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := &fakeParticipant{net: n, info: &rtps.ParticipantInfo{Vendor: vendor, UserData: []byte(userData),
		Prefix: wire.GuidPrefix{1, 0x10, 0xfa, 0xce, byte(len(n.participants) + 1)}}}
	n.participants = append(n.participants, p)
	return p
}

// do runs f with the lock held, and then the callbacks it left, unless somebody is at it.
func (n *fakeNet) do(f func()) {
	n.mu.Lock()
	f()
	if n.busy {
		n.mu.Unlock()
		return
	}
	n.busy = true
	for len(n.calls) > 0 {
		call := n.calls[0]
		n.calls = n.calls[1:]
		n.mu.Unlock()
		call()
		n.mu.Lock()
	}
	n.busy = false
	n.mu.Unlock()
}

func (n *fakeNet) later(f func()) { n.calls = append(n.calls, f) }

func (n *fakeNet) tell(e rtps.GraphEvent) {
	for _, p := range n.participants {
		for _, f := range p.events {
			n.later(func() { f(e) })
		}
	}
}

func (p *fakeParticipant) GUID() wire.GUID {
	return wire.GUID{Prefix: p.info.Prefix, Entity: wire.EntityParticipant}
}

func (p *fakeParticipant) endpoint(kind byte, topic, typeName string, qos rtps.QoS, data []byte) rtps.Endpoint {
	p.keys++
	return rtps.Endpoint{GUID: wire.GUID{Prefix: p.info.Prefix, Entity: wire.MakeEntityID(p.keys, kind)}, Participant: p.info,
		Writer: kind == wire.KindWriterNoKey, Topic: topic, Type: typeName, QoS: qos, UserData: data}
}

func (p *fakeParticipant) NewWriter(c rtps.WriterConfig) (writer, error) {
	w := &fakeWriter{p: p, c: c}
	p.net.do(func() {
		w.e = p.endpoint(wire.KindWriterNoKey, c.Topic, c.Type, c.QoS, c.UserData)
		p.net.writers = append(p.net.writers, w)
		p.net.tell(rtps.GraphEvent{Kind: rtps.EndpointFound, Endpoint: &w.e, Participant: p.info})
		for _, r := range p.net.readers {
			p.net.match(w, r)
		}
	})
	return w, nil
}

func (p *fakeParticipant) NewReader(c rtps.ReaderConfig) (reader, error) {
	r := &fakeReader{p: p, c: c}
	p.net.do(func() {
		r.e = p.endpoint(wire.KindReaderNoKey, c.Topic, c.Type, c.QoS, c.UserData)
		p.net.readers = append(p.net.readers, r)
		p.net.tell(rtps.GraphEvent{Kind: rtps.EndpointFound, Endpoint: &r.e, Participant: p.info})
		for _, w := range p.net.writers {
			p.net.match(w, r)
		}
	})
	return r, nil
}

func (p *fakeParticipant) Graph() (g rtps.Graph) {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	for _, q := range p.net.participants {
		if !q.gone {
			g.Participants = append(g.Participants, q.info)
		}
	}
	for _, w := range p.net.writers {
		g.Writers = append(g.Writers, &w.e)
	}
	for _, r := range p.net.readers {
		g.Readers = append(g.Readers, &r.e)
	}
	return g
}

func (p *fakeParticipant) Subscribe(f func(rtps.GraphEvent)) {
	p.net.do(func() { p.events = append(p.events, f) })
}

func (p *fakeParticipant) Run(ctx context.Context) error {
	<-ctx.Done()
	p.leave()
	return nil
}

// leave takes the participant off the domain.
func (p *fakeParticipant) leave() {
	p.net.do(func() {
		p.gone = true
		for _, w := range slices.Clone(p.net.writers) {
			if w.p == p {
				p.net.removeWriter(w)
			}
		}
		for _, r := range slices.Clone(p.net.readers) {
			if r.p == p {
				p.net.removeReader(r)
			}
		}
		p.events = nil
		p.net.tell(rtps.GraphEvent{Kind: rtps.ParticipantLost, Participant: p.info})
	})
}

type fakeWriter struct {
	p       *fakeParticipant
	c       rtps.WriterConfig
	e       rtps.Endpoint
	seq     wire.SequenceNumber
	history []fakeSample
	matched []*fakeReader
}

type fakeSample struct {
	payload []byte
	o       rtps.WriteOptions
	seq     wire.SequenceNumber
}

type fakeReader struct {
	p *fakeParticipant
	c rtps.ReaderConfig
	e rtps.Endpoint
}

func (n *fakeNet) match(w *fakeWriter, r *fakeReader) {
	if w.e.Topic != r.e.Topic {
		return
	}
	policy := ""
	switch {
	case w.e.Type != r.e.Type:
		policy = "TYPE"
	case w.e.QoS.Reliability < r.e.QoS.Reliability:
		policy = "RELIABILITY"
	case w.e.QoS.Durability < r.e.QoS.Durability:
		policy = "DURABILITY"
	}
	if policy != "" {
		n.later(func() {
			if w.c.Incompatible != nil {
				w.c.Incompatible(r.e, policy)
			}
			if r.c.Incompatible != nil {
				r.c.Incompatible(w.e, policy)
			}
		})
		return
	}
	w.matched = append(w.matched, r)
	n.later(func() { notify(w, r, true) })
	if r.e.QoS.Durability >= rtps.TransientLocal {
		for _, s := range w.history {
			n.deliver(w, r, s)
		}
	}
}

func notify(w *fakeWriter, r *fakeReader, matched bool) {
	if r.c.Matched != nil {
		r.c.Matched(w.e, matched)
	}
	if w.c.Matched != nil {
		w.c.Matched(r.e, matched)
	}
}

func (n *fakeNet) deliver(w *fakeWriter, r *fakeReader, s fakeSample) {
	if s.o.To != nil && !slices.Contains(s.o.To, r.e.GUID) {
		return
	}
	payload := s.payload
	if w.c.PayloadFor != nil {
		if payload = w.c.PayloadFor(payload, &r.e); payload == nil {
			return
		}
	}
	out := rtps.Sample{Payload: slices.Clone(payload), Writer: w.e.GUID, Sequence: s.seq, SourceTime: s.o.SourceTime, ReceiveTime: time.Now(),
		Own: w.p == r.p, Loopback: w.p == r.p}
	if s.o.Related != nil {
		related := *s.o.Related
		out.Related = &related
	}
	if !out.Own {
		out.From, out.Local = netip.MustParseAddrPort("10.0.0.1:7411"), netip.MustParseAddrPort("10.0.0.2:7411")
	}
	n.later(func() {
		if r.c.Deliver != nil {
			r.c.Deliver(out)
		}
	})
}

func (w *fakeWriter) GUID() wire.GUID { return w.e.GUID }

func (w *fakeWriter) Write(payload []byte, o rtps.WriteOptions) (seq wire.SequenceNumber, err error) {
	w.p.net.do(func() {
		w.seq++
		seq = w.seq
		if o.SourceTime.IsZero() {
			o.SourceTime = time.Now()
		}
		s := fakeSample{slices.Clone(payload), o, w.seq}
		w.history = append(w.history, s)
		if n := len(w.history) - max(w.e.QoS.Depth, 1); n > 0 && w.e.QoS.History == rtps.KeepLast {
			w.history = w.history[n:]
		}
		for _, r := range w.matched {
			w.p.net.deliver(w, r, s)
		}
	})
	return seq, nil
}

func (w *fakeWriter) Matched() (out []rtps.Endpoint) {
	w.p.net.mu.Lock()
	defer w.p.net.mu.Unlock()
	for _, r := range w.matched {
		out = append(out, r.e)
	}
	return out
}

func (w *fakeWriter) WaitAcked(context.Context) error { return nil }

func (w *fakeWriter) Close() error {
	w.p.net.do(func() { w.p.net.removeWriter(w) })
	return nil
}

func (n *fakeNet) removeWriter(w *fakeWriter) {
	n.writers = slices.DeleteFunc(n.writers, func(o *fakeWriter) bool { return o == w })
	for _, r := range w.matched {
		n.later(func() { notify(w, r, false) })
	}
	w.matched = nil
	n.tell(rtps.GraphEvent{Kind: rtps.EndpointLost, Endpoint: &w.e, Participant: w.p.info})
}

func (r *fakeReader) GUID() wire.GUID { return r.e.GUID }

func (r *fakeReader) Heard(g wire.GUID) bool {
	r.p.net.mu.Lock()
	defer r.p.net.mu.Unlock()
	return r.p.net.deaf == nil || !r.p.net.deaf(g)
}

func (r *fakeReader) Matched() (out []rtps.Endpoint) {
	r.p.net.mu.Lock()
	defer r.p.net.mu.Unlock()
	for _, w := range r.p.net.writers {
		if slices.Contains(w.matched, r) {
			out = append(out, w.e)
		}
	}
	return out
}

func (r *fakeReader) Close() error {
	r.p.net.do(func() { r.p.net.removeReader(r) })
	return nil
}

func (n *fakeNet) removeReader(r *fakeReader) {
	n.readers = slices.DeleteFunc(n.readers, func(o *fakeReader) bool { return o == r })
	for _, w := range n.writers {
		if slices.Contains(w.matched, r) {
			w.matched = slices.DeleteFunc(w.matched, func(o *fakeReader) bool { return o == r })
			n.later(func() { notify(w, r, false) })
		}
	}
	n.tell(rtps.GraphEvent{Kind: rtps.EndpointLost, Endpoint: &r.e, Participant: r.p.info})
}

// node makes a node on the net.
func (n *fakeNet) node(t *testing.T, name string, args ...string) *Node {
	t.Helper()
	out, err := NewNode(name, WithArgs(args), WithEnvironment(func(string) string { return "" }), WithLogHandler(testHandler{t}),
		func(o *options) { o.dom = n.join(wire.VendorUnknown, "enclave=/;") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	return out
}
