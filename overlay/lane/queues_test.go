package lane

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func udp(port uint16, payload int) []byte {
	return datagram{version: 6, protocol: protocolUDP, port: port, payload: payload}.superpacket()
}

// portOf tells which datagram it is.
func portOf(superpacket []byte) uint16 {
	return binary.BigEndian.Uint16(superpacket[tun.HeaderLen+ipv6HeaderLen+2:])
}

func take(t *testing.T, q *Queues, now time.Time, b *Budget) Item {
	t.Helper()
	item, _, ok := q.Front(now, b)
	if !ok {
		t.Fatal("nothing waits")
	}
	q.Take(b)
	return item
}

func TestOrder(t *testing.T) {
	var q Queues
	var b Budget
	for i, lane := range []Lane{Bulk, Normal, ByDSCP, Urgent} {
		if d := q.Push(start, Treatment{Lane: lane, Redundant: lane == Bulk}, udp(uint16(i), 100), &b); d != 0 {
			t.Fatalf("%d dropped", d)
		}
	}
	want := []struct {
		port uint16
		lane Lane
	}{{3, Urgent}, {1, Normal}, {2, Normal}, {0, Bulk}}
	for _, w := range want {
		item := take(t, &q, start, &b)
		if portOf(item.Superpacket) != w.port || item.Lane != w.lane || item.Redundant != (w.lane == Bulk) {
			t.Errorf("got port %d of %v, want %d of %v", portOf(item.Superpacket), item.Lane, w.port, w.lane)
		}
	}
	if !q.Empty() || b.Used() != 0 {
		t.Errorf("empty %v, %d bytes counted", q.Empty(), b.Used())
	}
	if _, _, ok := q.Front(start, &b); ok {
		t.Error("something waits in empty queues")
	}
	q.Take(&b)
}

func TestOldestMakeRoom(t *testing.T) {
	var q Queues
	var b Budget
	dropped := 0
	for i := range 200 {
		dropped += q.Push(start, Treatment{Lane: Normal}, udp(7, i), &b)
	}
	if dropped != 200-idlePackets {
		t.Errorf("%d dropped", dropped)
	}
	if item := take(t, &q, start, &b); len(item.Superpacket) != len(udp(7, 72)) {
		t.Errorf("the oldest left has %d bytes", len(item.Superpacket))
	}
	for range 20 {
		q.Push(start, Treatment{Lane: Normal}, udp(7, 60000), &b)
	}
	if q.Bytes() > idleBytes {
		t.Errorf("%d bytes wait", q.Bytes())
	}
	if n := q.Clear(&b); n != 4 || b.Used() != 0 || !q.Empty() || !q.Next().IsZero() {
		t.Errorf("%d cleared, %d bytes counted", n, b.Used())
	}
}

func TestExpire(t *testing.T) {
	var q Queues
	var b Budget
	q.Push(start, Treatment{}, udp(1, 10), &b)
	q.Push(start.Add(time.Second), Treatment{Lane: Bulk}, udp(2, 10), &b)
	if at := q.Next(); at != start.Add(MaxAge) {
		t.Fatalf("due at %v", at)
	}
	if n := q.Expire(start.Add(MaxAge-1), &b); n != 0 {
		t.Fatalf("%d expired too early", n)
	}
	if n := q.Expire(start.Add(MaxAge), &b); n != 1 || q.Next() != start.Add(MaxAge+time.Second) {
		t.Fatalf("%d expired, next at %v", n, q.Next())
	}
	if n := q.Expire(q.Next(), &b); n != 1 || !q.Empty() || b.Used() != 0 {
		t.Fatalf("%d expired, %d bytes counted", n, b.Used())
	}
}

func TestBudget(t *testing.T) {
	var b Budget
	peers := make([]Queues, 300)
	full := 0
	for i := range peers {
		peers[i].Limit(start, 2.5e6, true)
		for range 100 {
			full += peers[i].Push(start, Treatment{Lane: Bulk}, datagram{version: 6, protocol: protocolTCP, payload: 1400}.superpacket(), &b)
		}
	}
	if b.Used() > MostBytes || full == 0 {
		t.Fatalf("%d bytes, %d dropped", b.Used(), full)
	}
	// The bulk of the same peer makes room for what is more urgent.
	if d := peers[0].Push(start, Treatment{Lane: Urgent}, udp(1, 1400), &b); d == 0 || b.Used() > MostBytes {
		t.Fatalf("%d dropped for an urgent packet, %d bytes", d, b.Used())
	}
	if item := take(t, &peers[0], start, &b); item.Lane != Urgent {
		t.Fatalf("%v comes first", item.Lane)
	}
	for i := range peers {
		peers[i].Clear(&b)
	}
	if b.Used() != 0 {
		t.Fatalf("%d bytes are left", b.Used())
	}
}

