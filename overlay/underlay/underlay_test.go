package underlay

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loopback are the addresses of this host that need no set-up.
var loopback = map[string]netip.Addr{"udp4": netip.MustParseAddr("127.0.0.1"), "udp6": netip.IPv6Loopback()}

// each runs a test for both address families.
func each(t *testing.T, f func(t *testing.T, network string)) {
	for _, network := range []string{"udp4", "udp6"} {
		t.Run(network, func(t *testing.T) {
			if network == "udp6" {
				if c, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
					t.Skipf("no IPv6 on the loopback interface: %v", err)
				} else {
					c.Close()
				}
			}
			f(t, network)
		})
	}
}

func listen(t testing.TB, network string) *UDP {
	t.Helper()
	u, err := Listen(network, 0, Options{RecvBuffer: 4 << 20, SendBuffer: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	if os.Geteuid() == 0 {
		setsockopt(t, u, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	}
	// A test that waits for what never comes fails instead of hanging.
	patience := 10 * time.Second
	if _, ok := t.(*testing.B); ok {
		patience = time.Minute
	}
	deadline := time.AfterFunc(patience, func() { u.Close() })
	t.Cleanup(func() { deadline.Stop() })
	return u
}

// at is where u is reached on this host.
func (u *UDP) at(network string) netip.AddrPort {
	return netip.AddrPortFrom(loopback[network], u.port)
}

func room(n int) []Message {
	ms := make([]Message, n)
	for i := range ms {
		ms[i].Buf = make([]byte, MaxRead)
	}
	return ms
}

// received is one datagram after the train was cut.
type received struct {
	data   []byte
	remote netip.AddrPort
	local  Source
	tos    byte
}

// receive reads n datagrams, and returns how many messages they came in.
func receive(t testing.TB, u *UDP, n int) (all []received, messages int) {
	t.Helper()
	ms := room(16)
	for len(all) < n {
		got, err := u.ReadBatch(ms)
		if err != nil {
			t.Fatalf("after %d of %d datagrams: %v", len(all), n, err)
		}
		messages += got
		for _, m := range ms[:got] {
			size := m.Segment
			if size == 0 {
				size = max(1, m.N)
			}
			if m.N == 0 {
				all = append(all, received{nil, m.Remote, m.Local, m.TOS})
			}
			for d := range slices.Chunk(m.Buf[:m.N], size) {
				all = append(all, received{slices.Clone(d), m.Remote, m.Local, m.TOS})
			}
		}
	}
	if len(all) > n {
		t.Fatalf("%d datagrams, want %d", len(all), n)
	}
	return all, messages
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b)
	return b
}

// datagrams is what of m goes on the wire.
func datagrams(m Message) [][]byte {
	if m.Segment == 0 {
		return [][]byte{m.Buf[m.Headroom:]}
	}
	var all [][]byte
	for d := range slices.Chunk(m.Buf, m.Headroom+m.Segment) {
		all = append(all, d[m.Headroom:])
	}
	return all
}

func check(t testing.TB, u *UDP, sent []Message) (got []received, messages int) {
	t.Helper()
	var want [][]byte
	for _, m := range sent {
		want = append(want, datagrams(m)...)
	}
	got, messages = receive(t, u, len(want))
	for i := range want {
		if !bytes.Equal(got[i].data, want[i]) {
			t.Fatalf("datagram %d: %d bytes are not the %d sent", i, len(got[i].data), len(want[i]))
		}
	}
	return got, messages
}

func TestTrains(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		a, b := listen(t, network), listen(t, network)
		for _, test := range []struct{ bytes, segment, headroom int }{
			{0, 0, 0}, {1, 0, 0}, {1400, 0, 0}, {65507, 0, 0}, {1440, 0, 40},
			{1, 1, 0}, {1400, 1400, 0}, {100, 1400, 0}, {1401, 1400, 0}, {1400 * 46, 1400, 0}, {1400*30 + 7, 1400, 0},
			{300 * 100, 100, 0}, {140 * 1400, 1400, 0}, {65, 1, 0}, {40000, 20000, 0}, {120000, 40000, 0},
			{(40 + 1400) * 20, 1400, 40}, {(40+1400)*20 + 41, 1400, 40}, {(8 + 100) * 150, 100, 8}, {700 * 2, 1, 1},
		} {
			t.Run(fmt.Sprint(test), func(t *testing.T) {
				m := Message{Buf: randomBytes(test.bytes), Segment: test.segment, Headroom: test.headroom, Remote: b.at(network)}
				sent := []Message{m}
				if n, err := a.WriteBatch(sent); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				got, messages := check(t, b, sent)
				if want := netip.AddrPortFrom(loopback[network], a.port); got[0].remote != want {
					t.Errorf("from %v, want %v", got[0].remote, want)
				}
				if n := len(got); n > 1 && test.segment < 10000 && messages > 1+n/32 {
					t.Errorf("%d datagrams came in %d messages: the offload did not work", n, messages)
				}
			})
		}
	})
}

