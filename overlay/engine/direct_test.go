package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// side is an engine whose loops do not run: the caller hands it one packet or train after another, so that cost per packet and allocations can be
// counted. What its socket sends waits in the other side's inbox until settle.
type side struct {
	*Engine
	known *contacts
	out   *outbound
	in    *inbound
	now   time.Time

	addr    netip.AddrPort
	other   *side
	inbox   []underlay.Message
	inboxed int
	packets int // written to hnet0
	bytes   int
	last    []byte
}

func newSide(t testing.TB, number byte, addr string, opts ...nodeOption) *side {
	s := &side{known: &contacts{}, addr: netip.MustParseAddrPort(addr), now: time.Now()}
	s.inbox = make([]underlay.Message, 32)
	for i := range s.inbox {
		s.inbox[i].Buf = make([]byte, underlay.MaxRead)
	}
	c := Config{Identity: testIdentity(number), Device: s, IPv4: sideSocket{s}, Directory: s.known, Stamp: func() time.Time { return s.now }}
	for _, o := range opts {
		o(&c)
	}
	var err error
	if s.Engine, err = New(c); err != nil {
		t.Fatal(err)
	}
	s.out = newOutbound(s.Engine)
	s.in = newInbound(s.Engine, direct{socket: sideSocket{s}})
	return s
}

// sides makes two engines with a session.
func sides(t testing.TB, opts ...nodeOption) (a, b *side) {
	a, b = newSide(t, 1, "192.0.2.1:5582", opts...), newSide(t, 2, "192.0.2.2:5582", opts...)
	a.other, b.other = b, a
	a.known.put(Contact{Address: b.address, Key: b.cfg.Identity.PublicKey(), Candidates: []netip.AddrPort{b.addr}, Native: true})
	b.known.put(Contact{Address: a.address, Key: a.cfg.Identity.PublicKey(), Native: true})
	a.send(superpacket(udpPacket(a.address, b.address, 1, 100)))
	b.send(superpacket(udpPacket(b.address, a.address, 1, 100)))
	if a.packets != 1 || b.packets != 1 {
		t.Fatalf("%d and %d packets arrived, want one each", a.packets, b.packets)
	}
	return a, b
}

// superpacket puts an empty virtio-net header in front of a packet.
func superpacket(packet []byte) []byte { return append(make([]byte, tun.HeaderLen), packet...) }

func (s *side) send(superpackets ...[]byte) {
	for _, b := range superpackets {
		s.out.packet(s.now, b)
	}
	s.out.flush()
	s.settle()
}

// settle delivers until nothing is under way.
func (s *side) settle() {
	for x := s; x.inboxed+x.other.inboxed > 0; x = x.other {
		n := x.inboxed
		x.inboxed = 0
		for i := range n {
			x.in.message(x.now, &x.inbox[i])
		}
		x.in.flush()
		x.in.out.flush()
	}
}

// receive hands a train to the side's inbound way.
func (s *side) receive(m *underlay.Message) {
	s.in.message(s.now, m)
	s.in.flush()
	s.in.out.flush()
}

var errInboxFull = errors.New("the other side's inbox is full")

// sideSocket is the underlay.Socket of a side.
type sideSocket struct{ *side }

func (s sideSocket) ReadBatch([]underlay.Message) (int, error) { return 0, os.ErrClosed }

func (s sideSocket) WriteBatch(ms []underlay.Message) (int, error) {
	for i := range ms {
		if s.other.inboxed == len(s.other.inbox) {
			return i, errInboxFull
		}
		m := &s.other.inbox[s.other.inboxed]
		s.other.inboxed++
		m.N = copy(m.Buf, ms[i].Buf)
		m.Segment, m.Remote, m.TOS = ms[i].Segment, s.addr, ms[i].TOS
	}
	return len(ms), nil
}

func (s *side) Write(parts [][]byte) error {
	s.packets++
	for _, p := range parts {
		s.bytes += len(p)
	}
	if s.last != nil {
		s.last = s.last[:0]
		for _, p := range parts {
			s.last = append(s.last, p...)
		}
	}
	return nil
}

