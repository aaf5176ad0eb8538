package engine

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/lane"
	"github.com/hnet-robotics/hnet_bridge/overlay/pace"
	"github.com/hnet-robotics/hnet_bridge/overlay/path"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// Sizes of the inbound way: each message takes a train of up to 64 KiB as the kernel joined it.
const (
	socketMessages = 8
	runDatagrams   = 128
	maxJoining     = 4 << 20
)

// socketLoop carries what the underlay brings on one socket, run to completion: read, open in place, write to hnet0.
func (e *Engine) socketLoop(s underlay.Socket) error {
	in := newInbound(e, direct{socket: s})
	in.socket, in.main = s, e.isMain(s)
	messages := make([]underlay.Message, socketMessages)
	for i := range messages {
		messages[i].Buf = make([]byte, underlay.MaxRead)
	}
	for {
		n, err := s.ReadBatch(messages)
		if err != nil {
			if closed(err) {
				return nil
			}
			return fmt.Errorf("the UDP socket on port %d can no longer be read: %w", s.LocalPort(), err)
		}
		now := time.Now()
		bytes := 0
		for i := range messages[:n] {
			bytes += messages[i].N
		}
		in.signal = in.standing.judge(now, bytes, n == len(messages), messages[0].Age >= standingAge)
		for i := range messages[:n] {
			in.message(now, &messages[i])
		}
		in.flush()
		in.out.flush()
	}
}

// inbound opens what arrives on one socket.
type inbound struct {
	e       *Engine
	socket  underlay.Socket // nil if the datagrams come by none of ours
	home    Carrier         // of what comes by itself
	main    bool            // socket is one of the two that know the uplinks apart
	carrier Carrier         // of the run: home, or the relay that brought it
	itself  bool            // carrier is that of what the message at hand brought by itself
	out     *outbound
	up      *tun.Coalescer
	opener  wireguard.Opener
	inspect Inspector // nil if nobody looks

	at        arrivedAt // what atCarrier was found for
	atCarrier Carrier

	// The run: datagrams of one session in one train, opened but not yet judged.
	entry  indexEntry
	index  uint32
	judged judged
	opened [runDatagrams]openedMessage
	count  int

	standing standing // the queue in the socket
	signal   bool     // it is too long, and nobody was told yet
	bulk     bool     // what is at hand came in a long train

	reportBuf [paceLen]byte
}

func newInbound(e *Engine, home Carrier) *inbound {
	return &inbound{e: e, home: home, carrier: home, out: newOutbound(e), up: tun.NewCoalescer(e.cfg.Device), inspect: e.inspector()}
}

type openedMessage struct {
	counter   uint64
	plaintext []byte
}

// message takes a train apart.
func (in *inbound) message(now time.Time, m *underlay.Message) {
	if !usable(m.Remote) || (m.Local.Interface != 0 && m.Local.Interface == in.e.cfg.Excluded) {
		return
	}
	size := m.Segment
	if size <= 0 {
		size = m.N
	}
	in.bulk, in.itself = m.N >= bulkLeast, false
	if own := in.e.cfg.Own; own != nil && in.socket != nil && kindOf(m.Buf[:min(size, m.N)]) >= kindSTUN && own.Train(now, m, in.socket) {
		return
	}
	for b := m.Buf[:m.N]; len(b) > 0; {
		n := min(size, len(b))
		in.datagram(now, b[:n:n], m)
		b = b[n:]
	}
	in.endRun(now, m)
	in.carrier = in.home
}

// datagram takes one that came by the socket itself.
func (in *inbound) datagram(now time.Time, b []byte, m *underlay.Message) {
	switch k := kindOf(b); k {
	case kindTransport, kindHandshake:
		if !in.itself {
			in.by(now, in.carrierOf(m), m)
			in.itself = true
		}
		in.wireguard(now, k, b, m)
	case kindOwn, kindSTUN:
		in.own(now, b, m)
	default:
		in.e.stats.Unknown.Add(1)
	}
}

// wireguard takes a message of WireGuard's that came by the present carrier.
func (in *inbound) wireguard(now time.Time, k kind, b []byte, m *underlay.Message) {
	switch k {
	case kindTransport:
		in.transport(now, b, m)
	case kindHandshake:
		in.endRun(now, m)
		in.handshake(now, b, m)
	default:
		in.e.stats.Unknown.Add(1)
	}
}

