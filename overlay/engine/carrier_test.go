package engine

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// pacer is a Carrier with a budget of bytes; it refuses what is beyond, until a moment that the test names.
type pacer struct {
	direct
	mu     sync.Mutex
	budget int
	until  func(now time.Time) time.Time
	asked  int
}

func (p *pacer) Refuse(now time.Time, bytes int) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if bytes > p.budget {
		return p.until(now), true
	}
	p.budget -= bytes
	return time.Time{}, false
}

func (p *pacer) allow(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budget = bytes
}

func (p *pacer) times() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// paced gives a's path to b a pacer. What b sends is lost from then on, so that the path stays.
func paced(n *network, a, b *node, until func(time.Time) time.Time) *pacer {
	c := &pacer{direct: direct{socket: a.port}, until: until}
	n.setFilter(func(from, to netip.AddrPort, d []byte) []delivery {
		if from == b.port.address() {
			return nil
		}
		return []delivery{{from: from, to: to, b: d}}
	})
	p := a.peers.get(b.id.Address())
	p.mu.Lock()
	p.path.Carrier = c
	p.routes = routes{} // nobody chooses another
	p.mu.Unlock()
	return c
}

// marked is a packet with a DSCP.
func marked(from, to *node, number uint32, dscp byte) []byte {
	b := udpPacket(from.id.Address(), to.id.Address(), number, 600)
	b[0], b[1] = 0x60|dscp>>2, b[1]&0x3f|dscp<<6
	return b
}

func TestRefusedPacketsWaitAndTheUrgentGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		c := paced(n, a, b, func(now time.Time) time.Time { return now.Add(100 * time.Millisecond) })
		b.received()
		const (
			bulk   = 8
			normal = 0
			urgent = 46
		)
		for i, dscp := range []byte{bulk, normal, bulk, urgent, normal, urgent} {
			a.send(marked(a, b, uint32(i), dscp))
		}
		if got := b.received(); len(got) != 0 {
			t.Fatalf("%d packets passed a carrier that refuses", len(got))
		}
		c.allow(3 * 700)
		time.Sleep(150 * time.Millisecond)
		order := func(want ...uint32) {
			t.Helper()
			got := b.received()
			if len(got) != len(want) {
				t.Fatalf("%d packets, want %d", len(got), len(want))
			}
			for i := range want {
				if number := binary.BigEndian.Uint32(got[i][48:]); number != want[i] {
					t.Errorf("packet %d is number %d, want %d", i, number, want[i])
				}
			}
		}
		order(3, 5, 1)
		// What comes later does not overtake what waits in its lane.
		a.send(marked(a, b, 6, normal))
		order()
		c.allow(1 << 20)
		time.Sleep(100 * time.Millisecond)
		order(4, 6, 0, 2)
		a.send(marked(a, b, 7, normal))
		order(7)
	})
}

func TestCarrierThatNamesAMomentGoneBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		c := paced(n, a, b, func(time.Time) time.Time { return time.Time{} })
		b.received()
		a.send(marked(a, b, 1, 0))
		time.Sleep(100 * time.Millisecond)
		if got := c.times(); got < 10 || got > 110 {
			t.Errorf("asked %d times in 100 ms", got)
		}
		c.allow(1 << 20)
		time.Sleep(5 * time.Millisecond)
		if got := b.received(); len(got) != 1 {
			t.Errorf("%d packets after the carrier takes them again", len(got))
		}
	})
}