func (s *side) USO() bool                                   { return true }
func (s *side) Close() error                                { return nil }
func (s *side) LocalPort() uint16                           { return s.addr.Port() }
func (s *side) ReadBatch(b []byte, ends []int) (int, error) { return 0, os.ErrClosed }

// tcpSuper builds a TSO superpacket of payload bytes in segments of size.
func tcpSuper(from, to netip.Addr, payload, size int) []byte {
	const headers = 40 + 20
	b := make([]byte, tun.HeaderLen+headers+payload)
	h := tun.Header{Flags: tun.FlagNeedsChecksum, GSO: tun.GSOTCPv6, HeaderLen: headers, GSOSize: uint16(size), ChecksumStart: 40, ChecksumOffset: 16}
	h.Encode(b)
	p := b[tun.HeaderLen:]
	p[0], p[6], p[7] = 0x60, 6, 64
	binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
	copy(p[8:], from.AsSlice())
	copy(p[24:], to.AsSlice())
	binary.BigEndian.PutUint16(p[40:], 40000)
	binary.BigEndian.PutUint16(p[42:], 5201)
	p[52], p[53] = 5<<4, 0x10 // header length, ACK
	for i := range p[60:] {
		p[60+i] = byte(i*7 + i>>8)
	}
	binary.BigEndian.PutUint16(p[56:], tun.PseudoHeader(6, p[8:24], p[24:40], len(p)-40))
	return b
}

// Sizes of the paths that matter: the default route's MTU, and a verified Ethernet path, whose packets need padding.
var segmentSizes = []struct {
	name    string
	payload int
}{{"mtu 1280", 1280 - 60}, {"mtu 1420", 1420 - 60}}

func TestNothingIsAllocatedPerPacket(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates: run without -race")
	}
	for name, opts := range map[string][]nodeOption{"chacha20poly1305": nil, "aes256gcm": {withAES}} {
		for _, size := range segmentSizes {
			t.Run(name+" "+size.name, func(t *testing.T) {
				a, b := sides(t, opts...)
				original := tcpSuper(a.address, b.address, 60000, size.payload)
				work := bytes.Clone(original)
				small := superpacket(udpPacket(b.address, a.address, 1, 1200))
				odd := superpacket(udpPacket(b.address, a.address, 1, 1203))
				mark := len(small)
				batch := append(bytes.Clone(small), odd...)
				carry := func() {
					copy(work, original)
					a.send(work)
					b.out.packet(b.now, batch[:mark])
					b.out.packet(b.now, batch[mark:])
					b.out.flush()
					b.settle()
				}
				carry()
				received := b.bytes
				carry()
				if got := b.bytes - received; got != len(original) {
					t.Fatalf("%d bytes arrived of a superpacket of %d", got, len(original))
				}
				if got := testing.AllocsPerRun(100, carry); got != 0 {
					t.Errorf("%v allocations for a superpacket and two packets", got)
				}
				if !bytes.Equal(batch, append(bytes.Clone(small), odd...)) {
					t.Error("sealing changed what lies around the packet")
				}
			})
		}
	}
}

func TestGarbageIsNotAllocatedFor(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates: run without -race")
	}
	a, b := sides(t)
	index := a.peers.get(b.address).machine.Session(a.now).LocalIndex()
	m := underlay.Message{Remote: netip.MustParseAddrPort("203.0.113.1:1")}
	for _, kind := range []uint32{0, 1, 2, 3, 4, 5, 0x40, 0xffffffff} {
		for _, size := range []int{0, 1, 3, 4, 16, 31, 32, 33, 63, 64, 91, 92, 93, 147, 148, 149, 1500, 65507} {
			d := make([]byte, size)
			if size >= 4 {
				binary.LittleEndian.PutUint32(d, kind)
			}
			if size >= 12 {
				binary.LittleEndian.PutUint32(d[4:], index)
				binary.LittleEndian.PutUint32(d[8:], index)
			}
			packets, path := a.packets, a.peers.get(b.address).path
			got := testing.AllocsPerRun(20, func() {
				m.Buf, m.N = d, len(d)
				a.receive(&m)
			})
			// A cookie reply that names a live index is the one kind whose check needs the AEAD with a key of its own.
			if got != 0 && !(kind == 3 && size == 64) {
				t.Errorf("type %#x of %d bytes: %v allocations", kind, size, got)
			}
			if a.packets != packets || a.peers.get(b.address).path != path {
				t.Fatalf("type %#x of %d bytes changed something", kind, size)
			}
		}
	}
	if a.stats.Unknown.Load() == 0 || a.stats.Unauthentic.Load() == 0 {
		t.Error("garbage was not counted")
	}
	a.send(superpacket(udpPacket(a.address, b.address, 2, 100)))
	if b.packets != 2 {
		t.Error("the session does not work any more")
	}
}

