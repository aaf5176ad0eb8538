package server

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// FuzzHandle throws trains of anything at a server with two linked clients. mode says where they come from and whether they are patched up to
// get farther: 1 = from a client's endpoint, 2 = with its session and token, 4 = sealed as control messages of it.
func FuzzHandle(f *testing.F) {
	f.Add([]byte(nil), uint16(0), byte(0))
	f.Add(wire.Hello{}.Append(nil), uint16(0), byte(0))
	f.Add(stun.AppendRequest(nil, [12]byte{}), uint16(0), byte(0))
	relay := make([]byte, 64)
	wire.PutRelay(relay, 0, 0, 3)
	f.Add(relay, uint16(32), byte(3))
	f.Add(wire.Message{Kind: wire.KindPing, Body: make([]byte, 8)}.Append(nil), uint16(0), byte(5))
	f.Add(wire.Message{Kind: wire.KindFilterTest, Body: make([]byte, 12)}.Append(nil), uint16(0), byte(5))
	f.Add(wire.ControlHeader{Counter: 9}.Append(nil), uint16(0), byte(3))
	f.Fuzz(func(t *testing.T, b []byte, segment uint16, mode byte) {
		if len(b) > underlay.MaxRead {
			return
		}
		x := newSim(t, Limits{}, nil)
		a, _ := pair(t, x)
		at := endpointOf(77)
		if mode&1 != 0 {
			at = a.at
		}
		b = slices.Clone(b)
		if mode&2 != 0 && len(b) >= 12 {
			binary.BigEndian.PutUint32(b[4:], a.welcome.Session)
			binary.BigEndian.PutUint32(b[8:], a.welcome.Token)
		}
		if mode&4 != 0 && len(b) > 0 {
			kind := wire.Kind(b[0])
			if !kind.Sequenced() {
				a.say(kind, b[1:])
			} else if a.session.Queue(kind, b[1:min(len(b), wire.MaxBody)]) == nil {
				a.poll()
			}
		} else {
			x.train(at, b, int(segment))
		}
		x.pumpAll()
		if mode&4 == 0 {
			answered := 0
			for _, m := range x.sock.take() {
				if m.Remote == at && !stun.IsMessage(m.Buf) {
					answered += len(m.Buf)
				}
			}
			if answered > len(b) {
				t.Errorf("%d bytes are answered with %d", len(b), answered)
			}
		}
		x.sleep(time.Second)
		if g := x.s.Gauges(); g.UDP > 2 || g.Provisional > 1 || g.Trains != 0 || g.Letters != 0 {
			t.Errorf("%+v", g)
		}
	})
}

// FuzzFrames: what a connection brings, in whatever pieces, is taken apart as one reader of single messages would.
func FuzzFrames(f *testing.F) {
	relay := make([]byte, 40)
	wire.PutRelay(relay, 1, 2, 3)
	var some []byte
	for _, b := range [][]byte{relay, relay, relay[:30], relay, wire.Hello{}.Append(nil), relay} {
		some = appendFrame(some, b)
	}
	f.Add(some, uint16(7), true)
	f.Add(some, uint16(1000), false)
	f.Add([]byte{0, 0}, uint16(1), true)
	f.Add([]byte("GET / HTTP/1.1"), uint16(100), false)
	f.Fuzz(func(t *testing.T, b []byte, piece uint16, registered bool) {
		var want [][]byte
		valid := true
		for rest := b; len(rest) >= frameLen; {
			n := int(binary.BigEndian.Uint16(rest))
			if n == 0 || !registered && n > wire.MaxMessage {
				valid = false
				break
			}
			if len(rest) < frameLen+n {
				break
			}
			want = append(want, rest[frameLen:frameLen+n])
			rest = rest[frameLen+n:]
		}
		r := frames{buf: make([]byte, readBytes)}
		var got [][]byte
		ok := true
		for rest := b; len(rest) > 0 && ok; {
			room := r.room()
			if len(room) == 0 {
				t.Fatal("no room")
			}
			n := copy(room[:min(len(room), 1+int(piece))], rest)
			rest = rest[n:]
			ok = r.take(n, registered, func(b []byte, segment int) {
				if segment == 0 {
					segment = len(b)
				}
				for one := range slices.Chunk(b, segment) {
					got = append(got, slices.Clone(one))
				}
			})
		}
		if ok != valid || !slices.EqualFunc(got, want, slices.Equal[[]byte]) {
			t.Errorf("taken apart to %x (%v), want %x (%v)", got, ok, want, valid)
		}
	})
}
