package engine

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

// arrivals has a side keep the transport protocol and number of each packet that comes to it: TCP's sequence number, UDP's first word.
type arrivals struct {
	list   [][2]uint32
	marked int
}

func (a *arrivals) keep(c *Config) {
	c.Admit = func(_ netip.Addr, packet []byte) bool {
		if packet[6] == protocolTCP {
			a.list = append(a.list, [2]uint32{6, binary.BigEndian.Uint32(packet[44:])})
		} else {
			a.list = append(a.list, [2]uint32{17, binary.BigEndian.Uint32(packet[48:])})
		}
		if trafficClassOf(packet)&3 == 3 {
			a.marked++
		}
		return true
	}
}

// drained has the side send what one drain of its device brought.
func (s *side) drained(superpackets ...[]byte) {
	var arena []byte
	var ends []int
	for _, b := range superpackets {
		arena = append(arena, b...)
		ends = append(ends, len(arena))
	}
	s.out.batch(s.now, arena, ends)
	s.out.flush()
}

// sequenced is a TCP superpacket at a sequence number.
func sequenced(b []byte, sequence uint32) []byte {
	binary.BigEndian.PutUint32(b[tun.HeaderLen+44:], sequence)
	return b
}

func TestSparseGoesFirst(t *testing.T) {
	const payload = 30000
	for _, c := range []struct {
		name  string
		bulk  int // payload of each superpacket
		first []uint32
	}{
		{"beside superpackets", payload, []uint32{1, 2}},
		{"beside nothing that takes long", 3000, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got arrivals
			a, b := sides(t, got.keep)
			got.list = nil
			tcp := func(sequence, payload int) []byte {
				return sequenced(tcpSuper(a.address, b.address, payload, 1220), uint32(sequence))
			}
			udp := func(number uint32, bytes int) []byte {
				return superpacket(udpPacket(a.address, b.address, number, bytes))
			}
			a.drained(tcp(0, c.bulk), udp(1, 100), tcp(c.bulk, 1000), tcp(c.bulk+1000, c.bulk), udp(2, 1200))
			a.settle()
			var sequence uint32
			var datagrams []uint32
			for i, x := range got.list {
				if x[0] == 17 {
					if datagrams = append(datagrams, x[1]); c.first != nil && i >= 2 {
						t.Errorf("packet %d came behind the superpackets", x[1])
					}
				} else if x[1] < sequence {
					t.Errorf("sequence number %d came behind %d", x[1], sequence)
				} else {
					sequence = x[1]
				}
			}
			if !slices.Equal(datagrams, []uint32{1, 2}) {
				t.Errorf("packets %d came, want 1 and 2", datagrams)
			}
			if c.first == nil && got.list[0][0] != 6 {
				t.Error("the order was changed without need")
			}
		})
	}
}

// With more flows than are told apart, nothing overtakes anything.
func TestManyFlowsKeepTheirOrder(t *testing.T) {
	var got arrivals
	a, b := sides(t, got.keep)
	got.list = nil
	var list [][]byte
	for i := range largeFlows + 1 {
		super := tcpSuper(a.address, b.address, 1600, 1220)
		binary.BigEndian.PutUint16(super[tun.HeaderLen+40:], uint16(1000+i))
		list = append(list, super)
	}
	list = append(list, tcpSuper(a.address, b.address, 20000, 1220), superpacket(udpPacket(a.address, b.address, 1, 100)))
	a.drained(list...)
	a.settle()
	if last := got.list[len(got.list)-1]; last[0] != 17 {
		t.Error("a packet went before superpackets that may be of its flow")
	}
}

