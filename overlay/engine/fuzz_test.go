package engine

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/fragment"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// The fuzz targets check that the two engines still understand each other afterwards.
func stillTalk(t *testing.T, a, b *side) {
	t.Helper()
	for _, x := range []*side{a, b} {
		before := x.other.packets
		x.send(superpacket(udpPacket(x.address, x.other.address, 9, 120)))
		if x.other.packets != before+1 {
			t.Fatal("the session does not work any more")
		}
	}
}

// FuzzDatagram puts arbitrary trains before a node with a session: whole, aimed at the session's index, and with a valid mac1.
func FuzzDatagram(f *testing.F) {
	f.Add([]byte{4, 0, 0, 0}, uint16(0), byte(0))
	f.Add(make([]byte, wireguard.InitiationSize), uint16(0), byte(2))
	f.Add(bytes.Repeat([]byte{4, 0, 0, 0, 1, 2, 3, 4}, 64), uint16(32), byte(1))
	f.Add(append([]byte{3, 0, 0, 0}, make([]byte, 60)...), uint16(64), byte(1))
	f.Add(append([]byte{2, 0, 0, 0}, make([]byte, 88)...), uint16(92), byte(3))
	f.Add(append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...), uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, d []byte, segment uint16, aim byte) {
		if len(d) > underlay.MaxRead {
			return
		}
		a, b := sides(t)
		p := a.peers.get(b.address)
		index := p.machine.Session(a.now).LocalIndex()
		if aim&1 != 0 && len(d) >= 12 {
			binary.LittleEndian.PutUint32(d[4:], index)
			if d[0] == byte(wireguard.TypeResponse) {
				binary.LittleEndian.PutUint32(d[8:], index)
			}
		}
		packets, path := a.packets, p.path
		a.receive(&underlay.Message{Buf: d, N: len(d), Segment: int(segment), Remote: netip.MustParseAddrPort("203.0.113.1:1"), TOS: aim})
		if a.packets != packets || p.path != path || len(a.Peers()) != 1 {
			t.Fatal("a stranger's datagram changed something")
		}
		stillTalk(t, a, b)
	})
}

// FuzzPlaintext lets an authentic peer send whatever it likes.
func FuzzPlaintext(f *testing.F) {
	from, to := testIdentity(1).Address(), testIdentity(2).Address()
	f.Add(udpPacket(from, to, 1, 100), byte(0))
	f.Add(tcpSuper(from, to, 100, 1000)[tun.HeaderLen:], byte(3))
	f.Add(newICMP(from, to, icmpEchoReply, 0, 1, make([]byte, 16)), byte(0))
	f.Add(hello(), byte(0))
	f.Add(append([]byte{innerProbe}, make([]byte, 15)...), byte(0))
	f.Add(append([]byte{innerProbeReply}, make([]byte, 15)...), byte(0))
	f.Add([]byte{fragment.Type, 0x01, 0, 1, 0, 80, 0x60}, byte(0))
	f.Add([]byte{0x45, 0, 0, 20}, byte(0))
	f.Add(udp4(ipv4A, ipv4B, 100), byte(3))
	f.Add(append([]byte{innerIPv4}, make([]byte, 19)...), byte(0))
	f.Fuzz(func(t *testing.T, plaintext []byte, tos byte) {
		if len(plaintext) > 20000 {
			return
		}
		a, b := sides(t)
		withIPv4(a.Engine, b.Engine)
		p := a.peers.get(b.address)
		packets := b.packets
		b.last = []byte{}
		for range 2 {
			a.out.one(p, &passage{k: p.machine.Session(a.now), path: p.path}, plaintext, routeMTU, tos)
			a.out.flush()
			a.settle()
		}
		if b.packets > packets {
			h, ok := b.parse(b.last[tun.HeaderLen:])
			if !ok || h.source != a.address || h.destination != b.address {
				t.Fatalf("hnet0 got %x", b.last)
			}
		}
		b.last = nil
		stillTalk(t, a, b)
	})
}