// More messages than one system call takes, of all kinds, arrive in order.
func TestBatches(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		a, b := listen(t, network), listen(t, network)
		r := rand.New(rand.NewPCG(1, 2))
		for round := range 20 {
			var sent []Message
			total := 0
			for len(sent) < 120 && total < 150_000 {
				m := Message{Buf: randomBytes(1 + r.IntN(3000)), Remote: b.at(network)}
				if r.IntN(3) == 0 {
					m.Segment = 30 + r.IntN(1000)
					if r.IntN(2) == 0 {
						m.Headroom = 16
						if rest := len(m.Buf) % (m.Segment + 16); rest > 0 && rest <= 16 {
							m.Buf = m.Buf[rest:]
						}
						if len(m.Buf) == 0 {
							continue
						}
					}
				}
				total += len(m.Buf)
				sent = append(sent, m)
			}
			done := make(chan error)
			go func() {
				n, err := a.WriteBatch(sent)
				if err == nil && n != len(sent) {
					err = fmt.Errorf("%d of %d sent", n, len(sent))
				}
				done <- err
			}()
			check(t, b, sent)
			if err := <-done; err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
	})
}

// The traffic class, and the address at this end, are seen and can be chosen.
func TestTrafficClassAndSource(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		a, b := listen(t, network), listen(t, network)
		lo, err := net.InterfaceByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		source := Source{loopback[network], uint32(lo.Index)}
		if network == "udp4" {
			source.Addr = netip.MustParseAddr("127.0.0.77")
		}
		for _, tos := range []byte{0, 1, 2, 3, 0xb8, 0xbb} {
			for _, local := range []Source{{}, source, {Addr: source.Addr}, {Interface: source.Interface}} {
				sent := []Message{{Buf: randomBytes(3000), Segment: 1000, Remote: b.at(network), TOS: tos, Local: local}}
				if n, err := a.WriteBatch(sent); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				got, _ := check(t, b, sent)
				if sent[0].Local != local {
					t.Errorf("source %v was taken for dead", local)
				}
				if got[0].tos != tos {
					t.Errorf("traffic class %#x arrived as %#x", tos, got[0].tos)
				}
				if local.Addr.IsValid() && got[0].remote.Addr() != local.Addr {
					t.Errorf("source %v arrived as %v", local, got[0].remote)
				}
				if want := (Source{loopback[network], uint32(lo.Index)}); got[0].local != want {
					t.Errorf("arrived on %v, want %v", got[0].local, want)
				}
			}
		}
	})
}

func TestListen(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		u := listen(t, network)
		if u.LocalPort() == 0 {
			t.Error("no port")
		}
		if network == "udp4" { // so that links with a small MTU get fragments
			if got := getsockopt(t, u, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER); got != unix.IP_PMTUDISC_DONT {
				t.Errorf("IP_MTU_DISCOVER is %d", got)
			}
		}
		if _, err := Listen(network, u.LocalPort(), Options{}); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a taken port: %v", err)
		}
		other := map[string]string{"udp4": "udp6", "udp6": "udp4"}[network]
		v, err := Listen(other, u.LocalPort(), Options{})
		if err != nil {
			t.Fatalf("the same port of the other family: %v", err)
		}
		v.Close()
	})
	if _, err := Listen("tcp", 0, Options{}); err == nil {
		t.Error("network tcp was taken")
	}
}

func TestClose(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		u := listen(t, network)
		read := make(chan error)
		go func() {
			_, err := u.ReadBatch(room(1))
			read <- err
		}()
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("read: %v", err)
		}
		if _, err := u.WriteBatch([]Message{{Buf: make([]byte, 1), Remote: u.at(network)}}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write: %v", err)
		}
	})
}

