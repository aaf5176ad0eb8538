package engine

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

func TestSpoofedAndMisdirectedPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		third := testIdentity(3).Address()
		garbage := func(first byte, size int) []byte {
			p := make([]byte, size)
			p[0] = first
			return p
		}
		short := udpPacket(a.id.Address(), b.id.Address(), 1, 100)
		binary.BigEndian.PutUint16(short[4:], 1000) // claims more than there is
		for name, c := range map[string]struct {
			packet             []byte
			spoofed, malformed uint64
		}{
			"source of a third peer":  {udpPacket(third, b.id.Address(), 1, 100), 1, 0},
			"source of the receiver":  {udpPacket(b.id.Address(), b.id.Address(), 1, 100), 1, 0},
			"source of nobody":        {udpPacket(netip.IPv6Unspecified(), b.id.Address(), 1, 100), 1, 0},
			"to a third peer":         {udpPacket(a.id.Address(), third, 1, 100), 1, 0},
			"to multicast":            {udpPacket(a.id.Address(), netip.MustParseAddr("ff02::1"), 1, 100), 1, 0},
			"to the receiver's other": {udpPacket(a.id.Address(), netip.MustParseAddr("2001:db8::1"), 1, 100), 1, 0},
			"IPv4":                    {garbage(0x45, 100), 0, 1},
			"no IP version":           {garbage(0xf0, 100), 0, 1},
			"too short for a header":  {garbage(0x60, 32), 0, 1},
			"cut":                     {short, 0, 1},
			"a piece that is none":    {garbage(innerFragment, 32), 0, 1},
			"a hello that is short":   {garbage(innerHello, 8), 0, 0}, // padding makes it whole
			"unknown message":         {garbage(0x0f, 64), 0, 0},
		} {
			spoofed, malformed := b.Stats().Spoofed.Load(), b.Stats().Malformed.Load()
			say(a, b, c.packet)
			mustReceive(t, b)
			if x, y := b.Stats().Spoofed.Load()-spoofed, b.Stats().Malformed.Load()-malformed; x != c.spoofed || y != c.malformed {
				t.Errorf("%s: %d spoofed, %d malformed, want %d and %d", name, x, y, c.spoofed, c.malformed)
			}
		}
		flowsWithin(t, a, b, time.Second)
	})
}

// say seals any plaintext from a to b, as a peer with a program of its own could.
func say(a, b *node, plaintext []byte) {
	p := a.peers.get(b.id.Address())
	p.mu.Lock()
	k, path := p.machine.Session(time.Now()), p.path
	p.mu.Unlock()
	out := newOutbound(a.Engine)
	out.one(p, &passage{k: k, path: path}, plaintext, routeMTU, 0)
	out.flush()
}

func TestPacketsToStrangersAreRefusedWithAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newNode(t, n, 1, "192.0.2.1:5582")
		stranger := testIdentity(9).Address()
		for _, size := range []int{40, 100, 1280, 1500} {
			sent := udpPacket(a.id.Address(), stranger, 1, size)
			a.send(sent)
			got := a.received()
			if len(got) != 1 {
				t.Fatalf("%d answers to a packet of %d bytes", len(got), size)
			}
			answer := got[0]
			h, ok := parseIPv6(answer)
			if !ok || h.source != stranger || h.destination != a.id.Address() || h.nextHeader != 58 || len(answer) > 1280 {
				t.Fatalf("answer %x", answer)
			}
			if answer[40] != 1 || answer[41] != 1 {
				t.Errorf("type %d, code %d, want 1 and 1: administratively prohibited", answer[40], answer[41])
			}
			quoted := answer[48:]
			if want := sent[:min(len(sent), 1280-48)]; string(quoted) != string(want) {
				t.Errorf("%d bytes quoted of %d", len(quoted), size)
			}
			if sum := icmpSum(answer); sum != 0xffff {
				t.Errorf("checksum %#x", sum)
			}
		}
		// No error for an error, none for what is not ours, no more than a few.
		errorPacket := udpPacket(a.id.Address(), stranger, 1, 100)
		errorPacket[6], errorPacket[40] = 58, 3
		a.send(errorPacket)
		a.send(udpPacket(testIdentity(8).Address(), stranger, 1, 100))
		mustReceive(t, a)
		time.Sleep(2 * time.Second)
		for range 3 * unreachPerSecond {
			a.send(udpPacket(a.id.Address(), stranger, 1, 100))
		}
		if got := len(a.received()); got != unreachPerSecond {
			t.Errorf("%d answers in one moment, want %d", got, unreachPerSecond)
		}
		if len(n.sightings()) != 0 || len(a.Peers()) != 0 {
			t.Error("the stranger was contacted")
		}
	})
}