// own gives on what is not WireGuard's. What a relay brought is taken apart as if it had come by itself; a relay within a relay is none.
func (in *inbound) own(now time.Time, b []byte, m *underlay.Message) {
	own := in.e.cfg.Own
	if own == nil {
		in.e.stats.Unknown.Add(1)
		return
	}
	via, inner := own.Relayed(b, m.Remote)
	if via == nil {
		in.endRun(now, m)
		own.Control(now, b, m.Remote, m.Local)
		return
	}
	in.by(now, via, m)
	in.itself = false
	in.wireguard(now, kindOf(inner), inner, m)
}

// path is the one that m came by.
func (in *inbound) path(m *underlay.Message) Path {
	return Path{Carrier: in.carrier, Kind: in.e.kindOfPath(in.carrier, m.Remote.Addr()), Remote: m.Remote, Local: m.Local}
}

// by notes the carrier of what comes next; a run has one.
func (in *inbound) by(now time.Time, c Carrier, m *underlay.Message) {
	if in.carrier != c {
		in.endRun(now, m)
		in.carrier = c
	}
}

// transport opens a transport message and adds it to the run.
func (in *inbound) transport(now time.Time, b []byte, m *underlay.Message) {
	index := wireguard.ReceiverIndex(b)
	if in.entry.keypair == nil || index != in.index {
		in.endRun(now, m)
		in.entry, in.index = in.e.peers.index(index), index
		if in.entry.keypair == nil {
			in.e.stats.Unauthentic.Add(1)
			return
		}
	}
	if in.count == runDatagrams {
		entry := in.entry
		in.endRun(now, m)
		in.entry = entry
	}
	counter := wireguard.Counter(b)
	plaintext, ok := in.opener.Open(in.entry.keypair, b)
	if !ok {
		in.e.stats.Unauthentic.Add(1)
		return
	}
	in.opened[in.count] = openedMessage{counter, plaintext}
	in.count++
}

// endRun judges the run under one lock of its peer, then delivers it.
func (in *inbound) endRun(now time.Time, m *underlay.Message) {
	run, p, k := in.opened[:in.count], in.entry.peer, in.entry.keypair
	in.count, in.entry = 0, indexEntry{}
	if len(run) == 0 {
		return
	}
	e := in.e
	p.mu.Lock()
	accepted := run[:0]
	data := false
	bytes := 0
	var size runSize // what is told of the path: copies count, for they take room on it
	for _, o := range run {
		if p.machine == nil || !p.machine.Accept(now, k, o.counter) {
			if p.chooses() && p.routes.machine.Twofold(now) {
				e.stats.Copies.Add(1)
				size.add(o)
			} else {
				e.stats.Replayed.Add(1)
			}
			continue
		}
		size.add(o)
		accepted = append(accepted, o)
		if carriesPacket(o.plaintext) {
			data = true
			bytes += len(o.plaintext)
		}
	}
	if len(accepted) == 0 {
		report, due := p.came(e, now, m.Age, path.Key{Carrier: in.carrier, Remote: m.Remote}, k, size)
		p.mu.Unlock()
		if due {
			in.report(now, p, in.path(m), report)
		}
		return
	}
	todo := p.machine.Arrived(now, k, data)
	if data && p.chooses() {
		p.routes.machine.Traffic(now)
	}
	var moved bool
	if todo&wireguard.Flush != 0 {
		// The first message under new keys: the answer to a handshake went the way it came.
		moved = p.answered(e, now, in.path(m), p.routes.answered)
	} else {
		moved = p.arrived(e, now, in.carrier, m)
	}
	var report pace.Report
	due := false
	if data || p.path.pacing != nil {
		report, due = p.came(e, now, m.Age, path.Key{Carrier: in.carrier, Remote: m.Remote}, k, size)
	}
	if !p.up && p.machine.Session(now) != nil {
		todo |= wireguard.Flush // it was given up, and speaks again
	}
	a := e.react(p, now, todo)
	if moved {
		a.events = append(a.events, Event{Type: PathChanged, Peer: p.address, Path: p.path})
	}
	p.mu.Unlock()
	p.used.Store(now.UnixNano())
	p.rx.Add(uint64(bytes))
	in.judged.forget()
	for _, o := range accepted {
		in.deliver(now, p, o.plaintext, m)
	}
	if due {
		in.report(now, p, in.path(m), report)
	}
	if todo != 0 || moved || a.pending() {
		e.perform(now, p, a, in.out)
	}
}