func TestReadWithoutRoom(t *testing.T) {
	u := listen(t, "udp4")
	if _, err := u.ReadBatch(nil); err == nil {
		t.Error("reading into nothing")
	}
	ms := []Message{{Buf: make([]byte, 100)}}
	for _, size := range []int{101, 100} {
		if _, err := u.WriteBatch([]Message{{Buf: make([]byte, size), Remote: u.at("udp4")}}); err != nil {
			t.Fatal(err)
		}
		n, err := u.ReadBatch(ms)
		if n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if want := map[int]int{101: 0, 100: 100}[size]; ms[0].N != want {
			t.Errorf("%d bytes into room for 100: N = %d, want %d", size, ms[0].N, want)
		}
	}
}

// The message that cannot be sent is named; what is before it was sent, what
// is after it can be.
func TestWriteErrors(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		a, b := listen(t, network), listen(t, network)
		foreign := netip.AddrPortFrom(loopback[map[string]string{"udp4": "udp6", "udp6": "udp4"}[network]], 9)
		good := Message{Buf: []byte("good"), Remote: b.at(network)}
		with := func(change func(m *Message)) Message {
			m := good
			change(&m)
			return m
		}
		for name, test := range map[string]struct {
			m    Message
			want error
		}{
			"too large":         {with(func(m *Message) { m.Buf = make([]byte, 65536) }), syscall.EMSGSIZE},
			"segment too large": {with(func(m *Message) { m.Buf = make([]byte, 140000); m.Segment = 70000 }), syscall.EMSGSIZE},
			"no remote":         {with(func(m *Message) { m.Remote = netip.AddrPort{} }), nil},
			"no port":           {with(func(m *Message) { m.Remote = netip.AddrPortFrom(m.Remote.Addr(), 0) }), nil},
			"other family":      {with(func(m *Message) { m.Remote = foreign }), nil},
			"empty train":       {with(func(m *Message) { m.Buf = nil; m.Segment = 10 }), syscall.EINVAL},
			"headroom only":     {with(func(m *Message) { m.Headroom = 3; m.Segment = 1; m.Buf = make([]byte, 5) }), syscall.EINVAL},
			"headroom beyond":   {with(func(m *Message) { m.Headroom = 5 }), syscall.EINVAL},
			"negative headroom": {with(func(m *Message) { m.Headroom = -1 }), syscall.EINVAL},
			"negative segment":  {with(func(m *Message) { m.Segment = -1 }), syscall.EINVAL},
		} {
			t.Run(name, func(t *testing.T) {
				sent := []Message{good, good, test.m, good}
				n, err := a.WriteBatch(sent)
				if n != 2 || err == nil {
					t.Fatalf("%d sent, error %v", n, err)
				}
				if test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("error %v, want %v", err, test.want)
				}
				if n, err := a.WriteBatch(sent[3:]); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				check(t, b, []Message{good, good, good})
			})
		}
		if n, err := a.WriteBatch(nil); n != 0 || err != nil {
			t.Errorf("nothing: %d, %v", n, err)
		}
	})
	u := listen(t, "udp6")
	_, err := u.WriteBatch([]Message{{Buf: []byte{1}, Remote: netip.MustParseAddrPort("[fe80::1%eth0]:9")}})
	if err == nil {
		t.Error("a zone that is no number was taken")
	}
}

// setsockopt sets an option of u.
func setsockopt(t testing.TB, u *UDP, level, key, value int) {
	t.Helper()
	raw, err := u.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, key, value) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
}

// getsockopt returns an option of u.
func getsockopt(t testing.TB, u *UDP, level, key int) (value int) {
	t.Helper()
	raw, err := u.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), level, key) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return value
}

// A kernel that refuses to cut trains is sent datagrams. Sockets that send no
// UDP checksums are refused with EINVAL everywhere.
func TestWithoutSegmentation(t *testing.T) {
	a, b := listen(t, "udp4"), listen(t, "udp4")
	setsockopt(t, a, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1)
	source := Source{Addr: netip.MustParseAddr("127.0.0.5")}
	dead := Source{Addr: netip.MustParseAddr("192.0.2.7")}
	remote := b.at("udp4")
	sent := []Message{
		{Buf: randomBytes(500), Remote: remote},
		{Buf: randomBytes(25500), Segment: 500, Remote: remote},
		{Buf: randomBytes(25500), Segment: 500, Remote: remote, Local: source},
		{Buf: randomBytes(25500), Segment: 500, Remote: remote, Local: dead},
		{Buf: randomBytes(516 * 30), Segment: 500, Headroom: 16, Remote: remote},
		{Buf: randomBytes(500), Remote: remote},
	}
	want := slices.Clone(sent)
	done := make(chan error)
	go func() {
		n, err := a.WriteBatch(sent)
		if err == nil && n != len(sent) {
			err = fmt.Errorf("%d of %d sent", n, len(sent))
		}
		done <- err
	}()
	got, _ := check(t, b, want)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got[75].remote.Addr() != source.Addr || sent[2].Local != source {
		t.Errorf("the live source was given up: from %v", got[75].remote)
	}
	if sent[3].Local != (Source{}) {
		t.Errorf("the dead source was kept")
	}
}