// icmpSum adds up an ICMPv6 packet with its pseudo header as plainly as RFC 4443 says; 0xffff is right.
func icmpSum(b []byte) uint32 {
	sum := uint32(len(b)-40) + 58
	for i := 8; i < len(b); i++ {
		if i%2 == 0 {
			sum += uint32(b[i]) << 8
		} else {
			sum += uint32(b[i])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum
}

func TestHandshakesOfStrangersAreRefusedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newNode(t, n, 1, ourEndpoint)
		m := strangersInitiation(t, a, 66)
		for range 3 * unreachPerSecond / 2 {
			n.arrive(delivery{from: stockPort, to: ourPort, b: m}, len(m))
		}
		synctest.Wait()
		if got := a.happened(Refused); got != unreachPerSecond {
			t.Errorf("told %d times in one moment, want %d", got, unreachPerSecond)
		}
		a.mu.Lock()
		e := a.events[0]
		a.mu.Unlock()
		if e.Peer != testIdentity(66).Address() || e.Path.Remote != stockPort {
			t.Errorf("told of %v at %v", e.Peer, e.Path.Remote)
		}
		if len(n.sightings()) != 0 || len(a.Peers()) != 0 || len(a.peers.indices) != 0 {
			t.Error("a stranger was answered or remembered")
		}
		// A clone of this very node is named too, even if someone whitelisted the own address.
		a.known.put(Contact{Address: a.id.Address(), Key: a.id.PublicKey()})
		time.Sleep(2 * time.Second)
		m = strangersInitiation(t, a, 1)
		n.arrive(delivery{from: stockPort, to: ourPort, b: m}, len(m))
		synctest.Wait()
		a.mu.Lock()
		e = a.events[len(a.events)-1]
		a.mu.Unlock()
		if e.Type != Refused || e.Peer != a.id.Address() || len(n.sightings()) != 0 {
			t.Errorf("a clone's handshake: event %v of %v", e.Type, e.Peer)
		}
	})
}

func TestLeavingTheWhitelistEndsTheSessionAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		b.knows(a, "192.0.2.1:5582")
		flowsWithin(t, a, b, time.Second)
		flowsWithin(t, b, a, time.Second)
		held := a.peers.get(b.id.Address()) // as a goroutine may that looked it up just before
		a.known.drop(b.id.Address())
		a.Refresh(b.id.Address())
		if a.happened(PeerDown) != 1 || len(a.Peers()) != 0 || len(a.peers.indices) != 0 || len(a.timers.heap) != 0 {
			t.Errorf("PeerDown %d times, %d peers, %d indices, %d timers", a.happened(PeerDown), len(a.Peers()), len(a.peers.indices), len(a.timers.heap))
		}
		a.received()
		sent := len(n.sightings())
		for i := range uint32(30) {
			b.send(udpPacket(b.id.Address(), a.id.Address(), i, 100))
			a.send(udpPacket(a.id.Address(), b.id.Address(), i, 100))
			time.Sleep(time.Second)
		}
		mustReceiveOnly(t, a, 58)
		mustReceive(t, b)
		for _, x := range n.sightings()[sent:] {
			if x.from == a.port.addr {
				t.Fatalf("a still sends: type %d", x.b[0])
			}
		}
		// Who looked it up just before cannot bring it back to life.
		held.mu.Lock()
		held.adopt(a.Engine, Contact{Address: b.id.Address(), Key: b.id.PublicKey()})
		alive := held.machine != nil
		held.mu.Unlock()
		a.peers.mu.Lock()
		a.peers.addresses[held.address] = held
		a.peers.mu.Unlock()
		a.send(udpPacket(a.id.Address(), b.id.Address(), 1, 100))
		synctest.Wait()
		a.peers.remove(held)
		if alive || a.waiting.Used() != 0 || len(a.timers.heap) != 0 {
			t.Errorf("a removed peer lives: machine %v, %d bytes wait, %d timers", alive, a.waiting.Used(), len(a.timers.heap))
		}
		// Back on the whitelist, all is as before.
		a.knows(b, "192.0.2.2:5582")
		flowsWithin(t, a, b, 6*time.Second)
		flowsWithin(t, b, a, time.Second)
	})
}

// mustReceiveOnly demands that all that came out of hnet0 is of one protocol.
func mustReceiveOnly(t *testing.T, x *node, protocol byte) {
	t.Helper()
	for _, p := range x.received() {
		if p[6] != protocol {
			t.Fatalf("a packet of protocol %d came out", p[6])
		}
	}
}

func TestPacketRacingWithRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 300 {
				a.known.drop(b.id.Address())
				a.Refresh(b.id.Address())
				a.knows(b, "192.0.2.2:5582")
				time.Sleep(time.Microsecond)
			}
		}()
		for i := range uint32(3000) {
			a.send(udpPacket(a.id.Address(), b.id.Address(), i, 100))
			if i%10 == 0 {
				time.Sleep(time.Microsecond)
			}
		}
		<-done
		a.known.drop(b.id.Address())
		a.Refresh(b.id.Address())
		synctest.Wait()
		if a.waiting.Used() != 0 || len(a.peers.indices) != 0 || len(a.timers.heap) != 0 {
			t.Errorf("%d bytes, %d indices, %d timers are left", a.waiting.Used(), len(a.peers.indices), len(a.timers.heap))
		}
	})
}