// A carrier that never lets the lanes run empty must not keep the session from being renewed.
func TestWhatLeavesTheLanesRenewsTheSession(t *testing.T) {
	a, b := sides(t)
	p := a.peers.get(b.address)
	now := a.now.Add(wireguard.RekeyAfterTime + time.Second)
	p.mu.Lock()
	a.wait(p, now, Treatment{}, superpacket(udpPacket(a.address, b.address, 1, 100)))
	p.mu.Unlock()
	a.perform(now, p, action{flush: true}, a.out)
	a.out.flush()
	initiations := 0
	for _, m := range b.inbox[:b.inboxed] {
		if m.Buf[0] == 1 {
			initiations++
		}
	}
	if initiations != 1 || b.inbox[0].Buf[0] != 4 {
		t.Errorf("%d initiations behind a datagram of type %d, want one behind the packet", initiations, b.inbox[0].Buf[0])
	}
	// After the session's end what waits asks for the next.
	now = a.now.Add(wireguard.RejectAfterTime + time.Minute)
	b.inboxed = 0
	p.mu.Lock()
	a.wait(p, now, Treatment{}, superpacket(udpPacket(a.address, b.address, 1, 100)))
	p.machine.Forget()
	p.mu.Unlock()
	a.perform(now, p, action{flush: true}, a.out)
	a.out.flush()
	if b.inboxed != 1 || b.inbox[0].Buf[0] != 1 || p.lanes.Empty() {
		t.Errorf("%d datagrams, want an initiation", b.inboxed)
	}
}

// roomy is a Carrier that writes a header of its own in front of each datagram.
type roomy struct {
	*side
	room    int
	frames  int
	touched bool
}

const filler = 0xa5

func (r *roomy) Headroom() int                           { return r.room }
func (r *roomy) Refuse(time.Time, int) (time.Time, bool) { return time.Time{}, false }
func (r *roomy) Send(trains []underlay.Message) (int, error) {
	for _, m := range trains {
		stride := m.Headroom + m.Segment
		var train []byte
		for b := m.Buf; len(b) > 0; b = b[min(stride, len(b)):] {
			frame := b[:min(stride, len(b))]
			r.frames++
			r.touched = r.touched || !bytes.Equal(frame[:r.room], bytes.Repeat([]byte{filler}, r.room))
			train = append(train, frame[r.room:]...)
		}
		m.Buf, m.Headroom = train, 0
		if _, err := (sideSocket{r.side}).WriteBatch([]underlay.Message{m}); err != nil {
			return 0, err
		}
	}
	return len(trains), nil
}

func TestHeadroomIsLeftInFrontOfEachDatagram(t *testing.T) {
	for _, room := range []int{1, 8, 64} {
		a, b := sides(t)
		r := &roomy{side: a, room: room}
		p := a.peers.get(b.address)
		p.path.Carrier = r
		for i := range a.out.sealed {
			a.out.sealed[i] = filler
		}
		const segments = 40
		super := tcpSuper(a.address, b.address, segments*1220-7, 1220)
		want := bytes.Clone(super[tun.HeaderLen:])
		b.last = []byte{}
		a.send(super)
		if r.frames != segments || r.touched {
			t.Fatalf("room %d: %d datagrams, room touched: %v", room, r.frames, r.touched)
		}
		if got := b.last[tun.HeaderLen:]; !bytes.Equal(got[60:], want[60:]) {
			t.Errorf("room %d: %d bytes arrived of %d", room, len(got), len(want))
		}
		// Pieces keep the room as well, and take it into account.
		p.path.MTU = 1100
		for i := range a.out.sealed {
			a.out.sealed[i] = filler
		}
		packet := udpPacket(a.address, b.address, 1, 1280)
		a.send(superpacket(packet))
		if r.touched || !bytes.Equal(b.last[tun.HeaderLen+48:], packet[48:]) {
			t.Errorf("room %d: a packet in pieces did not arrive whole", room)
		}
	}
}

// A carrier that refuses now and then, as one by TCP does every 4 ms, must not make the peer be greeted each time.
func TestOnlyHandshakesAreFollowedByAHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		paced(n, a, b, func(now time.Time) time.Time { return now.Add(4 * time.Millisecond) })
		mark := len(n.sightings())
		a.send(marked(a, b, 1, 0))
		time.Sleep(time.Second)
		if got := probesFrom(n, a.port.addr, mark); got != 0 {
			t.Errorf("%d messages of our own while a carrier refuses", got)
		}
	})
}
