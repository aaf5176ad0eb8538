package machine

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// builtin are the endpoints of the protocol.
type builtin struct {
	publications, subscriptions, messages *Writer

	pubReader, subReader, messageReader *Reader
	announced                           map[wire.EntityID]wire.SequenceNumber
}

var builtinQoS = QoS{Reliability: Reliable, Durability: TransientLocal, History: KeepAll}

func (m *Machine) makeBuiltin() {
	w := func(id wire.EntityID) *Writer { return m.makeWriter(id, WriterConfig{QoS: builtinQoS}) }
	r := func(id wire.EntityID, intake func(time.Time, *writerProxy, Sample, wire.GUID)) *Reader {
		r := m.makeReader(id, ReaderConfig{QoS: builtinQoS})
		r.intake = intake
		return r
	}
	m.builtin = builtin{
		publications: w(wire.EntitySEDPPublicationsWriter), subscriptions: w(wire.EntitySEDPSubscriptionsWriter),
		messages:      w(wire.EntityParticipantMessageWriter),
		pubReader:     r(wire.EntitySEDPPublicationsReader, m.onSEDP),
		subReader:     r(wire.EntitySEDPSubscriptionsReader, m.onSEDP),
		messageReader: r(wire.EntityParticipantMessageReader, func(time.Time, *writerProxy, Sample, wire.GUID) {}),
		announced:     make(map[wire.EntityID]wire.SequenceNumber),
	}
}

// matchProtocol joins the endpoints of the protocol with those of another participant.
func (m *Machine) matchProtocol(now time.Time, r *remote) {
	for _, b := range []struct {
		w    *Writer
		bit  wire.BuiltinEndpoints
		peer wire.EntityID
	}{
		{m.builtin.publications, wire.HasPublicationsReader, wire.EntitySEDPPublicationsReader},
		{m.builtin.subscriptions, wire.HasSubscriptionsReader, wire.EntitySEDPSubscriptionsReader},
		{m.builtin.messages, wire.HasParticipantMessageReader, wire.EntityParticipantMessageReader},
	} {
		if r.builtin&b.bit != 0 {
			b.w.match(now, r, r.protocolEndpoint(b.peer, false))
		}
	}
	for _, b := range []struct {
		r    *Reader
		bit  wire.BuiltinEndpoints
		peer wire.EntityID
	}{
		{m.builtin.pubReader, wire.HasPublicationsWriter, wire.EntitySEDPPublicationsWriter},
		{m.builtin.subReader, wire.HasSubscriptionsWriter, wire.EntitySEDPSubscriptionsWriter},
		{m.builtin.messageReader, wire.HasParticipantMessageWriter, wire.EntityParticipantMessageWriter},
	} {
		if r.builtin&b.bit != 0 {
			b.r.match(now, r, r.protocolEndpoint(b.peer, true))
		}
	}
}

func (r *remote) protocolEndpoint(id wire.EntityID, writer bool) *remoteEndpoint {
	e := &remoteEndpoint{remote: r, endpoint: &Endpoint{
		GUID: wire.GUID{Prefix: r.info.Prefix, Entity: id}, Participant: r.info, Writer: writer, QoS: builtinQoS,
	}}
	r.protocol = append(r.protocol, e)
	return e
}

func (m *Machine) unmatchProtocol(r *remote) {
	for _, e := range r.protocol {
		m.unmatch(e)
	}
	r.protocol = nil
}

// unmatch parts an endpoint from all of ours.
func (m *Machine) unmatch(e *remoteEndpoint) {
	guid := e.endpoint.GUID
	if e.endpoint.Writer {
		list := m.writerProxies[guid]
		for len(list) > 0 {
			list[0].r.unmatch(list[0], false)
			list = m.writerProxies[guid]
		}
		return
	}
	for _, w := range m.ordered() {
		if p := w.byGUID[guid]; p != nil {
			w.unmatch(p, false)
		}
	}
}

// assert writes a ParticipantMessageData in place of the one before.
func (w *Writer) assert(now time.Time) {
	if len(w.proxies) == 0 {
		return
	}
	d := wire.ParticipantMessage{Prefix: w.m.config.Prefix, Kind: wire.AutomaticLiveliness}
	for w.history.count > 0 {
		w.history.remove(w.history.first)
	}
	c := w.history.push(d.Append(nil))
	c.at, c.all = now, true
	w.publish(now)
}

// proclaim tells others of an own endpoint.
func (m *Machine) proclaim(now time.Time, e *Endpoint, q *wire.QoS) {
	d := wire.EndpointData{
		GUID: e.GUID, Participant: wire.GUID{Prefix: m.config.Prefix, Entity: wire.EntityParticipant},
		Topic: e.Topic, Type: e.Type, QoS: *q, UserData: e.UserData,
	}
	w := m.sedp(e)
	c := w.history.push(d.Append(nil))
	c.at, c.all, c.key, c.keyed = now, true, e.GUID, true
	m.builtin.announced[e.GUID.Entity] = c.seq
	w.publish(now)
}

