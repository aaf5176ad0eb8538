package underlay

import (
	"net"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// lightSockets is what port prediction opens.
const lightSockets = 256

// A light socket costs little before it is promoted, of the heap and of the
// kernel, and works.
func TestLight(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		to := listen(t, network)
		out := []Message{{Buf: []byte("hello"), Remote: to.at(network), TTL: 5}}
		in := []Message{{Buf: make([]byte, LightRead)}}
		all := make([]*UDP, 0, lightSockets)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range lightSockets {
			u, err := Listen(network, 0, Options{Light: true, RecvTTL: true})
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			all = append(all, u)
			send(t, u, out...)
			send(t, u, Message{Buf: []byte("answer"), Remote: u.at(network)})
			if _, err := u.ReadBatch(in); err != nil || in[0].N != len("answer") {
				t.Fatalf("%d bytes: %v", in[0].N, err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		each := (int(after.HeapAlloc) - int(before.HeapAlloc)) / lightSockets
		t.Logf("%d bytes of heap for each", each)
		if each > 4096 {
			t.Errorf("%d bytes of heap for each socket", each)
		}
		runtime.KeepAlive(all)
	})
}

// Promoted, a light socket is like one that was never light.
func TestPromote(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		full, from := listen(t, network), listen(t, network)
		ref, err := Listen(network, 0, Options{SendBuffer: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		defer ref.Close()
		u, err := Listen(network, 0, Options{Light: true, SendBuffer: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		for _, key := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
			if got := getsockopt(t, u, unix.SOL_SOCKET, key); got > 4*lightBuffer {
				t.Errorf("a light socket has a buffer of %d bytes", got)
			}
		}
		if got := getsockopt(t, u, unix.IPPROTO_UDP, unix.UDP_GRO); got != 0 {
			t.Error("a light socket joins trains")
		}
		for range 2 {
			if err := u.Promote(); err != nil {
				t.Fatal(err)
			}
		}
		if err := full.Promote(); err != nil {
			t.Errorf("a full socket: %v", err)
		}
		for _, o := range [][2]int{{unix.SOL_SOCKET, unix.SO_RCVBUF}, {unix.SOL_SOCKET, unix.SO_SNDBUF}, {unix.IPPROTO_UDP, unix.UDP_GRO}} {
			if got, want := getsockopt(t, u, o[0], o[1]), getsockopt(t, ref, o[0], o[1]); got != want {
				t.Errorf("option %v of a promoted socket is %d, of a full one %d", o, got, want)
			}
		}
		sent := Message{Buf: randomBytes(14000), Segment: 1400, Remote: u.at(network)}
		send(t, from, sent)
		if _, messages := check(t, u, []Message{sent}); messages != 1 {
			t.Errorf("a train came in %d messages", messages)
		}
		u.Close()
		v, err := Listen(network, 0, Options{Light: true})
		if err != nil {
			t.Fatal(err)
		}
		v.Close()
		if err := v.Promote(); err != net.ErrClosed {
			t.Errorf("after Close: %v", err)
		}
	})
}