// A source address or interface that is gone is left out, and said to be gone.
func TestDeadSource(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		a, b := listen(t, network), listen(t, network)
		dead := map[string]netip.Addr{"udp4": netip.MustParseAddr("192.0.2.7"), "udp6": netip.MustParseAddr("2001:db8::7")}[network]
		for _, local := range []Source{{Addr: dead}, {Interface: 1 << 30}, {dead, 1}, {loopback[network], 1 << 30}} {
			for _, segment := range []int{0, 100} {
				sent := []Message{
					{Buf: randomBytes(1000), Segment: segment, Remote: b.at(network), Local: local},
					{Buf: randomBytes(10), Remote: b.at(network)},
					{Buf: randomBytes(1000), Segment: segment, Remote: b.at(network), Local: local},
				}
				if n, err := a.WriteBatch(sent); n != 3 || err != nil {
					t.Fatalf("%v: %d, %v", local, n, err)
				}
				check(t, b, sent)
				if sent[0].Local != (Source{}) || sent[2].Local != (Source{}) {
					t.Errorf("%v is still in the messages", local)
				}
			}
		}
	})
}

// What ICMP says of one remote ends neither reading nor sending. Sockets hear
// of it when IP_RECVERR is set.
func TestICMP(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		a, b, closed := listen(t, network), listen(t, network), listen(t, network)
		nobody := closed.at(network)
		closed.Close()
		level, key := unix.IPPROTO_IP, unix.IP_RECVERR
		if network == "udp6" {
			level, key = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
		}
		setsockopt(t, a, level, key, 1)
		hello := Message{Buf: []byte("hello"), Remote: b.at(network)}
		for range 5 {
			ms := []Message{{Buf: []byte("nobody"), Remote: nobody}, hello}
			if n, err := a.WriteBatch(ms); n != 2 || err != nil {
				t.Fatal(n, err)
			}
			check(t, b, ms[1:])
			// The error is pending when a reads.
			if n, err := a.WriteBatch(ms[:1]); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			answer := []Message{{Buf: []byte("answer"), Remote: a.at(network)}}
			if n, err := b.WriteBatch(answer); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			check(t, a, answer)
		}
	})
}

func TestAllocatesNothing(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		a, b := listen(t, network), listen(t, network)
		source := Source{Addr: loopback[network]}
		sent := []Message{
			{Buf: make([]byte, 14000), Segment: 1400, Remote: b.at(network), Local: source, TOS: 1},
			{Buf: make([]byte, 1440*10), Segment: 1400, Headroom: 40, Remote: b.at(network)},
			{Buf: make([]byte, 100), Remote: b.at(network)},
		}
		ms := room(8)
		runtime.GC()
		if allocs := testing.AllocsPerRun(100, func() {
			if n, err := a.WriteBatch(sent); n != len(sent) || err != nil {
				t.Fatal(n, err)
			}
			for n := 0; n < len(sent); {
				got, err := b.ReadBatch(ms)
				if err != nil {
					t.Fatal(err)
				}
				n += got
			}
		}); allocs != 0 {
			t.Errorf("%v allocations", allocs)
		}
	})
}

func BenchmarkLoopback(b *testing.B) {
	const segment, count = 1400, 45
	for _, test := range []struct {
		name     string
		segment  int // of the messages
		messages int
		headroom int
	}{
		{"GSO", segment, 1, 0}, {"GSO with headroom", segment, 1, 40}, {"single", 0, count, 0},
	} {
		b.Run(test.name, func(b *testing.B) {
			from, to := listen(b, "udp4"), listen(b, "udp4")
			sent := make([]Message, test.messages)
			for i := range sent {
				sent[i] = Message{Buf: make([]byte, (segment+test.headroom)*count/test.messages), Segment: test.segment,
					Headroom: test.headroom, Remote: to.at("udp4")}
			}
			ms := room(64)
			b.SetBytes(segment * count)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := from.WriteBatch(sent); err != nil {
					b.Fatal(err)
				}
				for n := 0; n < segment*count; {
					got, err := to.ReadBatch(ms)
					if err != nil {
						b.Fatal(err)
					}
					for _, m := range ms[:got] {
						n += m.N
					}
				}
			}
		})
	}
}
