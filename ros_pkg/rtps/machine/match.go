package machine

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// ordered are the writers in the order of their ids, so that the same input gives the same output.
func (m *Machine) ordered() []*Writer {
	all := make([]*Writer, 0, len(m.writers))
	for _, id := range slices.Sorted(maps.Keys(m.writers)) {
		all = append(all, m.writers[id])
	}
	return all
}

func (m *Machine) orderedReaders() []*Reader {
	all := make([]*Reader, 0, len(m.readers))
	for _, id := range slices.Sorted(maps.Keys(m.readers)) {
		all = append(all, m.readers[id])
	}
	return all
}

func sameEndpoint(a, b *remoteEndpoint) bool {
	x, y := *a.endpoint, *b.endpoint
	x.Participant, y.Participant = nil, nil
	return reflect.DeepEqual(&x, &y) && reflect.DeepEqual(&a.qos, &b.qos) && slices.Equal(a.unicast, b.unicast)
}

// NewWriter makes a writer and tells the domain of it.
func (m *Machine) NewWriter(now time.Time, config WriterConfig) (*Writer, error) {
	if m.closed {
		return nil, ErrClosed
	}
	w := m.makeWriter(m.entity(wire.KindWriterNoKey), config)
	m.event(GraphEvent{Kind: EndpointFound, Participant: m.own, Endpoint: w.endpoint})
	m.proclaim(now, w.endpoint, &w.qos)
	for _, r := range m.orderedReaders() {
		m.matchOwn(now, w, r)
	}
	m.eachRemote(config.Topic, false, func(e *remoteEndpoint) { m.matchWriter(now, w, e) })
	if config.QoS.LivelinessLease > 0 && m.announce.started {
		m.sooner(&m.announce.message, now.Add(m.assertEvery()))
	}
	return w, nil
}

// NewReader makes a reader and tells the domain of it.
func (m *Machine) NewReader(now time.Time, config ReaderConfig) (*Reader, error) {
	if m.closed {
		return nil, ErrClosed
	}
	r := m.makeReader(m.entity(wire.KindReaderNoKey), config)
	m.event(GraphEvent{Kind: EndpointFound, Participant: m.own, Endpoint: r.endpoint})
	m.proclaim(now, r.endpoint, &r.qos)
	for _, w := range m.ordered() {
		m.matchOwn(now, w, r)
	}
	m.eachRemote(config.Topic, true, func(e *remoteEndpoint) { m.matchReader(now, r, e) })
	return r, nil
}

// eachRemote calls f for the others' writers, or readers, of a topic.
func (m *Machine) eachRemote(topic string, writers bool, f func(*remoteEndpoint)) {
	var all []*remoteEndpoint
	for _, p := range m.participants {
		for _, e := range p.endpoints {
			if e.endpoint.Topic == topic && e.endpoint.Writer == writers {
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b *remoteEndpoint) int { return compareGUID(a.endpoint.GUID, b.endpoint.GUID) })
	for _, e := range all {
		f(e)
	}
}

// matchRemote matches another's endpoint with ours.
func (m *Machine) matchRemote(now time.Time, e *remoteEndpoint) {
	if e.endpoint.Writer {
		for _, r := range m.orderedReaders() {
			if !r.builtin && r.config.Topic == e.endpoint.Topic {
				m.matchReader(now, r, e)
			}
		}
		return
	}
	for _, w := range m.ordered() {
		if !w.builtin && w.config.Topic == e.endpoint.Topic {
			m.matchWriter(now, w, e)
		}
	}
}

func (m *Machine) matchWriter(now time.Time, w *Writer, e *remoteEndpoint) {
	policy, ok := incompatible(&w.qos, &e.qos, w.config.Type == e.endpoint.Type)
	if ok {
		w.match(now, e.remote, e)
	} else if policy != "" && !w.refused[e.endpoint.GUID] {
		w.refused[e.endpoint.GUID] = true
		m.incompatible(w.config.Incompatible, e.endpoint, policy)
	}
}

func (m *Machine) matchReader(now time.Time, r *Reader, e *remoteEndpoint) {
	policy, ok := incompatible(&e.qos, &r.qos, r.config.Type == e.endpoint.Type)
	if ok {
		r.match(now, e.remote, e)
	} else if policy != "" && !r.refused[e.endpoint.GUID] {
		r.refused[e.endpoint.GUID] = true
		m.incompatible(r.config.Incompatible, e.endpoint, policy)
	}
}

func (m *Machine) matchOwn(now time.Time, w *Writer, r *Reader) {
	if w.builtin || r.builtin || w.config.Topic != r.config.Topic {
		return
	}
	policy, ok := incompatible(&w.qos, &r.qos, w.config.Type == r.config.Type)
	if ok {
		w.matchLocal(now, r)
	} else if policy != "" {
		m.incompatible(w.config.Incompatible, r.endpoint, policy)
		m.incompatible(r.config.Incompatible, w.endpoint, policy)
	}
}
