package engine

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

const (
	ipv4HeaderLen = 20
	protocolICMP  = 1
	// RFC 1812 §4.3.2.3: an error quotes as much as fits a packet of this size, §5.2.7.1: code 13 is "communication administratively prohibited".
	icmp4Largest     = 576
	icmp4Unreachable = 3
	icmp4Prohibited  = 13
)

// ipv4Table maps the IPv4 addresses in use inside the overlay to overlay addresses. It is never changed, only replaced.
type ipv4Table struct {
	own     [4]byte // zero = none
	overlay map[[4]byte]netip.Addr
}

// SetIPv4 tells this node's own IPv4 address inside the overlay, invalid if it has none, and those of peers by their overlay addresses. A packet
// of a peer is let in from exactly its address, and packets to it go to that peer if the whitelist lets them. peers is not kept.
func (e *Engine) SetIPv4(own netip.Addr, peers map[netip.Addr]netip.Addr) {
	if !own.Is4() {
		e.ipv4.Store(nil)
		return
	}
	t := &ipv4Table{own: own.As4(), overlay: make(map[[4]byte]netip.Addr, len(peers))}
	for peer, a := range peers {
		if a.Is4() && a != own {
			t.overlay[a.As4()] = peer
		}
	}
	e.ipv4.Store(t)
}

// SendInner sends a message of our own inside the tunnel to a peer. It reports false, and sends nothing, if the peer has no session or path, or
// has not shown that it is one of our daemons.
func (e *Engine) SendInner(address netip.Addr, message []byte) bool {
	p := e.peers.get(address)
	if p == nil {
		return false
	}
	now := time.Now()
	p.mu.Lock()
	ok := p.machine != nil && p.machine.Native() && p.path.valid() && p.machine.Session(now) != nil
	p.mu.Unlock()
	if !ok {
		return false
	}
	e.controlMu.Lock()
	defer e.controlMu.Unlock()
	e.control.inner(now, p, message)
	e.control.flush()
	return true
}

// parse reads the header of an IP packet. Addresses of IPv4 that are ours or a peer's are given as the overlay addresses they stand for, so that
// nobody after it need tell the versions apart; others are given as they are.
func (e *Engine) parse(b []byte) (h ipv6Header, ok bool) {
	if len(b) == 0 || b[0]>>4 != 4 {
		return parseIPv6(b)
	}
	return e.parseIPv4(b)
}

func (e *Engine) parseIPv4(b []byte) (h ipv6Header, ok bool) {
	t := e.ipv4.Load()
	if t == nil || len(b) < ipv4HeaderLen {
		return h, false
	}
	header := int(b[0]&15) * 4
	h.length = int(binary.BigEndian.Uint16(b[2:]))
	h.trafficClass = b[1]
	if header < ipv4HeaderLen || h.length < header || h.length > len(b) {
		return h, false
	}
	h.source, h.destination = e.overlayOf(t, [4]byte(b[12:16])), e.overlayOf(t, [4]byte(b[16:20]))
	// Options have no use here but that of IGMP, and source routes among them would lead past every check.
	return h, header == ipv4HeaderLen || h.destination.IsMulticast()
}

func (e *Engine) overlayOf(t *ipv4Table, a [4]byte) netip.Addr {
	if peer, ok := t.overlay[a]; ok {
		return peer
	}
	if a == t.own {
		return e.address
	}
	return netip.AddrFrom4(a)
}

// trafficClassOf is the traffic class of an IPv6 packet, or the type of service of an IPv4 packet, which has the same bits.
func trafficClassOf(packet []byte) byte {
	if packet[0]>>4 == 4 {
		return packet[1]
	}
	return packet[0]<<4 | packet[1]>>4
}

// unreachable4 is unreachable for IPv4.
func (e *Engine) unreachable4(now time.Time, offending []byte) {
	t := e.ipv4.Load()
	h, ok := e.parseIPv4(offending)
	if !ok || h.source != e.address || h.destination.IsMulticast() || [4]byte(offending[16:20]) == [4]byte{255, 255, 255, 255} || !e.unreach.allow(now) {
		return
	}
	switch {
	case binary.BigEndian.Uint16(offending[6:])&0x1fff != 0:
		return // none but the first fragment (RFC 1122 §3.2.2)
	case offending[9] == protocolICMP && h.length > ipv4HeaderLen && offending[ipv4HeaderLen] != 8 && offending[ipv4HeaderLen] != 0:
		return // never an error for an error
	}
	const head = ipv4HeaderLen + icmpHeaderLen
	quote := offending[:min(h.length, icmp4Largest-head)]
	header := make([]byte, tun.HeaderLen)
	packet := make([]byte, head, head+len(quote))
	packet[0], packet[8], packet[9] = 0x45, hopLimit, protocolICMP
	binary.BigEndian.PutUint16(packet[2:], uint16(head+len(quote)))
	copy(packet[12:], offending[16:20])
	copy(packet[16:], t.own[:])
	binary.BigEndian.PutUint16(packet[10:], ^tun.Checksum(0, packet[:ipv4HeaderLen]))
	packet[ipv4HeaderLen], packet[ipv4HeaderLen+1] = icmp4Unreachable, icmp4Prohibited
	packet = append(packet, quote...)
	binary.BigEndian.PutUint16(packet[ipv4HeaderLen+2:], ^tun.Checksum(0, packet[ipv4HeaderLen:]))
	if err := e.cfg.Device.Write([][]byte{header, packet}); err != nil && !closed(err) {
		e.stats.WriteErrors.Add(1)
	}
}