func TestCut(t *testing.T) {
	var q Queues
	var b Budget
	big := gso(40, 1000)
	if d := q.Push(start, Treatment{}, append([]byte(nil), big...), &b); d != 0 {
		t.Fatalf("%d dropped", d)
	}
	if item := take(t, &q, start, &b); len(item.Superpacket) != len(big) {
		t.Fatalf("%d bytes without a limit, want the superpacket whole", len(item.Superpacket))
	}
	q.Limit(start, 2.5e6, true)
	if q.Piece() != 7500 {
		t.Fatalf("pieces of %d bytes", q.Piece())
	}
	if d := q.Push(start, Treatment{}, big, &b); d != 0 {
		t.Fatalf("%d dropped", d)
	}
	for range 40 {
		if item := take(t, &q, start, &b); len(item.Superpacket) != tun.HeaderLen+ipv6HeaderLen+8+1000 {
			t.Fatalf("a piece of %d bytes", len(item.Superpacket))
		}
	}
	if !q.Empty() {
		t.Fatal("more than was pushed")
	}
	if d := q.Push(start, Treatment{}, append(append([]byte(nil), big[:tun.HeaderLen]...), make([]byte, 9000)...), &b); d != 1 || !q.Empty() {
		t.Fatalf("%d dropped of a superpacket that is none", d)
	}
	if d := q.Push(start, Treatment{}, big[:tun.HeaderLen], &b); d != 1 {
		t.Fatalf("%d dropped of a superpacket without a packet", d)
	}
}

// gso is a train of UDP datagrams as the kernel hands it over.
func gso(n, size int) []byte {
	b := datagram{version: 6, protocol: protocolUDP, port: 9, payload: n * size}.superpacket()
	(&tun.Header{Flags: tun.FlagNeedsChecksum, GSO: tun.GSOUDP, HeaderLen: 48, GSOSize: uint16(size), ChecksumStart: 40, ChecksumOffset: 6}).Encode(b)
	return b
}

func TestTurns(t *testing.T) {
	var q Queues
	var b Budget
	q.Limit(start, 2.5e6, true)
	for i := range 200 {
		for _, lane := range []Lane{Normal, Bulk} {
			for port := range uint16(2) {
				q.Push(start.Add(time.Duration(i)), Treatment{Lane: lane}, datagram{version: 6, protocol: protocolTCP, class: 2, port: uint16(lane)*10 + port, payload: 1000}.superpacket(), &b)
			}
		}
	}
	count := map[uint16]int{}
	for range 200 {
		count[portOf(take(t, &q, start, &b).Superpacket)]++
	}
	normal, bulk := count[20]+count[21], count[30]+count[31]
	if ratio := float64(normal) / float64(bulk); ratio < 3.5 || ratio > 4.5 {
		t.Errorf("normal has %d turns, bulk %d: want 4 to 1", normal, bulk)
	}
	if d := count[20] - count[21]; d < -2 || d > 2 {
		t.Errorf("two flows of a lane had %d and %d turns", count[20], count[21])
	}
}

func TestUrgentShare(t *testing.T) {
	var q Queues
	var b Budget
	const rate = 1e6
	now, took := start, map[Lane]int{}
	for i := range 5000 {
		q.Limit(now, rate, true)
		for range 2 {
			q.Push(now, Treatment{Lane: Urgent}, udp(1, 1000), &b)
		}
		q.Push(now, Treatment{Lane: Normal}, datagram{version: 6, protocol: protocolTCP, class: 2, port: 5, payload: 1000}.superpacket(), &b)
		item := take(t, &q, now, &b)
		if i > 500 {
			took[item.Lane] += len(item.Superpacket)
		}
		now = now.Add(time.Duration(float64(len(item.Superpacket)) / rate * 1e9))
	}
	// Half goes first, and of the rest it has a fifth.
	if share := float64(took[Normal]) / float64(took[Normal]+took[Urgent]); share < 0.35 || share > 0.5 {
		t.Errorf("an urgent flood leaves %.2f to the normal lane", share)
	}
}

