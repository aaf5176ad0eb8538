package main

import (
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/lan"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// Kinds of traffic, in the order of the report.
const (
	kindBase    = "Base: keepalives and what Bases tell"
	kindMeasure = "Base: distance of the others, registering anew (hello, cookie, register, welcome)"
	kindRelay   = "relayed datagrams"
	kindTunnel  = "tunnel, direct: handshakes, probes, keepalives"
	kindSTUN    = "STUN: measuring the NAT"
	kindTCP     = "TCP, to a Base or a router"
	kindLAN     = "LAN discovery; it does not leave the link"
	kindLink    = "the link itself: neighbours, groups; it does not leave the link"
	kindPortmap = "asking the router to map a port (PCP, NAT-PMP, UPnP); it does not leave the link"
	kindICMP    = "ICMP: that the router maps none"
	kindOther   = "anything else"
)

var kinds = []string{kindBase, kindMeasure, kindRelay, kindTunnel, kindSTUN, kindTCP, kindLAN, kindLink, kindPortmap, kindICMP, kindOther}

// stays tells what no provider ever sees.
func stays(kind string) bool { return kind == kindLAN || kind == kindLink || kind == kindPortmap }

// flow is packets and bytes of IP.
type flow struct{ packets, bytes int }

// usage is what passed a node's uplink, by kind.
type usage struct{ out, in map[string]flow }

const (
	etherHeader  = 14
	portmapPort  = 5351
	announcePort = 5350
	ssdpPort     = 1900
)

// count sorts all IP packets. What is not IP (ARP) is no byte of IP.
func count(frames []lab.Frame) usage {
	u := usage{map[string]flow{}, map[string]flow{}}
	for _, f := range frames {
		p := f.Decode()
		if p.EtherType != 0x0800 && p.EtherType != 0x86dd {
			continue
		}
		way := u.in
		if f.Out {
			way = u.out
		}
		k := kindOf(p)
		at := way[k]
		at.packets++
		at.bytes += f.Len - etherHeader
		way[k] = at
	}
	return u
}

func kindOf(p lab.Packet) string {
	port := func(n uint16) bool { return p.SrcPort == n || p.DstPort == n }
	switch {
	case p.Kind == lab.NDP, p.Kind == lab.MLD, p.Kind == lab.IGMP:
		return kindLink
	case p.Kind == lab.ICMP, p.Kind == lab.ICMPv6:
		return kindICMP
	case p.Kind == lab.TCP:
		return kindTCP
	case p.Kind != lab.UDP:
		return kindOther
	case port(lan.Port):
		return kindLAN
	case port(portmapPort), port(announcePort), port(ssdpPort):
		return kindPortmap
	case p.WireGuard():
		return kindTunnel
	case stun.IsMessage(p.Payload):
		return kindSTUN
	}
	switch wire.TypeOf(p.Payload) {
	case wire.TypeControl, wire.TypeBaseControl, wire.TypeFilterProbe, wire.TypeUnknown:
		return kindBase
	case wire.TypeHello, wire.TypeCookie, wire.TypeRegister, wire.TypeWelcome:
		return kindMeasure
	case wire.TypeRelay, wire.TypeRelayed:
		return kindRelay
	}
	return kindOther
}

// total is all of it; outside is what leaves the link and is paid for.
func (u usage) total() (all, outside flow) {
	for _, way := range []map[string]flow{u.out, u.in} {
		for k, f := range way {
			all.packets, all.bytes = all.packets+f.packets, all.bytes+f.bytes
			if !stays(k) {
				outside.packets, outside.bytes = outside.packets+f.packets, outside.bytes+f.bytes
			}
		}
	}
	return all, outside
}