// carriesPacket tells a packet of the network from keepalives and messages of our own.
func carriesPacket(plaintext []byte) bool {
	return len(plaintext) > 0 && (plaintext[0] >= 0x10 || plaintext[0] == innerFragment)
}

// deliver hands an authentic plaintext on to where it belongs.
func (in *inbound) deliver(now time.Time, p *peer, plaintext []byte, m *underlay.Message) {
	switch {
	case len(plaintext) == 0:
	case plaintext[0]>>4 == 6, plaintext[0]>>4 == 4:
		in.packet(now, p, plaintext, m.TOS)
	case plaintext[0] == innerFragment:
		packet, err := in.e.join(now, p, plaintext)
		if err != nil {
			in.e.stats.Malformed.Add(1)
		} else if packet != nil {
			in.packet(now, p, packet, m.TOS)
		}
	case plaintext[0]>>4 == 0:
		in.inner(now, p, plaintext, m)
	default:
		in.e.stats.Malformed.Add(1)
	}
}

// join adds a piece to its packet, which it returns when it is complete. Beyond maxJoining bytes in reassembly, all peers wait for some to expire.
func (e *Engine) join(now time.Time, p *peer, piece []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.removed || e.joining.Load() > maxJoining {
		return nil, nil
	}
	held := p.pieces.Bytes()
	packet, err := p.pieces.Add(now, piece)
	e.joining.Add(int64(p.pieces.Bytes() - held))
	e.timers.arm(p, p.next())
	return packet, err
}

// packet gives an IP packet to hnet0 if it comes from the peer's own addresses and goes to ours.
func (in *inbound) packet(now time.Time, p *peer, b []byte, tos byte) {
	e := in.e
	multicast := false
	length, protocol, ok := in.judged.like(b)
	if !ok {
		h, ok := e.parse(b)
		if !ok {
			e.stats.Malformed.Add(1)
			return
		}
		multicast = e.cfg.Multicast != nil && h.destination.IsMulticast()
		if !p.allows(h.source) || (h.destination != e.address && !multicast) {
			e.stats.Spoofed.Add(1)
			return
		}
		length, protocol = h.length, h.nextHeader
		if !multicast && b[0]>>4 == 6 {
			in.judged.remember(b)
		}
	}
	b = b[:length]
	if admit := e.cfg.Admit; admit != nil && !admit(p.address, b) {
		e.stats.Barred.Add(1)
		return
	}
	if in.inspect != nil {
		in.inspect.Inbound(now, p.address, b)
	}
	if multicast {
		in.multicast(now, p, b)
		return
	}
	if protocol == protocolICMPv6 && e.echoes.answer(now, b) {
		return
	}
	if in.signal && in.bulk && protocol == protocolTCP {
		if in.signal = false; e.signal(b) {
			return
		}
	}
	decapsulateECN(b, tos)
	if err := in.up.Add(b); err != nil && !closed(err) {
		e.stats.WriteErrors.Add(1)
	}
}

// decapsulateECN marks the inner packet if the underlay marked the outer one (RFC 6040 §4.2). The traffic class is under no checksum of IPv6.
func decapsulateECN(b []byte, outer byte) {
	const ce = 3
	if outer&3 == ce {
		lane.Mark(b)
	}
}

func (in *inbound) flush() {
	if err := in.up.Flush(); err != nil && !closed(err) {
		in.e.stats.WriteErrors.Add(1)
	}
}

