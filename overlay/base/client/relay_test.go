package client

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

var testEndpoint = netip.MustParseAddrPort("203.0.113.1:5582")

// testRelay returns a Relay on channel 7, and the table that finds it.
func testRelay(stream conduit, send func([]underlay.Message) (int, error)) (*Relay, *ways) {
	w := &way{base: testIdentity(1).Address(), index: 10, session: 11, token: 12, endpoint: testEndpoint, stream: stream, send: send, wake: func() {}}
	r := &Relay{way: w, peer: testIdentity(2).Address(), channel: 7}
	w.set(7, r)
	t := new(ways)
	t.add(&way{index: 9})
	t.add(w)
	return r, t
}

// train is n datagrams of a size, the last one shorter, with headroom.
func train(n, size, last int) underlay.Message {
	m := underlay.Message{Segment: size, Headroom: wire.RelayHeaderLen, TOS: 3, Local: underlay.Source{Interface: 2}}
	for i := range n {
		if i == n-1 {
			size = last
		}
		m.Buf = append(m.Buf, make([]byte, wire.RelayHeaderLen)...)
		m.Buf = append(m.Buf, bytes.Repeat([]byte{byte(i + 1)}, size)...)
	}
	return m
}

func TestSendKeepsTrainsWhole(t *testing.T) {
	var sent []underlay.Message
	r, _ := testRelay(nil, func(ms []underlay.Message) (int, error) {
		sent = append([]underlay.Message(nil), ms...)
		return 1, io.ErrShortWrite
	})
	single := train(1, 50, 50)
	single.Segment = 0
	trains := []underlay.Message{train(5, 100, 30), single}
	before := trains[0]
	if n, err := r.Send(trains); n != 1 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("%d, %v", n, err)
	}
	if trains[0].Segment != before.Segment || trains[0].Headroom != before.Headroom {
		t.Error("the caller's train is changed")
	}
	if len(sent) != 2 || sent[0].Segment != 116 || sent[0].Headroom != 0 || sent[0].Remote != testEndpoint || sent[0].TOS != 3 || sent[0].Local.Interface != 2 ||
		sent[1].Segment != 0 || sent[1].Headroom != 0 || len(sent[1].Buf) != 66 {
		t.Fatalf("%+v", sent)
	}
	for i := range 5 {
		b := sent[0].Buf[i*116 : min((i+1)*116, len(sent[0].Buf))]
		session, token, channel, ok := wire.ParseRelay(b)
		if !ok || session != 11 || token != 12 || channel != 7 || b[16] != byte(i+1) || i == 4 && len(b) != 46 {
			t.Errorf("datagram %d: %x", i, b)
		}
	}
	// What is no train of ours changes nothing.
	odd := underlay.Message{Buf: make([]byte, 5), Headroom: 3, Segment: 1}
	_, _ = r.Send([]underlay.Message{odd, {}, {Headroom: wire.RelayHeaderLen, Segment: 10}, {Buf: make([]byte, 10), Headroom: wire.RelayHeaderLen}})
	if !bytes.Equal(odd.Buf, make([]byte, 5)) {
		t.Error("labelled what has no room for it")
	}
}

func TestRelayed(t *testing.T) {
	r, table := testRelay(nil, nil)
	b := append(make([]byte, wire.RelayHeaderLen), "inner"...)
	wire.PutRelayed(b, 10, 7)
	if got, inner := table.relayed(b, testEndpoint, nil); got != r || string(inner) != "inner" {
		t.Errorf("%v %q", got, inner)
	}
	if !r.way.active.Load() || r.way.heard.Load() != 1 {
		t.Error("not noted")
	}
	for name, change := range map[string]func() ([]byte, netip.AddrPort, conduit){
		"another endpoint": func() ([]byte, netip.AddrPort, conduit) { return b, netip.MustParseAddrPort("203.0.113.1:1"), nil },
		"a stream":         func() ([]byte, netip.AddrPort, conduit) { return b, netip.AddrPort{}, new(stream) },
		"no inner":         func() ([]byte, netip.AddrPort, conduit) { return b[:16], testEndpoint, nil },
		"nothing":          func() ([]byte, netip.AddrPort, conduit) { return nil, testEndpoint, nil },
		"no such index":    func() ([]byte, netip.AddrPort, conduit) { wire.PutRelayed(b, 1, 7); return b, testEndpoint, nil },
		"no such channel":  func() ([]byte, netip.AddrPort, conduit) { wire.PutRelayed(b, 10, 8); return b, testEndpoint, nil },
		"a huge channel":   func() ([]byte, netip.AddrPort, conduit) { wire.PutRelayed(b, 10, 1<<32-1); return b, testEndpoint, nil },
		"a quiet way":      func() ([]byte, netip.AddrPort, conduit) { wire.PutRelayed(b, 9, 7); return b, testEndpoint, nil },
	} {
		if got, inner := table.relayed(change()); got != nil || inner != nil {
			t.Errorf("%s: %v %q", name, got, inner)
		}
	}
	table.remove(r.way)
	wire.PutRelayed(b, 10, 7)
	if got, _ := table.relayed(b, testEndpoint, nil); got != nil {
		t.Error("found after it was removed")
	}
}