func TestStrangersAreBoundedWhileTheWhitelistIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		a.known.open = true
		const extra = 20
		address := func(i int) netip.Addr { return openIdentity(i).Address() }
		for i := range maxStrangers + extra {
			id := openIdentity(i)
			local := wireguard.NewLocal(id.PrivateKey(), id.PublicKey(), false)
			p := wireguard.NewPeer(wireguard.PeerConfig{Local: local, Remote: a.id.PublicKey(), Indices: noIndices{}, Stamp: time.Now})
			m, err := p.Initiation(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			n.arrive(delivery{from: stockPort, to: a.port.addr, b: m}, len(m))
			time.Sleep(5 * time.Millisecond)
		}
		if got := len(a.Peers()); got != maxStrangers+1 {
			t.Errorf("%d peers, want %d strangers and the listed one", got, maxStrangers)
		}
		for i := range extra {
			if _, ok := a.Peer(address(i)); ok {
				t.Errorf("stranger %d, the least recently used, is still there", i)
			}
		}
		if _, ok := a.Peer(address(maxStrangers + extra - 1)); !ok {
			t.Error("the newest stranger is not there")
		}
		if got := len(a.peers.indices); got > 2*(maxStrangers+1) {
			t.Errorf("%d indices", got)
		}
		flowsWithin(t, a, b, time.Second)
		// Switched on again, only the listed one stays.
		a.known.open = false
		a.RefreshAll()
		if got := len(a.Peers()); got != 1 {
			t.Errorf("%d peers with the whitelist on", got)
		}
		flowsWithin(t, a, b, time.Second)
	})
}

func openIdentity(i int) *identity.Identity {
	return identity.FromSeed([32]byte{0xff, byte(i), byte(i >> 8)})
}

func TestClonedIdentityAtTwoPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		c := newNode(t, n, 1, "192.0.2.1:5582")
		x := newNode(t, n, 2, "192.0.2.2:5582")
		y := newNode(t, n, 2, "192.0.2.3:5582")
		n.setFilter(delayed(5 * time.Millisecond))
		c.knows(x)
		x.knows(c, "192.0.2.1:5582")
		y.knows(c, "192.0.2.1:5582")
		for i := range uint32(60 * 10) {
			for _, clone := range []*node{x, y} {
				clone.send(udpPacket(clone.id.Address(), c.id.Address(), i, 100))
			}
			c.send(udpPacket(c.id.Address(), x.id.Address(), i, 100))
			time.Sleep(100 * time.Millisecond)
		}
		for _, from := range []*node{c, x, y} {
			if got := n.count(from.port.addr, 1); got > 100 {
				t.Errorf("%v made %d handshakes in a minute", from.port.addr, got)
			}
		}
		if got := len(c.peers.indices); got > 6 {
			t.Errorf("%d indices for one identity", got)
		}
		// When the clone goes, the other is well again.
		y.stop()
		x.received()
		flowsWithin(t, x, c, 20*time.Second)
		flowsWithin(t, c, x, 20*time.Second)
	})
}

func TestKnownPeersCostNothingUntilUsed(t *testing.T) {
	const peers = 1000
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newNode(t, n, 1, ourEndpoint)
		ids := make([]netip.Addr, peers)
		for i := range ids {
			id := openIdentity(i)
			ids[i] = id.Address()
			a.known.put(Contact{Address: id.Address(), Key: id.PublicKey(), Candidates: []netip.AddrPort{stockPort}})
		}
		heap := func() int64 {
			synctest.Wait()
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before := heap()
		a.RefreshAll()
		if got := len(a.Peers()); got != 0 {
			t.Fatalf("%d peers before any was used", got)
		}
		known := heap() - before
		for _, address := range ids {
			if err := a.Connect(address); err != nil {
				t.Fatal(err)
			}
		}
		used := heap() - before
		t.Logf("1,000 known peers: %d bytes; all of them in use: %d each", known, used/peers)
		if known > used/20 {
			t.Errorf("known peers take %d bytes, in use they take %d", known, used)
		}
	})
}

// TestLeavingTheWhitelistDuringTheHandshake: who is removed between the Directory's answer and the peer's entry in the table must not stay.
func TestLeavingTheWhitelistDuringTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		b.known.afterByKey = func() {
			b.known.drop(a.id.Address())
			b.Refresh(a.id.Address())
		}
		a.send(udpPacket(a.id.Address(), b.id.Address(), 1, 100))
		mustReceive(t, b)
		if _, ok := b.Peer(a.id.Address()); ok || n.count(b.port.address(), 2) != 0 {
			t.Error("a peer that left the whitelist during its handshake was let in")
		}
	})
}