// handshake judges an initiation, a response or a cookie reply.
func (in *inbound) handshake(now time.Time, b []byte, m *underlay.Message) {
	e := in.e
	kind := wireguard.TypeOf(b)
	if kind == wireguard.TypeCookieReply {
		if p := e.peers.index(wireguard.ReceiverIndex(b)).peer; p != nil {
			in.with(now, p, func() wireguard.Todo { p.machine.AcceptCookie(now, b); return 0 })
		}
		return
	}
	if kind == wireguard.TypeResponse && e.peers.index(wireguard.ReceiverIndex(b)).peer == nil {
		e.stats.Unauthentic.Add(1)
		return
	}
	e.gateMu.Lock()
	verdict, reply := e.gate.Judge(now, b, m.Remote)
	e.gateMu.Unlock()
	at := in.path(m)
	switch verdict {
	case wireguard.Drop:
		e.stats.Unauthentic.Add(1)
	case wireguard.Challenge:
		in.out.raw(at, reply)
	case wireguard.Admit:
		if kind == wireguard.TypeInitiation {
			in.initiation(now, b, at)
		} else {
			in.response(now, b, at)
		}
	}
}

func (in *inbound) initiation(now time.Time, b []byte, path Path) {
	e := in.e
	init, err := e.local.ReadInitiation(b)
	if err != nil {
		e.stats.Unauthentic.Add(1)
		return
	}
	contact, ok := e.cfg.Directory.ByKey(init.Remote)
	if own := init.Remote == e.cfg.Identity.PublicKey(); own || !ok {
		e.stats.Refused.Add(1)
		if e.refusals.allow(now) {
			e.cfg.Notify(Event{Type: Refused, Peer: init.Remote.Address(), Path: path})
		}
		return
	}
	p := e.peers.get(contact.Address)
	if p == nil {
		p = e.addPeer(contact)
	}
	p.mu.Lock()
	p.adopt(e, contact)
	p.mu.Unlock()
	in.with(now, p, func() wireguard.Todo {
		response, err := p.machine.Respond(now, init)
		if err != nil || response == nil {
			e.stats.Replayed.Add(1)
			return 0
		}
		p.routes.answer(path)
		in.out.raw(path, response)
		if p.chooses() && !path.relayed() {
			// The way it came may lead here only; by a relay the answer comes back for sure.
			for _, r := range contact.Relays[:min(len(contact.Relays), 1)] {
				by := Path{Carrier: r, Remote: r.Endpoint()}
				p.routes.answer(by)
				in.out.raw(by, response)
			}
		}
		return 0
	})
}

func (in *inbound) response(now time.Time, b []byte, path Path) {
	p := in.e.peers.index(wireguard.ReceiverIndex(b)).peer
	if p == nil {
		return
	}
	in.with(now, p, func() wireguard.Todo {
		todo, err := p.machine.Complete(now, b)
		if err != nil {
			in.e.stats.Unauthentic.Add(1)
			return 0
		}
		if p.answered(in.e, now, path, p.routes.asked) {
			in.e.cfg.Notify(Event{Type: PathChanged, Peer: p.address, Path: p.path})
		}
		return todo
	})
}

// with runs f under the lock of a peer that has a machine, and carries out what is asked for.
func (in *inbound) with(now time.Time, p *peer, f func() wireguard.Todo) {
	p.mu.Lock()
	if p.machine == nil {
		p.mu.Unlock()
		return
	}
	a := in.e.react(p, now, f())
	p.mu.Unlock()
	in.e.perform(now, p, a, in.out)
}

// kind is what a datagram of the underlay is.
type kind uint8

const (
	kindUnknown kind = iota
	kindTransport
	kindHandshake
	kindSTUN
	kindOwn
)

const (
	stunCookie    = 0x2112A442 // RFC 8489 §5, at byte 4
	stunHeaderLen = 20
	firstOwnType  = 0x40
)

// kindOf tells the datagrams of one port apart: WireGuard by its type word and exact length, STUN by its cookie, messages of our own by the first byte.
func kindOf(b []byte) kind {
	switch wireguard.TypeOf(b) {
	case wireguard.TypeTransport:
		return kindTransport
	case wireguard.TypeInitiation, wireguard.TypeResponse, wireguard.TypeCookieReply:
		return kindHandshake
	}
	switch {
	case len(b) >= stunHeaderLen && b[0] < firstOwnType && binary.BigEndian.Uint32(b[4:]) == stunCookie:
		return kindSTUN
	case len(b) > 0 && b[0] >= firstOwnType:
		return kindOwn
	}
	return kindUnknown
}
