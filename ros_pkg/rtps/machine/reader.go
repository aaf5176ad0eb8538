package machine

import (
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Reader is one of the participant's readers.
type Reader struct {
	m        *Machine
	guid     wire.GUID
	config   ReaderConfig
	qos      wire.QoS
	endpoint *Endpoint
	builtin  bool
	reliable bool
	closed   bool
	intake   func(now time.Time, p *writerProxy, s Sample, key wire.GUID) // of builtin readers, in place of Deliver

	proxies map[wire.GUID]*writerProxy
	locals  []*Writer
	refused map[wire.GUID]bool // writers of the topic that do not fit
}

func (m *Machine) makeReader(id wire.EntityID, config ReaderConfig) *Reader {
	r := &Reader{
		m: m, guid: wire.GUID{Prefix: m.config.Prefix, Entity: id}, config: config, qos: config.QoS.wire(false),
		builtin: id.Builtin(), reliable: config.QoS.Reliability == Reliable,
		proxies: make(map[wire.GUID]*writerProxy), refused: make(map[wire.GUID]bool),
	}
	r.endpoint = &Endpoint{
		GUID: r.guid, Participant: m.own, Topic: config.Topic, Type: config.Type, QoS: config.QoS,
		UserData: clone(config.UserData),
	}
	m.readers[id] = r
	return r
}

// GUID is the reader's.
func (r *Reader) GUID() wire.GUID { return r.guid }

// Matched returns the writers.
func (r *Reader) Matched() []Endpoint {
	list := make([]Endpoint, 0, len(r.proxies)+len(r.locals))
	for _, w := range r.locals {
		list = append(list, *w.endpoint)
	}
	for _, p := range r.proxies {
		list = append(list, *p.endpoint)
	}
	slices.SortFunc(list, func(a, b Endpoint) int { return compareGUID(a.GUID, b.GUID) })
	return list
}

// Close takes the reader off the domain.
func (r *Reader) Close(now time.Time) {
	if r.closed || r.m.closed {
		return
	}
	r.closed = true
	for _, p := range r.proxies {
		r.unmatch(p, false)
	}
	for len(r.locals) > 0 {
		r.locals[0].unmatchLocal(r)
	}
	delete(r.m.readers, r.guid.Entity)
	r.m.withdraw(now, r.endpoint)
}

// local takes a sample of an own writer.
func (r *Reader) local(now time.Time, w *Writer, c *change, payload []byte) {
	s := Sample{
		Payload: r.m.recycled.clone(payload), Writer: w.guid, Sequence: c.seq, SourceTime: c.at, ReceiveTime: now, Status: c.status,
		Loopback: true, Own: true,
	}
	if c.relates {
		related := c.related
		s.Related = &related
	}
	r.m.deliver(r, s)
}

// match begins to read from a remote writer.
func (r *Reader) match(now time.Time, p *remote, e *remoteEndpoint) {
	w := &writerProxy{
		r: r, remote: p, endpoint: e.endpoint, own: e,
		reliable: r.reliable && e.endpoint.QoS.Reliability == Reliable,
	}
	r.proxies[e.endpoint.GUID] = w
	r.m.writerProxies[e.endpoint.GUID] = append(r.m.writerProxies[e.endpoint.GUID], w)
	r.m.matched(r.config.Matched, e.endpoint, true)
	if w.reliable {
		w.answer.fire = w.respond
		w.begin.fire = w.knock
		w.next = 1
		w.knock(now)
	}
}

func (r *Reader) unmatch(p *writerProxy, quiet bool) {
	m := r.m
	m.stop(&p.answer)
	m.stop(&p.begin)
	p.drop()
	guid := p.endpoint.GUID
	delete(r.proxies, guid)
	rest := slices.DeleteFunc(m.writerProxies[guid], func(q *writerProxy) bool { return q == p })
	if len(rest) == 0 {
		delete(m.writerProxies, guid)
	} else {
		m.writerProxies[guid] = rest
	}
	if !quiet {
		m.matched(r.config.Matched, p.endpoint, false)
	}
}

// Heard reports whether a matched writer has answered the reader, and so knows it: what is asked of it before may be answered to nobody. Best-effort
// writers and those of this participant always have.
func (r *Reader) Heard(g wire.GUID) bool {
	p := r.proxies[g]
	return p == nil || !p.reliable || p.known
}