// BenchmarkSuperpacket carries a TSO superpacket of 60,000 bytes from one device to the other: cut, sealed, opened, joined. The raw benchmark
// seals and opens the same packets with the cipher alone, which no engine can beat.
func BenchmarkSuperpacket(b *testing.B) {
	for _, size := range segmentSizes {
		for name, opts := range map[string][]nodeOption{"chacha20poly1305": nil, "aes256gcm": {withAES}} {
			b.Run(name+"/"+size.name, func(b *testing.B) {
				x, y := sides(b, opts...)
				original := tcpSuper(x.address, y.address, 60000, size.payload)
				work := bytes.Clone(original)
				b.SetBytes(int64(len(original)))
				b.ReportAllocs()
				for b.Loop() {
					copy(work, original)
					x.send(work)
				}
			})
		}
		b.Run("raw chacha20poly1305/"+size.name, func(b *testing.B) { rawCipher(b, size.payload+60, (60000+size.payload-1)/size.payload) })
	}
}

// BenchmarkPacket carries packets of 1,200 bytes, 64 in a batch as a drained device gives them.
func BenchmarkPacket(b *testing.B) {
	const batch = 64
	b.Run("chacha20poly1305", func(b *testing.B) {
		x, y := sides(b)
		packets := make([][]byte, batch)
		for i := range packets {
			packets[i] = superpacket(udpPacket(x.address, y.address, uint32(i), 1200))
		}
		b.SetBytes(batch * 1200)
		b.ReportAllocs()
		for b.Loop() {
			x.send(packets...)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/packet")
	})
	b.Run("raw chacha20poly1305", func(b *testing.B) { rawCipher(b, 1200, batch) })
}

func rawCipher(b *testing.B, size, count int) {
	aead, err := chacha20poly1305.New(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	plain, sealed := make([]byte, size), make([]byte, 0, size+16)
	nonce := make([]byte, 12)
	b.SetBytes(int64(size * count))
	for b.Loop() {
		for range count {
			out := aead.Seal(sealed, nonce, plain, nil)
			if _, err := aead.Open(out[:0], nonce, out, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(count), "ns/packet")
}

func TestPaddingIsZeroAndTakenOffAgain(t *testing.T) {
	a, b := sides(t)
	k := b.peers.get(a.address).machine.Session(b.now)
	for size := 40; size <= routeMTU; size++ {
		for i := range a.out.sealed[:2048] {
			a.out.sealed[i] = 0xa5 // what an earlier train left
		}
		p := udpPacket(a.address, b.address, 1, size)
		a.out.packet(a.now, superpacket(p))
		a.out.flush()
		m := b.inbox[0]
		b.inboxed = 0
		plaintext, ok := new(wireguard.Opener).Open(k, m.Buf[:m.N])
		if !ok || len(plaintext)%wireguard.PaddingMultiple != 0 || len(plaintext)-size >= wireguard.PaddingMultiple {
			t.Fatalf("a packet of %d bytes became a plaintext of %d", size, len(plaintext))
		}
		if !bytes.Equal(plaintext[:size], p) || !bytes.Equal(plaintext[size:], make([]byte, len(plaintext)-size)) {
			t.Fatalf("a packet of %d bytes is followed by %x", size, plaintext[size:])
		}
	}
}