// A queue that stands costs TCP a segment, or gives one a mark, after CoDel's 100 ms, whether it stands in the device or in the socket. UDP pays nothing, and
// neither does anybody while the queue is short now and then.
func TestStandingQueue(t *testing.T) {
	for _, where := range []string{"device", "socket"} {
		for _, c := range []struct {
			name           string
			class          byte
			udp, shortOnce bool
			lost, marked   int
		}{
			{name: "TCP", lost: 2},
			{name: "TCP with ECN", class: 2, marked: 2},
			{name: "UDP", udp: true},
			{name: "short now and then", shortOnce: true},
		} {
			t.Run(where+" "+c.name, func(t *testing.T) {
				var got arrivals
				a, b := sides(t, got.keep)
				got.list, got.marked = nil, 0
				sent := 0
				// 200 ms of it: signalled at 100 ms and again 100 ms later.
				for i := range 41 {
					a.now = a.now.Add(5 * time.Millisecond)
					b.now = a.now
					super := tcpSuper(a.address, b.address, 20*1220, 1220)
					if c.udp {
						super = superpacket(udpPacket(a.address, b.address, uint32(i), 1200))
						for len(super) < bulkLeast {
							super = append(super, super[tun.HeaderLen:][48:]...)
						}
						h := tun.Header{Flags: tun.FlagNeedsChecksum, GSO: tun.GSOUDP, HeaderLen: 48, GSOSize: 1152, ChecksumStart: 40, ChecksumOffset: 6}
						h.Encode(super)
						p := super[tun.HeaderLen:]
						binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
						binary.BigEndian.PutUint16(p[44:], uint16(len(p)-40))
						binary.BigEndian.PutUint16(p[46:], tun.PseudoHeader(17, p[8:24], p[24:40], len(p)-40))
					}
					super[tun.HeaderLen+1] |= c.class << 4
					if err := a.out.split.Reset(slices.Clone(super)); err != nil {
						t.Fatal(err)
					}
					sent += a.out.split.Segments()
					long := !c.shortOnce || i%10 != 0
					if where == "device" {
						a.out.signal = a.out.standing.judge(a.now, len(super), long, false)
					}
					a.drained(super)
					if where == "socket" {
						b.in.signal = b.in.standing.judge(b.now, len(super), false, long)
					}
					a.settle()
				}
				signalled := int(a.stats.Signalled.Load() + b.stats.Signalled.Load())
				if lost := sent - len(got.list); lost != c.lost && where == "device" || got.marked != c.marked && where == "device" || signalled != c.lost+c.marked {
					t.Errorf("of %d segments %d were lost and %d marked, %d signalled; want %d lost and %d marked", sent, lost, got.marked, signalled, c.lost, c.marked)
				}
			})
		}
	}
}

// A queue that had no end for more than queueMost is signalled at once, and again when that may have been heeded.
func TestLongQueue(t *testing.T) {
	var s standing
	start := time.Now()
	judge := func(after time.Duration, bytes int, more bool) bool {
		return s.judge(start.Add(after), bytes, more, false)
	}
	const batch = 256 << 10
	for i := range queueMost / batch {
		if judge(0, batch, true) {
			t.Fatalf("signalled at %d bytes", (i+1)*batch)
		}
	}
	if judge(time.Millisecond, batch, false) || judge(time.Millisecond, batch, true) {
		t.Error("signalled though the queue was empty meanwhile")
	}
	for range queueMost/batch - 1 {
		judge(2*time.Millisecond, batch, true)
	}
	if !judge(3*time.Millisecond, batch, true) {
		t.Error("not signalled")
	}
	if judge(4*time.Millisecond, batch, true) || judge(signalLeast, batch, true) {
		t.Error("signalled again at once")
	}
	if !judge(3*time.Millisecond+signalLeast, batch, true) {
		t.Error("not signalled again")
	}
}

func TestFilled(t *testing.T) {
	arena, ends := make([]byte, deviceArena), make([]int, devicePackets)
	for _, c := range []struct {
		n, last int
		want    bool
	}{
		{0, 0, false}, {1, 100, false}, {3, 3 * 60000, false}, {4, 4 * 60000, true}, {devicePackets, 1000, true},
	} {
		if c.n > 0 {
			ends[c.n-1] = c.last
		}
		if got := filled(arena, ends, c.n); got != c.want {
			t.Errorf("%d packets, %d bytes: %v", c.n, c.last, got)
		}
	}
}