func TestHotPathsAllocateNothing(t *testing.T) {
	r, table := testRelay(nil, func(ms []underlay.Message) (int, error) { return len(ms), nil })
	r.way.pace.init(time.Now(), 1_000_000)
	trains := []underlay.Message{train(40, 1400, 1400), train(3, 100, 10)}
	b := append(make([]byte, wire.RelayHeaderLen), "inner"...)
	wire.PutRelayed(b, 10, 7)
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		r.Refuse(now, 60000)
		_, _ = r.Send(trains)
		table.relayed(b, testEndpoint, nil)
	}); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}

func TestManyChannels(t *testing.T) {
	w := &way{}
	for i := uint32(1); i <= maxInterests; i++ {
		w.set(i, &Relay{way: w, channel: i})
	}
	w.set(60_000, nil)
	for i := uint32(1); i <= maxInterests; i++ {
		if r := w.at(i); r == nil || r.channel != i {
			t.Fatalf("channel %d: %v", i, r)
		}
	}
	if w.at(0) != nil || w.at(maxInterests+1) != nil {
		t.Error("a Relay where none is")
	}
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := testRelay(nil, func(ms []underlay.Message) (int, error) { return len(ms), nil })
		r.way.pace.init(time.Now(), 8000) // 1 MB/s
		m := []underlay.Message{train(40, 1400, 1400)}
		start, sent := time.Now(), 0
		for time.Since(start) < 10*time.Second {
			until, refused := r.Refuse(time.Now(), len(m[0].Buf))
			if refused {
				if !until.After(time.Now()) {
					t.Fatalf("ask again at %v", until)
				}
				time.Sleep(time.Until(until))
				continue
			}
			_, _ = r.Send(m)
			sent += len(m[0].Buf)
		}
		if want := 10_000_000 + paceBurst; sent > want+2*len(m[0].Buf) || sent < want*9/10 {
			t.Errorf("%d bytes in 10 s", sent)
		}
	})
}

// A connection that takes nothing: the Relay refuses, nothing blocks, and control gives up in the end.
func TestStuckStream(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	s := newStream(ours)
	written := make(chan struct{})
	go func() { s.write(); close(written) }()
	r, _ := testRelay(s, nil)
	for range 100 {
		if n, err := r.Send([]underlay.Message{train(40, 1400, 1400)}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if until, refused := r.Refuse(time.Now(), 1); !refused || !until.After(time.Now()) {
		t.Error("takes more")
	}
	if n := s.waiting(); n > 2*maxQueued {
		t.Errorf("%d bytes wait", n)
	}
	for range 1000 {
		s.control(make([]byte, 1000))
	}
	if err := s.read(nil, nil); !errors.Is(err, errStuck) {
		t.Errorf("ended by %v", err)
	}
	<-written
	if _, err := r.Send([]underlay.Message{train(1, 10, 10)}); err != nil {
		t.Error(err)
	}
}

func TestStreamFrames(t *testing.T) {
	ours, theirs := net.Pipe()
	s := newStream(ours)
	go s.write()
	r, _ := testRelay(s, nil)
	s.control([]byte("control"))
	_, _ = r.Send([]underlay.Message{train(2, 100, 30)})
	b := make([]byte, 2+7+2+116+2+46)
	if _, err := io.ReadFull(theirs, b); err != nil {
		t.Fatal(err)
	}
	if string(b[:9]) != "\x00\x07control" || b[9] != 0 || b[10] != 116 || b[11] != byte(wire.TypeRelay) || b[127] != 0 || b[128] != 46 {
		t.Errorf("%x", b)
	}
	go func() {
		inner := append(make([]byte, wire.RelayHeaderLen), "inner"...)
		wire.PutRelayed(inner, 10, 7)
		for _, m := range [][]byte{inner, wire.Cookie{}.Append(nil), []byte("nonsense"), {}} {
			_, _ = theirs.Write(append([]byte{0, byte(len(m))}, m...))
		}
	}()
	var relayed, control int
	err := s.read(func([]byte) { relayed++ }, func([]byte) { control++ })
	if relayed != 1 || control != 1 || !errors.Is(err, errFrame) {
		t.Errorf("%d relayed, %d control, %v", relayed, control, err)
	}
}

// What is urgent is still written when a stream is closed.
func TestStreamTakesLeave(t *testing.T) {
	ours, theirs := net.Pipe()
	s := newStream(ours)
	s.control([]byte("bye"))
	s.close()
	go s.write()
	b, _ := io.ReadAll(theirs)
	if string(b) != "\x00\x03bye" {
		t.Errorf("%q", b)
	}
}