func TestCoDel(t *testing.T) {
	for _, ecn := range []byte{0, 2} {
		var q Queues
		var b Budget
		now, marked, dropped, took := start, 0, 0, 0
		for range 4000 {
			q.Limit(now, 1e6, true)
			// Arrives 10 % faster than it leaves, by a flow that heeds nothing after all.
			for range 1 + took%10/9 {
				dropped += q.Push(now, Treatment{}, datagram{version: 6, protocol: protocolTCP, class: ecn, payload: 940}.superpacket(), &b)
			}
			item, d, ok := q.Front(now, &b)
			dropped += d
			if !ok {
				t.Fatal("nothing waits")
			}
			if class(item.Superpacket[tun.HeaderLen:])&ecnMask == ecnCE {
				marked++
			}
			q.Front(now, &b)
			q.Take(&b)
			took++
			now = now.Add(time.Millisecond)
		}
		if ecn == 0 && (dropped < 50 || marked > 0) || ecn == 2 && (marked < 50 || dropped > 0 && q.Bytes() < normalBytes/2) {
			t.Errorf("ECN %d: %d marked, %d dropped of %d, %d bytes wait", ecn, marked, dropped, took, q.Bytes())
		}
		if ecn == 0 && q.Bytes() > 60e3 {
			t.Errorf("%d bytes wait in spite of CoDel", q.Bytes())
		}
	}
}

func BenchmarkPushTake(b *testing.B) {
	var q Queues
	var budget Budget
	packet := udp(1, 1300)
	now := start
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Millisecond)
		q.Limit(now, 2.5e6, true)
		q.Push(now, Treatment{}, packet, &budget)
		q.Front(now, &budget)
		q.Take(&budget)
	}
}

// FuzzQueues does what the bytes say, two for each step, and checks that nothing is lost count of.
func FuzzQueues(f *testing.F) {
	f.Add([]byte{0, 10, 1, 20, 6, 0, 4, 0, 5, 0, 7, 0})
	f.Add([]byte{6, 200, 2, 255, 2, 255, 2, 255, 9, 255, 4, 0, 5, 0, 8, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var q Queues
		var b Budget
		now := start
		pushed, taken, dropped := 0, 0, 0
		for i := 0; i+1 < len(steps) && i < 400; i += 2 {
			arg := int(steps[i+1])
			switch steps[i] % 11 {
			case 0, 1, 2, 3:
				packet := datagram{version: 6 - arg&2, protocol: []byte{protocolTCP, protocolUDP}[arg&1], class: byte(arg), port: uint16(arg % 7), payload: arg * 8}
				pushed++
				dropped += q.Push(now, Treatment{Lane: Lane(steps[i] % 4)}, packet.superpacket(), &b)
			case 4, 5:
				item, d, ok := q.Front(now, &b)
				dropped += d
				again, d2, ok2 := q.Front(now, &b)
				dropped += d2
				if ok != ok2 || d2 != 0 || ok && &item.Superpacket[0] != &again.Superpacket[0] {
					t.Fatal("asked again, Front answered otherwise")
				}
				if ok {
					q.Take(&b)
					taken++
				}
			case 6:
				q.Limit(now, float64(1+arg)*10e3, true)
			case 7:
				q.Limit(now, 0, false)
			case 8:
				dropped += q.Expire(now, &b)
			case 9:
				now = now.Add(time.Duration(arg) * 50 * time.Millisecond)
			case 10:
				big := gso(1+arg%40, 1000)
				pushed += 1 + arg%40
				n := q.Push(now, Treatment{}, big, &b)
				dropped += n
				if q.Piece() >= len(big) {
					pushed -= arg % 40 // whole
				}
			}
			if b.Used() != int64(q.Bytes()) || q.Bytes() > urgentBytes+2*mostBytes+lanes*(64<<10) || q.Bytes() < 0 {
				t.Fatalf("%d bytes counted, %d wait", b.Used(), q.Bytes())
			}
			if q.Empty() != (q.Bytes() == 0) || q.Empty() != q.Next().IsZero() {
				t.Fatalf("empty %v with %d bytes, next %v", q.Empty(), q.Bytes(), q.Next())
			}
		}
		dropped += q.Clear(&b)
		if pushed != taken+dropped || b.Used() != 0 {
			t.Fatalf("%d pushed, %d taken, %d dropped; %d bytes are left", pushed, taken, dropped, b.Used())
		}
	})
}
