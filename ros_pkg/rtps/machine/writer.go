package machine

import (
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

const (
	// heartbeatDelay is how long after a sample a reader is asked for what it has; then longer and longer, until it answers.
	heartbeatDelay = 10 * time.Millisecond
	heartbeatMost  = time.Second
	// heartbeatEvery is after how many samples a reader is told what there is, so that it can ask for what it lacks, if the history is not shorter;
	// and askEvery after how many it is to answer in any case.
	heartbeatEvery = 8
	askEvery       = 32
	// patientFor is after how many heartbeats without an answer a participant is asked rarely that never answered at all, which may not exist.
	patientFor    = 8
	heartbeatRare = 10 * time.Second
	// wideAfter is how many heartbeats go unanswered before all of a reader's locators are tried.
	wideAfter = 4
	// stalledAfter is how long a reader may keep a full KeepAll writer waiting without a word.
	stalledAfter = 10 * time.Second

	defaultSamples = 1024
	defaultBytes   = 64 << 20
	// defaultQueue is the same for what only waits to be acknowledged: a longer queue makes nothing faster, but memory cold and samples old.
	defaultQueue = 8 << 20
)

// Writer is one of the participant's writers.
type Writer struct {
	// Progress is called when a reader has acknowledged something or is gone, and when the writer is closed.
	Progress func()

	m        *Machine
	guid     wire.GUID
	config   WriterConfig
	qos      wire.QoS
	endpoint *Endpoint
	builtin  bool
	reliable bool
	keeps    bool // samples for readers that come later
	closed   bool

	history   history
	proxies   []*readerProxy
	byGUID    map[wire.GUID]*readerProxy
	locals    []*Reader
	done      wire.SequenceNumber   // every remote reader has, or was sent, what is up to this
	count     uint32                // of heartbeats
	farewells []wire.SequenceNumber // of a builtin writer: to be kept only until everybody has them
	refused   map[wire.GUID]bool    // readers of the topic that do not fit
}

func (m *Machine) makeWriter(id wire.EntityID, config WriterConfig) *Writer {
	w := &Writer{
		m: m, guid: wire.GUID{Prefix: m.config.Prefix, Entity: id}, config: config, qos: config.QoS.wire(true),
		builtin: id.Builtin(), reliable: config.QoS.Reliability == Reliable,
		keeps: config.QoS.Durability >= TransientLocal, history: newHistory(),
		byGUID: make(map[wire.GUID]*readerProxy), refused: make(map[wire.GUID]bool),
	}
	if w.config.MaxSamples <= 0 {
		w.config.MaxSamples = defaultSamples
	}
	if w.config.MaxBytes <= 0 {
		w.config.MaxBytes = defaultBytes
		if config.QoS.History == KeepAll && !w.keeps {
			w.config.MaxBytes = defaultQueue
		}
	}
	w.endpoint = &Endpoint{
		GUID: w.guid, Participant: m.own, Writer: true, Topic: config.Topic, Type: config.Type, QoS: config.QoS,
		UserData: clone(config.UserData),
	}
	m.writers[id] = w
	return w
}

// GUID is the writer's.
func (w *Writer) GUID() wire.GUID { return w.guid }

// Last is the number of the sample written last, 0 if there is none.
func (w *Writer) Last() wire.SequenceNumber { return w.history.last }

// Matched returns the readers.
func (w *Writer) Matched() []Endpoint {
	list := make([]Endpoint, 0, len(w.proxies)+len(w.locals))
	for _, r := range w.locals {
		list = append(list, *r.endpoint)
	}
	for _, p := range w.proxies {
		list = append(list, *p.endpoint)
	}
	return list
}

// Acked reports whether every reliable reader has what was written up to seq.
func (w *Writer) Acked(seq wire.SequenceNumber) bool {
	for _, p := range w.proxies {
		if p.reliable && p.acked <= seq && p.owed(seq) {
			return false
		}
	}
	return true
}

func (w *Writer) progress() {
	if w.Progress != nil {
		w.Progress()
	}
}

// Write takes a sample and sends it to whom it can be sent to at once.
func (w *Writer) Write(now time.Time, payload []byte, o *WriteOptions) (wire.SequenceNumber, error) {
	if w.closed {
		return 0, ErrClosed
	}
	if len(payload) > w.m.config.MaxSample {
		return 0, ErrTooLarge
	}
	if err := w.room(now, len(payload)); err != nil {
		return 0, err
	}
	c := w.history.push(payload)
	c.at = o.SourceTime
	if c.at.IsZero() {
		c.at = now
	}
	if w.config.QoS.Lifespan > 0 {
		c.expires = now.Add(w.config.QoS.Lifespan)
	}
	if o.Related != nil {
		c.related, c.relates = *o.Related, true
	}
	c.all = o.To == nil
	if !c.all {
		c.to = slices.Clone(o.To)
	}
	seq := c.seq
	w.publish(now)
	return seq, nil
}

// Dispose tells the readers that the instance is gone.
func (w *Writer) Dispose(now time.Time) (wire.SequenceNumber, error) {
	if w.closed {
		return 0, ErrClosed
	}
	if err := w.room(now, 0); err != nil {
		return 0, err
	}
	c := w.history.push(nil)
	c.at, c.all, c.status = now, true, Disposed|Unregistered
	seq := c.seq
	w.publish(now)
	return seq, nil
}

// publish brings the newest sample to the readers.
func (w *Writer) publish(now time.Time) {
	c := w.history.get(w.history.last)
	for _, r := range w.locals {
		if payload, ok := w.payload(c, r.endpoint); ok {
			r.local(now, w, c, payload)
		}
	}
	for _, p := range w.proxies {
		p.push(now)
	}
	w.forget()
}

// payload is what a reader gets of a sample.
func (w *Writer) payload(c *change, e *Endpoint) ([]byte, bool) {
	if !c.all && !slices.Contains(c.to, e.GUID) {
		return nil, false
	}
	if w.config.PayloadFor == nil || c.status != Alive {
		return c.payload, true
	}
	b := w.config.PayloadFor(c.payload, e)
	return b, b != nil
}

// room makes room for one more sample.
func (w *Writer) room(now time.Time, size int) error {
	h := &w.history
	if w.builtin {
		return nil // as many as there are endpoints
	}
	if w.config.QoS.History == KeepLast {
		for h.count >= w.config.QoS.depth() || h.count > 0 && h.bytes+size > w.config.MaxBytes {
			h.remove(h.first)
		}
		return nil
	}
	for h.count >= w.config.MaxSamples || h.count > 0 && h.bytes+size > w.config.MaxBytes {
		if w.reliable && h.first > w.done && !w.giveUp(now, h.first) {
			return ErrFull
		}
		h.remove(h.first)
	}
	return nil
}

// giveUp no longer waits for readers that have been silent for too long while they owe seq, and reports whether nobody
// is waited for any more.
func (w *Writer) giveUp(now time.Time, seq wire.SequenceNumber) bool {
	free := true
	for _, p := range w.proxies {
		if p.finished() >= seq {
			continue
		}
		if p.reliable && !p.stalled && !p.owing.IsZero() && now.Sub(p.owing) > stalledAfter {
			p.stalled = true
			w.m.counters.Stalled++
			w.m.complain("stalled", "a reader does not acknowledge: its writer no longer waits for it", "topic", w.config.Topic, "reader", p.guid())
		}
		free = free && p.stalled
	}
	w.reckon()
	return free
}

// reckon finds anew what all remote readers are done with.
func (w *Writer) reckon() {
	done := w.history.last
	for _, p := range w.proxies {
		if !p.stalled {
			done = min(done, p.finished())
		}
	}
	w.done = done
}

// forget drops what nobody needs any more.
func (w *Writer) forget() {
	w.reckon()
	h := &w.history
	for len(w.farewells) > 0 && w.farewells[0] <= w.done {
		h.remove(w.farewells[0])
		w.farewells = w.farewells[1:]
	}
	if w.keeps {
		return
	}
	for h.count > 0 && h.first <= w.done {
		h.remove(h.first)
	}
}

// Close takes the writer off the domain: the readers are told.
func (w *Writer) Close(now time.Time) {
	if w.closed || w.m.closed {
		return
	}
	w.closed = true
	for len(w.proxies) > 0 {
		w.unmatch(w.proxies[0], false)
	}
	for len(w.locals) > 0 {
		w.unmatchLocal(w.locals[0])
	}
	delete(w.m.writers, w.guid.Entity)
	w.m.withdraw(now, w.endpoint)
	w.progress()
}

// match begins to write to a remote reader.
func (w *Writer) match(now time.Time, r *remote, e *remoteEndpoint) {
	p := &readerProxy{
		w: w, remote: r, endpoint: e.endpoint, own: e,
		reliable: w.reliable && e.endpoint.QoS.Reliability == Reliable,
	}
	p.heartbeat.fire = p.beat
	p.sending.fire = p.resume
	p.from = w.history.last + 1
	if w.keeps && e.endpoint.QoS.Durability >= TransientLocal {
		p.from = w.history.first
	}
	p.next, p.acked = p.from, p.from
	p.unmet = p.reliable && !w.builtin && e.endpoint.QoS.Durability < TransientLocal
	p.matchedAt = now
	w.proxies = append(w.proxies, p)
	w.byGUID[e.endpoint.GUID] = p
	w.m.matched(w.config.Matched, e.endpoint, true)
	// What it may have, at once: it need not wait for the next tick to learn that there is nothing, or what.
	p.push(now)
	if p.reliable {
		p.tell(now, false)
	}
	w.reckon()
}

func (w *Writer) unmatch(p *readerProxy, quiet bool) {
	w.m.stop(&p.heartbeat)
	w.m.stop(&p.sending)
	w.proxies = slices.DeleteFunc(w.proxies, func(q *readerProxy) bool { return q == p })
	delete(w.byGUID, p.guid())
	w.forget()
	if !quiet {
		w.m.matched(w.config.Matched, p.endpoint, false)
	}
	w.progress()
}

// matchLocal begins to write to a reader of the same participant.
func (w *Writer) matchLocal(now time.Time, r *Reader) {
	w.locals = append(w.locals, r)
	r.locals = append(r.locals, w)
	w.m.matched(w.config.Matched, r.endpoint, true)
	w.m.matched(r.config.Matched, w.endpoint, true)
	if !w.keeps || r.config.QoS.Durability < TransientLocal {
		return
	}
	for seq := w.history.first; seq <= w.history.last; seq++ {
		if c := w.history.get(seq); c != nil && !expired(c, now) {
			if payload, ok := w.payload(c, r.endpoint); ok {
				r.local(now, w, c, payload)
			}
		}
	}
}

func (w *Writer) unmatchLocal(r *Reader) {
	w.locals = slices.DeleteFunc(w.locals, func(x *Reader) bool { return x == r })
	r.locals = slices.DeleteFunc(r.locals, func(x *Writer) bool { return x == w })
	w.m.matched(w.config.Matched, r.endpoint, false)
	w.m.matched(r.config.Matched, w.endpoint, false)
}

func expired(c *change, now time.Time) bool { return !c.expires.IsZero() && !now.Before(c.expires) }