func (m *Machine) sedp(e *Endpoint) *Writer {
	if e.Writer {
		return m.builtin.publications
	}
	return m.builtin.subscriptions
}

// withdraw tells others that an own endpoint is gone.
func (m *Machine) withdraw(now time.Time, e *Endpoint) {
	w := m.sedp(e)
	w.history.remove(m.builtin.announced[e.GUID.Entity])
	delete(m.builtin.announced, e.GUID.Entity)
	m.event(GraphEvent{Kind: EndpointLost, Participant: m.own, Endpoint: e})
	if len(w.proxies) == 0 {
		w.history.skip()
		return
	}
	c := w.history.push(wire.AppendKey(nil, wire.PIDEndpointGUID, e.GUID))
	c.at, c.all, c.status, c.key, c.keyed = now, true, Disposed|Unregistered, e.GUID, true
	w.farewells = append(w.farewells, c.seq)
	w.publish(now)
}

// onSEDP takes what another participant says of one of its endpoints.
func (m *Machine) onSEDP(now time.Time, p *writerProxy, s Sample, key wire.GUID) {
	r := p.remote
	writer := p.r == m.builtin.pubReader
	if s.Status != Alive {
		id := wire.PIDEndpointGUID
		if g, err := wire.ParseKey(s.Payload, id); err == nil {
			key = g
		}
		if key.Prefix != r.info.Prefix {
			m.counters.Forged++
			return
		}
		if e := r.endpoints[key.Entity]; e != nil && e.endpoint.Writer == writer {
			m.removeEndpoint(e, false)
		}
		return
	}
	d, err := wire.ParseEndpoint(s.Payload, writer)
	if err != nil {
		m.counters.Malformed++
		m.complain("sedp", "the description of an endpoint is not valid", "participant", r.info.Prefix, "error", err)
		return
	}
	if d.GUID.Prefix != r.info.Prefix {
		m.counters.Forged++
		m.complain("sedp prefix", "a participant describes an endpoint of another: ignored", "participant", r.info.Prefix, "endpoint", d.GUID)
		return
	}
	if d.GUID.Entity.Builtin() {
		return
	}
	e := &remoteEndpoint{
		remote: r, qos: d.QoS, unicast: m.unicast(d.Unicast, s.Interface),
		endpoint: &Endpoint{
			GUID: d.GUID, Participant: r.info, Writer: writer, Topic: d.Topic, Type: d.Type, QoS: announced(&d.QoS),
			UserData: d.UserData,
		},
	}
	if e.unicast != nil {
		e.best, e.wide = r.choose(now, e.unicast)
		if len(e.wide) == 0 {
			e.unicast = nil // nothing of use: try the participant's
		}
	}
	kind := EndpointFound
	if old := r.endpoints[d.GUID.Entity]; old != nil {
		if sameEndpoint(old, e) {
			return
		}
		kind = EndpointChanged
		m.dropEndpoint(old)
	}
	l := &m.config.Limits
	e.cost = len(s.Payload) + endpointOverhead
	if len(r.endpoints) >= l.PerParticipant || m.endpoints >= l.Endpoints || m.endpointBytes+e.cost > l.EndpointBytes {
		m.counters.RefusedEndpoints++
		m.complain("endpoints", "too many endpoints: the new ones are refused", "participant", r.info.Prefix)
		return
	}
	r.endpoints[d.GUID.Entity] = e
	r.learn(e.unicast)
	m.endpoints++
	m.endpointBytes += e.cost
	m.event(GraphEvent{Kind: kind, Participant: r.info, Endpoint: e.endpoint})
	m.matchRemote(now, e)
}

// endpointOverhead is what an endpoint costs besides its description, in bytes.
const endpointOverhead = 512

func (m *Machine) dropEndpoint(e *remoteEndpoint) {
	m.unmatch(e)
	delete(e.remote.endpoints, e.endpoint.GUID.Entity)
	m.endpoints--
	m.endpointBytes -= e.cost
	for _, w := range m.writers {
		delete(w.refused, e.endpoint.GUID)
	}
	for _, r := range m.readers {
		delete(r.refused, e.endpoint.GUID)
	}
}

func (m *Machine) removeEndpoint(e *remoteEndpoint, expired bool) {
	m.dropEndpoint(e)
	m.event(GraphEvent{Kind: EndpointLost, Participant: e.remote.info, Endpoint: e.endpoint, Expired: expired})
}
