package engine

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/pace"
	"github.com/hnet-robotics/hnet_bridge/overlay/path"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// BenchmarkOutbound is the way from the device to the socket alone, packets of 1,200 bytes, 64 in a batch: without a word of the peer about its path, with one
// (a controller that holds nothing back), and with everything sent on two paths.
func BenchmarkOutbound(b *testing.B) {
	const batch = 64
	for _, c := range []string{"plain", "reported", "twice"} {
		b.Run(c, func(b *testing.B) {
			x, y := sides(b)
			p := x.peers.get(y.address)
			if c != "plain" {
				p.paces(p.path.key()).controller = pace.New()
			}
			if c == "twice" {
				twofold(b, x, y)
				x.out.inspect = everything{Redundant: true}
			}
			packets := make([][]byte, batch)
			for i := range packets {
				packets[i] = superpacket(udpPacket(x.address, y.address, uint32(i), 1200))
			}
			b.SetBytes(batch * 1200)
			b.ReportAllocs()
			for b.Loop() {
				for _, packet := range packets {
					x.out.packet(x.now, packet)
				}
				x.out.flush()
				y.inboxed = 0
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/packet")
		})
	}
}

// A train is of datagrams for one peer by one path, of one size but for the last, whether they are of one passage or of several.
func TestTrains(t *testing.T) {
	a, b := sides(t)
	o, p, q := a.out, a.peers.get(b.address), &peer{}
	here := p.path
	there := here
	there.Remote = netip.MustParseAddrPort("192.0.2.77:5582")
	for _, test := range []struct {
		name string
		do   func()
		want []int // datagrams in each train
	}{
		{"one passage", func() {
			n := o.nextPassage().number
			o.room(p, &here, n, 100, 0)
			o.room(p, &here, n, 100, 0)
			o.room(p, &here, n, 60, 0)
			o.room(p, &here, n, 60, 0) // a shorter one ended the train
		}, []int{3, 1}},
		{"two alike", func() {
			o.room(p, &here, o.nextPassage().number, 100, 0)
			o.room(p, &here, o.nextPassage().number, 100, 0)
		}, []int{2}},
		{"two paths", func() {
			o.room(p, &here, o.nextPassage().number, 100, 0)
			o.room(p, &there, o.nextPassage().number, 100, 0)
		}, []int{1, 1}},
		{"two peers", func() {
			o.room(p, &here, o.nextPassage().number, 100, 0)
			o.room(q, &here, o.nextPassage().number, 100, 0)
		}, []int{1, 1}},
		{"a message of our own between", func() {
			n := o.nextPassage().number
			o.room(p, &here, n, 100, 0)
			o.room(q, &there, 0, 100, 0)
			o.room(p, &here, n, 100, 0)
		}, []int{1, 1, 1}},
		{"for nobody", func() {
			o.room(nil, &here, 0, 100, 0)
			o.room(nil, &here, 0, 100, 0)
		}, []int{1, 1}},
		{"congestion marks", func() {
			n := o.nextPassage().number
			o.room(p, &here, n, 100, 0)
			o.room(p, &here, n, 100, 3)
		}, []int{1, 1}},
		{"a larger one", func() {
			n := o.nextPassage().number
			o.room(p, &here, n, 100, 0)
			o.room(p, &here, n, 101, 0)
		}, []int{1, 1}},
		{"as many as the kernel takes", func() {
			n := o.nextPassage().number
			for range trainDatagrams + 1 {
				o.room(p, &here, n, 100, 0)
			}
		}, []int{trainDatagrams, 1}},
		{"as large as the kernel takes", func() {
			n := o.nextPassage().number
			for range 3 {
				o.room(p, &here, n, trainBytes/2, 0)
			}
		}, []int{2, 1}},
	} {
		test.do()
		var got []int
		for _, info := range o.from {
			got = append(got, info.count)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: trains of %v, want %v", test.name, got, test.want)
		}
		o.trains, o.from, o.used = o.trains[:0], o.from[:0], 0
	}
}

// everything is an Inspector that treats all packets alike.
type everything Treatment

func (e everything) Outbound(time.Time, netip.Addr, []byte) Treatment { return Treatment(e) }
func (everything) Inbound(time.Time, netip.Addr, []byte)              {}

// twofold gives x a second living path to y.
func twofold(t testing.TB, x, y *side) {
	p := x.peers.get(y.address)
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.routes.machine
	second := Path{Carrier: direct{socket: sideSocket{x}}, Remote: netip.MustParseAddrPort("192.0.2.77:5582")}
	p.routes.note(second.key(), p.path.key())
	m.Traffic(x.now)
	m.Copying(x.now)
	m.Proved(x.now, second.key(), path.Direct, time.Millisecond)
	m.Tick(x.now)
	if _, _, _, ok := m.Backup(); !ok {
		t.Fatal("no second path")
	}
}

// Everything that is asked to go twice goes twice, sealed once, with trains whole on both paths, and arrives once.
func TestTwice(t *testing.T) {
	a, b := sides(t)
	twofold(t, a, b)
	a.out.inspect = everything{Redundant: true}
	p := b.peers.get(a.address)
	p.routes.machine.Traffic(b.now)
	p.routes.machine.Asked(b.now, p.path.key(), path.Direct, path.FlagCopies)
	packets, bytes := b.packets, b.bytes
	for i := range uint32(4) {
		a.out.packet(a.now, superpacket(udpPacket(a.address, b.address, i, 1000)))
	}
	a.out.flush()
	var trains []*underlay.Message
	for i := range b.inboxed {
		if m := &b.inbox[i]; m.N > 4*1000 {
			trains = append(trains, m)
		}
	}
	if len(trains) != 2 || string(trains[0].Buf[:trains[0].N]) != string(trains[1].Buf[:trains[1].N]) {
		t.Fatalf("%d trains, want the same one twice", len(trains))
	}
	b.settle()
	if got := b.packets - packets; got != 1 || b.bytes-bytes < 4*(1000-48) || b.stats.Copies.Load() != 4 || b.stats.Replayed.Load() != 0 {
		t.Errorf("%d packets, %d copies and %d replays, want them joined to one, 4 and none", got, b.stats.Copies.Load(), b.stats.Replayed.Load())
	}
	// Without the treatment nothing does.
	a.out.inspect = nil
	a.send(superpacket(udpPacket(a.address, b.address, 9, 1000)))
	if b.stats.Copies.Load() != 4 {
		t.Error("an ordinary packet was sent twice")
	}
}
