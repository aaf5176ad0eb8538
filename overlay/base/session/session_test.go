package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

// quickPair is a pair whose handshake is left out.
func quickPair() (client, base *Session) {
	up, down := [32]byte{1}, [32]byte{2}
	client, base = newSession(began, up, down, 0x11223344, 0x55667788), newSession(began, down, up, 0x55667788, 0x11223344)
	client.confirmed, base.base = true, true
	return client, base
}

func mustReceive(t testing.TB, s *Session, now time.Time, b []byte) (kinds []wire.Kind) {
	t.Helper()
	if _, err := s.Receive(now, b, func(k wire.Kind, _ []byte) { kinds = append(kinds, k) }); err != nil {
		t.Fatal(err)
	}
	return kinds
}

func queue(t testing.TB, s *Session, body string) {
	t.Helper()
	if err := s.Queue(wire.KindRecord, []byte(body)); err != nil {
		t.Fatal(err)
	}
}

func TestLayout(t *testing.T) {
	client, base := pair(t)
	queue(t, client, "abc")
	up := client.Poll(began)
	if len(up) != 16+4+7+3+16 || !bytes.Equal(up[:16], []byte{0x44, 0, 0, 0, 0x55, 0x66, 0x77, 0x88, 0, 0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("up %x", up)
	}
	plain, err := openWith(&base.receiveKey, 0, up[:16], up[16:])
	if err != nil || !bytes.Equal(plain, []byte{0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 3, 'a', 'b', 'c'}) {
		t.Errorf("plain %x, %v", plain, err)
	}
	mustReceive(t, base, began, up)
	down := base.Unsequenced(began, wire.KindDrain, []byte{0, 9})
	if !bytes.Equal(down[:16], []byte{0x45, 0, 0, 0, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("down %x", down)
	}
	plain, err = openWith(&client.receiveKey, 0, down[:16], down[16:])
	if err != nil || !bytes.Equal(plain, []byte{0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 2, 0, 9}) {
		t.Errorf("plain %x, %v", plain, err)
	}
}

func TestTampering(t *testing.T) {
	client, base := quickPair()
	queue(t, client, "abcdef")
	d := client.Poll(began)
	for i := range d {
		for bit := range 8 {
			bad := bytes.Clone(d)
			bad[i] ^= 1 << bit
			before := *base
			if _, err := base.Receive(began, bad, func(wire.Kind, []byte) { t.Error("delivered") }); err == nil || base.confirmed || base.window != before.window || base.received != before.received {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
	for n := range d {
		if _, err := base.Receive(began, d[:n], nil); err == nil {
			t.Fatalf("%d bytes accepted", n)
		}
	}
	if _, err := base.Receive(began, append(bytes.Clone(d), 0), nil); !errors.Is(err, ErrAuthentic) {
		t.Errorf("a byte more: %v", err)
	}
	if _, err := client.Receive(began, d, nil); !errors.Is(err, ErrSession) {
		t.Errorf("reflected: %v", err)
	}
	whole := bytes.Clone(d)
	if kinds := mustReceive(t, base, began, d); len(kinds) != 1 || !bytes.Equal(d, whole) {
		t.Errorf("%v; changed: %v", kinds, !bytes.Equal(d, whole))
	}
}

func TestReplayWindow(t *testing.T) {
	client, base := pair(t)
	var all [][]byte
	for range 200 {
		all = append(all, client.Unsequenced(began, wire.KindPing, make([]byte, 8)))
	}
	receive := func(i int) (bool, error) { return base.Receive(began, all[i], nil) }
	expect := func(i int, newest bool, want error) {
		t.Helper()
		if got, err := receive(i); got != newest || !errors.Is(err, want) {
			t.Errorf("datagram %d: newest %v, %v", i, got, err)
		}
	}
	expect(5, true, nil)
	expect(5, false, ErrReplay)
	expect(0, false, nil)
	expect(0, false, ErrReplay)
	expect(4, false, nil)
	expect(6, true, nil)
	expect(69, true, nil)
	expect(5, false, ErrReplay) // 64 behind
	expect(7, false, nil)       // 62 behind
	expect(7, false, ErrReplay)
	expect(199, true, nil)
	expect(135, false, ErrReplay)
	expect(136, false, nil)
	expect(199, false, ErrReplay)
	if base.LastHeard() != began {
		t.Error(base.LastHeard())
	}
	// A replay does not count as a sign of life.
	if _, err := base.Receive(began.Add(time.Hour), all[199], nil); err == nil || base.LastHeard() != began {
		t.Errorf("%v, %v", err, base.LastHeard())
	}
}

// The window against a model that remembers everything.
func TestReplayWindowModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		s := &Session{}
		seen, highest := map[uint64]bool{}, int64(-1)
		for range 300 {
			c := uint64(max(0, highest-70+r.Int64N(80)))
			if r.IntN(50) == 0 {
				c += 1000
			}
			want := !seen[c] && int64(c) > highest-replayWindow
			if got := s.fresh(c); got != want {
				t.Fatalf("counter %d after %d: %v", c, highest, got)
			}
			if want && r.IntN(4) > 0 {
				seen[c] = true
				if s.mark(c) != (int64(c) > highest) {
					t.Fatalf("counter %d after %d: newest wrong", c, highest)
				}
				highest = max(highest, int64(c))
			}
		}
		if bits.OnesCount64(s.window) > len(seen) {
			t.Fatal("window holds more than was seen")
		}
	}
	if (&Session{}).fresh(maxCounter) || (&Session{}).fresh(math.MaxUint64) {
		t.Error("counters have no end")
	}
}

// sealed makes a datagram of the client with any plaintext.
func sealed(client *Session, plain []byte) []byte {
	b := wire.ControlHeader{Index: client.remote, Counter: client.counter}.Append(nil)
	return client.seal(append(b, plain...))
}

func TestMalformed(t *testing.T) {
	ping := "\x00\x00\x00\x00\x01\x00\x08........"
	for name, plain := range map[string]string{
		"acknowledges what was not sent":  "\x00\x00\x00\x01",
		"half a header":                   "\x00\x00\x00\x00\x00",
		"body beyond the end":             "\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x08.......",
		"the second body beyond the end":  "\x00\x00\x00\x00" + ping + "\x00\x00\x00\x00\x01\x00\x09........",
		"sequenced ping":                  "\x00\x00\x00\x00\x00\x00\x00\x01\x01\x00\x08........",
		"record without a number":         "\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x01.",
		"good, then one without a number": "\x00\x00\x00\x00\x00\x00\x00\x01\x03\x00\x01." + "\x00\x00\x00\x00\x03\x00\x01.",
	} {
		client, base := pair(t)
		if _, err := base.Receive(began, sealed(client, []byte(plain)), func(wire.Kind, []byte) { t.Errorf("%s: delivered", name) }); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if base.delivered != 0 || base.Poll(began.Add(time.Second)) != nil {
			t.Errorf("%s: has an effect", name)
		}
	}
}

// Kinds of later versions are skipped, with a number or without, and acknowledged.
func TestUnknownKinds(t *testing.T) {
	client, base := pair(t)
	plain := "\x00\x00\x00\x00" + "\x00\x00\x00\x00\x63\x00\x01." + "\x00\x00\x00\x01\x06\x00\x00" + "\x00\x00\x00\x02\x03\x00\x01x"
	if kinds := mustReceive(t, base, began, sealed(client, []byte(plain))); len(kinds) != 1 || kinds[0] != wire.KindRecord {
		t.Errorf("%v", kinds)
	}
	if base.delivered != 2 {
		t.Errorf("delivered up to %d", base.delivered)
	}
}

func TestQueueRefuses(t *testing.T) {
	client, _ := pair(t)
	if err := client.Queue(wire.KindPing, nil); !errors.Is(err, ErrKind) {
		t.Error(err)
	}
	if err := client.Queue(wire.KindRecord, make([]byte, wire.MaxBody+1)); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	if client.Unsequenced(began, wire.KindRecord, nil) != nil || client.Unsequenced(began, wire.KindPing, make([]byte, wire.MaxBody+1)) != nil {
		t.Error("sealed what may not be")
	}
	for i := range MaxQueued {
		if err := client.Queue(wire.KindRecord, []byte("x")); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := client.Queue(wire.KindRecord, nil); !errors.Is(err, ErrFull) || client.Room(0) {
		t.Error(err)
	}
	client, _ = pair(t)
	n := 0
	for client.Queue(wire.KindRecord, make([]byte, wire.MaxBody)) == nil {
		n++
	}
	if n != MaxQueuedBytes/(wire.MaxBody+7) || client.Room(wire.MaxBody) || client.Queued() != n {
		t.Errorf("%d long messages", n)
	}
	client.assigned = math.MaxUint32
	if err := client.Queue(wire.KindRecord, nil); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}

// The longest datagram is as long as may be, and no longer.
func TestLongest(t *testing.T) {
	client, base := pair(t)
	if err := client.Queue(wire.KindInterest, make([]byte, wire.MaxBody)); err != nil {
		t.Fatal(err)
	}
	queue(t, client, "next")
	d := client.Poll(began)
	if len(d) != wire.MaxControlLen || len(mustReceive(t, base, began, d)) != 1 {
		t.Errorf("%d bytes", len(d))
	}
	if d = client.Poll(began); len(mustReceive(t, base, began, d)) != 1 {
		t.Errorf("%x", d)
	}
	if d = client.Unsequenced(began, wire.KindPing, make([]byte, wire.MaxBody)); len(d) != wire.MaxControlLen {
		t.Errorf("%d bytes", len(d))
	}
}

func TestAcknowledgements(t *testing.T) {
	client, base := pair(t)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	if !client.Next().IsZero() || client.Poll(began) != nil {
		t.Error("an idle session wants something")
	}
	queue(t, client, "1")
	if client.Next().After(began) {
		t.Error("a new message waits")
	}
	first := client.Poll(at(0))
	if next := client.Next(); next != at(250) || client.Poll(at(249)) != nil {
		t.Errorf("resends at %v", next)
	}
	mustReceive(t, base, at(10), first)
	if next := base.Next(); next != at(60) || base.Poll(at(59)) != nil {
		t.Errorf("acknowledges at %v", next)
	}
	ack := base.Poll(at(60))
	if len(ack) != wire.MinControlLen || base.Poll(at(60)) != nil || !base.Next().IsZero() {
		t.Errorf("acknowledgement %x", ack)
	}
	mustReceive(t, client, at(70), ack)
	if client.Queued() != 0 || client.out != nil || !client.Next().IsZero() {
		t.Error("not acknowledged")
	}

	// Whatever goes back carries it.
	queue(t, client, "2")
	mustReceive(t, base, at(100), client.Poll(at(100)))
	mustReceive(t, client, at(101), base.Unsequenced(at(101), wire.KindPing, make([]byte, 8)))
	if client.Queued() != 0 || base.Poll(at(1000)) != nil {
		t.Error("not piggy-backed")
	}

	// Every second datagram is acknowledged at once.
	for range 2 {
		queue(t, client, "3")
		mustReceive(t, base, at(1100), client.Poll(at(1100)))
	}
	if d := base.Poll(at(1100)); d == nil {
		t.Error("waits with two")
	}

	// So is a repetition: the other side missed the last acknowledgement.
	again := client.Poll(at(1350))
	if again == nil {
		t.Fatal("not repeated")
	}
	if kinds := mustReceive(t, base, at(1351), again); len(kinds) != 0 {
		t.Errorf("delivered twice: %v", kinds)
	}
	if d := base.Poll(at(1351)); d == nil {
		t.Error("a repetition waits")
	} else if mustReceive(t, client, at(1352), d); client.Queued() != 0 {
		t.Error("not acknowledged")
	}
}

// 250 ms, doubling to 4 s; after 30 s the session is dead.
func TestRepetition(t *testing.T) {
	client, _ := pair(t)
	queue(t, client, "x")
	var sent []time.Duration
	now := began
	for !client.Dead(now) {
		for d := client.Poll(now); d != nil; d = client.Poll(now) {
			sent = append(sent, now.Sub(began))
		}
		next := client.Next()
		if !next.After(now) {
			t.Fatalf("at %v: next %v", now, next)
		}
		now = next
	}
	want := []time.Duration{0, 250, 750, 1750, 3750, 7750, 11750, 15750, 19750, 23750, 27750}
	if len(sent) != len(want) || now != began.Add(giveUp) {
		t.Fatalf("sent at %v, dead at %v", sent, now.Sub(began))
	}
	for i := range want {
		if sent[i] != want[i]*time.Millisecond {
			t.Errorf("sent at %v, want %v", sent[i], want[i]*time.Millisecond)
		}
	}
	if client.Poll(now) != nil {
		t.Error("a dead session speaks")
	}
	client, _ = pair(t)
	client.SetStream()
	queue(t, client, "x")
	client.Poll(began)
	if next := client.Next(); next != began.Add(streamRTO) {
		t.Errorf("on a stream again at %v", next)
	}
}

// The round trip of handshake and messages makes the RTO longer, repetitions do not count, and a long silence leaves no more than 4 s.
func TestRoundTrip(t *testing.T) {
	b := newBoth(t)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	welcome, base, _ := b.accept(at(600), b.registered(began))
	client, _, err := b.client.HandleWelcome(at(1200), welcome)
	if err != nil {
		t.Fatal(err)
	}
	mustReceive(t, base, at(1900), client.Unsequenced(at(1200), wire.KindPing, nil))
	if client.rtt != 1200*time.Millisecond || base.rtt != 1300*time.Millisecond {
		t.Errorf("round trips %v and %v", client.rtt, base.rtt)
	}
	queue(t, client, "1")
	mustReceive(t, base, at(2100), client.Poll(at(2000)))
	if next := client.Next(); next != at(4400) {
		t.Errorf("again at %v", next.Sub(began))
	}
	mustReceive(t, client, at(2400), base.Poll(at(2200)))
	if client.rtt != 1100*time.Millisecond {
		t.Errorf("round trip %v", client.rtt)
	}
	queue(t, client, "2")
	client.Poll(at(3000))
	again := client.Poll(at(5200))
	mustReceive(t, base, at(5300), again)
	mustReceive(t, client, at(5400), base.Poll(at(5350)))
	if client.rtt != 1100*time.Millisecond || client.Queued() != 0 {
		t.Errorf("round trip %v", client.rtt)
	}
	client.rtt = 0
	client.roundTrip(time.Hour)
	if client.firstRTO() != maxRTO {
		t.Errorf("RTO %v", client.firstRTO())
	}
}

// At most eight datagrams are under way; after a silence one alone asks.
func TestWindow(t *testing.T) {
	client, base := pair(t)
	for range 20 {
		if err := client.Queue(wire.KindRecord, make([]byte, 900)); err != nil {
			t.Fatal(err)
		}
	}
	burst := func(now time.Time) (all [][]byte) {
		for d := client.Poll(now); d != nil; d = client.Poll(now) {
			all = append(all, d)
		}
		return all
	}
	first := burst(began)
	if len(first) != sendWindow {
		t.Fatalf("%d datagrams", len(first))
	}
	now := client.Next()
	if again := burst(now); len(again) != 1 {
		t.Fatalf("%d datagrams after the silence", len(again))
	}
	// The first burst arrives after all: its acknowledgement sets all right, with the window opening again.
	for _, d := range first {
		mustReceive(t, base, now, d)
	}
	mustReceive(t, client, now, base.Poll(now))
	if client.Queued() != 12 {
		t.Errorf("%d queued", client.Queued())
	}
	if next := burst(now); len(next) != 2 {
		t.Errorf("%d datagrams after the answer", len(next))
	}
}

// A client that leaves gaps makes a Base hold little, and not for long.
func TestEarlyIsBounded(t *testing.T) {
	client, base := pair(t)
	numbered := func(sequence uint32, n int) []byte {
		return sealed(client, wire.Message{Sequence: sequence, Kind: wire.KindRecord, Body: make([]byte, n)}.Append(make([]byte, 4)))
	}
	for i := range uint32(1000) {
		mustReceive(t, base, began, numbered(2+i%100, 0))
	}
	if n := len(base.early.messages); n != MaxQueued-1 {
		t.Errorf("%d early messages", n)
	}
	if next := base.Poll(began); next == nil || base.Next() != began.Add(earlyFor) {
		t.Errorf("then at %v", base.Next())
	}
	if base.Poll(began.Add(earlyFor)); base.early != nil || !base.Next().IsZero() {
		t.Error("not dropped")
	}
	for i := range uint32(60) {
		mustReceive(t, base, began, numbered(2+i, 1000))
	}
	if base.early.bytes != 8000 {
		t.Errorf("%d early bytes", base.early.bytes)
	}
	if kinds := mustReceive(t, base, began, numbered(1, 10)); len(kinds) != 9 || base.early != nil || base.delivered != 9 {
		t.Errorf("%d delivered when the gap closed, up to %d", len(kinds), base.delivered)
	}
	if kinds := mustReceive(t, base, began, numbered(9, 1)); len(kinds) != 0 {
		t.Error("delivered twice")
	}
}

// deliver may queue and seal.
func TestReentrance(t *testing.T) {
	client, base := pair(t)
	queue(t, client, "1")
	var pong []byte
	if _, err := base.Receive(began, client.Poll(began), func(k wire.Kind, body []byte) {
		if err := base.Queue(wire.KindPeer, body); err != nil {
			t.Error(err)
		}
		pong = base.Unsequenced(began, wire.KindPong, nil)
	}); err != nil {
		t.Fatal(err)
	}
	mustReceive(t, client, began, pong)
	if client.Queued() != 0 {
		t.Error("the pong does not acknowledge what it answers")
	}
	if kinds := mustReceive(t, client, began, base.Poll(began)); len(kinds) != 1 || kinds[0] != wire.KindPeer {
		t.Errorf("%v", kinds)
	}
}

// 100,000 idle sessions must fit a Base.
func TestIdleMemory(t *testing.T) {
	const n = 2000
	all := make([]*Session, n)
	before := heap()
	for i := range all {
		s := newSession(began, [32]byte{byte(i)}, [32]byte{byte(i >> 8)}, uint32(i), uint32(i))
		s.base, s.welcome = true, make([]byte, wire.WelcomeLen)
		all[i] = s
	}
	// One that has spoken, both ways, is idle again.
	client, base := pair(t)
	for i, s := range all {
		if i%100 > 0 {
			s.confirmed, s.welcome = true, nil
			continue
		}
		peer := *client
		*s = *base
		if err := s.Queue(wire.KindPeer, make([]byte, 400)); err != nil {
			t.Fatal(err)
		}
		mustReceive(t, s, began, peer.Unsequenced(began, wire.KindPing, make([]byte, 8)))
		mustReceive(t, &peer, began, s.Poll(began))
		mustReceive(t, s, began, peer.Poll(began.Add(time.Second)))
	}
	each := (heap() - before) / n
	t.Logf("%d bytes for each idle session, %d of them the struct", each, unsafe.Sizeof(Session{}))
	if each > 600 {
		t.Errorf("%d bytes for each idle session, 600 at most", each)
	}
	runtime.KeepAlive(all)
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func FuzzReceive(f *testing.F) {
	f.Fuzz(func(t *testing.T, plain []byte) {
		if len(plain) > wire.MaxPlaintext {
			return
		}
		client, base := quickPair()
		queue(t, base, "waits")
		base.Poll(began)
		// As it came: a stranger's.
		if _, err := base.Receive(began, plain, func(wire.Kind, []byte) { t.Error("delivered a stranger's") }); err == nil {
			t.Error("accepted a stranger's")
		}
		// Sealed: a bad client's.
		total := 0
		_, err := base.Receive(began, sealed(client, plain), func(k wire.Kind, body []byte) {
			if !k.Known() {
				t.Errorf("delivered %v", k)
			}
			total += wire.MessageHeaderLen + len(body)
		})
		if err != nil && total > 0 || total > len(plain) {
			t.Errorf("%d bytes delivered of %d, %v", total, len(plain), err)
		}
		if err == nil && len(plain) >= 4 && (binary.BigEndian.Uint32(plain) == 1) != (base.Queued() == 0) {
			t.Errorf("%d queued after %x", base.Queued(), plain[:4])
		}
		for now := began; !base.Next().IsZero() && !base.Dead(now); now = base.Next() {
			base.Poll(now)
		}
	})
}

func BenchmarkPing(b *testing.B) {
	client, base := pair(b)
	body := make([]byte, 8)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := base.Receive(began, client.Unsequenced(began, wire.KindPing, body), nil); err != nil {
			b.Fatal(err)
		}
	}
}
