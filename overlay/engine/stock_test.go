package engine

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	wgdevice "golang.zx2c4.com/wireguard/device"
	wgtun "golang.zx2c4.com/wireguard/tun"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// stock is a simulated host that runs the reference implementation in user space.
type stock struct {
	id     *identity.Identity
	device *device
	port   *port
	wg     *wgdevice.Device
}

func newStock(t testing.TB, n *network, number byte, addr string) *stock {
	s := &stock{id: testIdentity(number), device: newDevice(), port: n.listen(addr)}
	s.wg = wgdevice.NewDevice(&stockTUN{s.device, make(chan wgtun.Event, 4)}, &stockBind{port: s.port}, wgdevice.NewLogger(wgdevice.LogLevelSilent, ""))
	private := s.id.PrivateKey()
	s.set(t, "private_key=%s\n", hex.EncodeToString(private[:]))
	if err := s.wg.Up(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.wg.Close)
	return s
}

func (s *stock) set(t testing.TB, format string, args ...any) {
	t.Helper()
	if err := s.wg.IpcSet(fmt.Sprintf(format, args...)); err != nil {
		t.Fatal(err)
	}
}

// knows adds one of our nodes as a peer; endpoint may be empty.
func (s *stock) knows(t testing.TB, x *node, endpoint string, more string) {
	k := x.id.PublicKey()
	if endpoint != "" {
		endpoint = "endpoint=" + endpoint + "\n"
	}
	s.set(t, "public_key=%s\n%sallowed_ip=%s/128\n%s", hex.EncodeToString(k[:]), endpoint, x.id.Address(), more)
	immortal.Lock()
	defer immortal.Unlock()
	immortal.peers = append(immortal.peers, s.wg.LookupPeer(wgdevice.NoisePublicKey(k)))
}

// immortal keeps the reference's peers from the garbage collector: they drain their queues in a finalizer, which must not happen outside the bubble of
// their test.
var immortal struct {
	sync.Mutex
	peers []*wgdevice.Peer
}

func (x *node) knowsStock(s *stock, psk wireguard.PSK, at ...string) {
	c := Contact{Address: s.id.Address(), Key: s.id.PublicKey(), PSK: psk}
	for _, a := range at {
		c.Candidates = append(c.Candidates, netip.MustParseAddrPort(a))
	}
	x.known.put(c)
}

func (s *stock) asNode() *node { return &node{device: s.device, id: s.id} }

// stockTUN lets the reference implementation read and write a simulated device.
type stockTUN struct {
	*device
	events chan wgtun.Event
}

func (s *stockTUN) File() *os.File { return nil }
func (s *stockTUN) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case p := <-s.in:
		sizes[0] = copy(bufs[0][offset:], p)
		return 1, nil
	case <-s.done:
		return 0, os.ErrClosed
	}
}

func (s *stockTUN) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		s.out <- slices.Clone(b[offset:])
	}
	return len(bufs), nil
}
func (s *stockTUN) MTU() (int, error)          { return 1420, nil }
func (s *stockTUN) Name() (string, error)      { return "stock", nil }
func (s *stockTUN) Events() <-chan wgtun.Event { return s.events }
func (s *stockTUN) BatchSize() int             { return 1 }
func (s *stockTUN) Close() error               { close(s.events); return s.device.Close() }

// stockBind puts the reference implementation on the simulated underlay.
type stockBind struct {
	port *port
	done chan struct{}
}

func (b *stockBind) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	done := make(chan struct{})
	b.done = done
	return []conn.ReceiveFunc{func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		select {
		case a := <-b.port.in:
			n := 0
			for d := range slices.Chunk(a.b, a.segment) {
				if n == len(bufs) {
					break
				}
				sizes[n] = copy(bufs[n], d)
				eps[n] = stockEndpoint{a.from}
				n++
			}
			return n, nil
		case <-done:
			return 0, net.ErrClosed
		}
	}}, b.port.LocalPort(), nil
}

func (b *stockBind) Close() error {
	if b.done != nil {
		close(b.done)
		b.done = nil
	}
	return nil
}
func (b *stockBind) SetMark(uint32) error { return nil }
func (b *stockBind) BatchSize() int       { return 128 }
func (b *stockBind) Send(bufs [][]byte, ep conn.Endpoint) error {
	for _, d := range bufs {
		b.port.net.send(b.port.address(), &underlay.Message{Buf: d, Remote: ep.(stockEndpoint).AddrPort})
	}
	return nil
}
func (b *stockBind) ParseEndpoint(s string) (conn.Endpoint, error) {
	a, err := netip.ParseAddrPort(s)
	return stockEndpoint{a}, err
}

type stockEndpoint struct{ netip.AddrPort }

func (e stockEndpoint) ClearSrc()           {}
func (e stockEndpoint) SrcToString() string { return "" }
func (e stockEndpoint) DstToString() string { return e.String() }
func (e stockEndpoint) DstToBytes() []byte  { b, _ := e.MarshalBinary(); return b }
func (e stockEndpoint) DstIP() netip.Addr   { return e.Addr() }
func (e stockEndpoint) SrcIP() netip.Addr   { return netip.Addr{} }

const (
	ourEndpoint = "192.0.2.1:5582"
	stockAddr   = "192.0.2.9:51820"
)

var (
	ourPort   = netip.MustParseAddrPort(ourEndpoint)
	stockPort = netip.MustParseAddrPort(stockAddr)
)

// withStock makes one node of ours and one stock peer that know each other.
func withStock(t *testing.T, psk wireguard.PSK, opts ...nodeOption) (*network, *node, *stock) {
	n := newNetwork()
	a := newNode(t, n, 1, ourEndpoint, opts...)
	s := newStock(t, n, 9, stockAddr)
	a.knowsStock(s, psk, stockAddr)
	more := ""
	if psk != (wireguard.PSK{}) {
		more = "preshared_key=" + hex.EncodeToString(psk[:]) + "\n"
	}
	s.knows(t, a, ourEndpoint, more)
	return n, a, s
}

// exchange sends one packet each way and demands both.
func exchange(t *testing.T, a *node, s *stock, number uint32, size int) {
	t.Helper()
	p := udpPacket(a.id.Address(), s.id.Address(), number, size)
	a.send(p)
	mustReceive(t, s.asNode(), p)
	q := udpPacket(s.id.Address(), a.id.Address(), number, size)
	s.device.in <- q
	mustReceive(t, a, q)
}

func TestStockPeerAllSizesBothRoles(t *testing.T) {
	for _, psk := range []wireguard.PSK{{}, {1, 2, 3}} {
		for _, weInitiate := range []bool{true, false} {
			for _, aes := range []bool{false, true} {
				t.Run(fmt.Sprintf("psk=%v/we initiate=%v/we offer AES=%v", psk != wireguard.PSK{}, weInitiate, aes), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var opts []nodeOption
						if aes {
							opts = append(opts, withAES)
						}
						n, a, s := withStock(t, psk, opts...)
						if !weInitiate {
							q := udpPacket(s.id.Address(), a.id.Address(), 7, 100)
							s.device.in <- q
							mustReceive(t, a, q)
						}
						for size := 40; size <= 1420; size++ {
							exchange(t, a, s, uint32(size), size)
						}
						initiator, responder := ourPort, stockPort
						if !weInitiate {
							initiator, responder = responder, initiator
						}
						if n.count(initiator, 1) != 1 || n.count(responder, 2) != 1 {
							t.Errorf("%d initiations and %d responses, want one each", n.count(initiator, 1), n.count(responder, 2))
						}
						if st, _ := a.Peer(s.id.Address()); st.Cipher != "chacha20poly1305" || st.Native {
							t.Errorf("a stock peer got cipher %s, native %v", st.Cipher, st.Native)
						}
						for _, x := range n.sightings() {
							if x.from == ourPort && x.b[0] == 4 && (len(x.b)-32)%16 != 0 && len(x.b) < 1280+32 {
								t.Fatalf("a transport message of %d bytes is not padded", len(x.b))
							}
						}
					})
				})
			}
		}
	}
}

func TestWrongPSKBringsNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, s := withStock(t, wireguard.PSK{1})
		s.knows(t, a, "", "preshared_key="+hex.EncodeToString(make([]byte, 32))+"\n")
		a.send(udpPacket(a.id.Address(), s.id.Address(), 1, 100))
		s.device.in <- udpPacket(s.id.Address(), a.id.Address(), 1, 100)
		time.Sleep(20 * time.Second)
		mustReceive(t, a)
		mustReceive(t, s.asNode())
		if n.count(ourPort, 4) != 0 {
			t.Error("data went out without a session")
		}
	})
}

func TestStockPeerRekeysWithoutLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, s := withStock(t, wireguard.PSK{})
		for i := range uint32(10 * 60 * 2) { // ten minutes, a packet each way twice a second
			exchange(t, a, s, i, 200)
			time.Sleep(500 * time.Millisecond)
		}
		handshakes := n.count(ourPort, 1) + n.count(stockPort, 1)
		if handshakes < 5 || handshakes > 6 {
			t.Errorf("%d handshakes in ten minutes, want one every two minutes", handshakes)
		}
	})
}

func TestIdleSessionFallsSilentAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, s := withStock(t, wireguard.PSK{})
		exchange(t, a, s, 1, 200)
		time.Sleep(time.Minute)
		before := len(n.sightings())
		time.Sleep(20 * time.Minute)
		if got := len(n.sightings()) - before; got != 0 {
			t.Errorf("%d datagrams in 20 idle minutes, want none", got)
		}
		if a.happened(PeerDown) != 1 {
			t.Errorf("PeerDown told %d times after the keys' end, want once", a.happened(PeerDown))
		}
		exchange(t, a, s, 2, 200)
	})
}

func TestKeepaliveAnswersDataAfterTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, s := withStock(t, wireguard.PSK{})
		exchange(t, a, s, 1, 200)
		time.Sleep(30 * time.Second)
		sent := n.count(ourPort, 4)
		start := time.Now()
		s.device.in <- udpPacket(s.id.Address(), a.id.Address(), 2, 200)
		time.Sleep(wireguard.KeepaliveTimeout + time.Second)
		if got := n.count(ourPort, 4) - sent; got != 1 {
			t.Fatalf("%d answers to data, want one keepalive", got)
		}
		all := n.sightings()
		last := all[len(all)-1]
		if len(last.b) != 32 || last.at.Sub(start) != wireguard.KeepaliveTimeout {
			t.Errorf("the answer has %d bytes and came after %v, want 32 after %v", len(last.b), last.at.Sub(start), wireguard.KeepaliveTimeout)
		}
	})
}

func TestUnansweredInitiationsKeepTheProtocolsTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newNode(t, n, 1, ourEndpoint)
		k := testIdentity(9)
		a.known.put(Contact{Address: k.Address(), Key: k.PublicKey(), Candidates: []netip.AddrPort{stockPort}})
		a.send(udpPacket(a.id.Address(), k.Address(), 1, 100))
		time.Sleep(5 * time.Minute)
		all := n.sightings()
		if len(all) != 19 {
			t.Errorf("%d initiations, want the first and 18 more in 90 s", len(all))
		}
		for i := 1; i < len(all); i++ {
			if gap := all[i].at.Sub(all[i-1].at); gap < wireguard.RekeyTimeout || gap > wireguard.RekeyTimeout+wireguard.RekeyJitter+grain {
				t.Errorf("initiation %d came %v after the one before", i, gap)
			}
		}
		if s, _ := a.Peer(k.Address()); s.State != Unreachable {
			t.Errorf("state %v after giving up", s.State)
		}
	})
}

func TestRoaming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, s := withStock(t, wireguard.PSK{})
		exchange(t, a, s, 1, 200)
		// The stock peer moves: its first packet from the new place takes our path along.
		s.port.move("203.0.113.7:40000")
		q := udpPacket(s.id.Address(), a.id.Address(), 2, 200)
		s.device.in <- q
		mustReceive(t, a, q)
		exchange(t, a, s, 3, 200)
		if got, _ := a.Peer(s.id.Address()); got.Path.Remote.String() != "203.0.113.7:40000" {
			t.Errorf("path is %v", got.Path.Remote)
		}
		// We move: the stock peer follows.
		a.port.move("198.51.100.4:1234")
		exchange(t, a, s, 4, 200)
		if a.happened(PathChanged) != 2 {
			t.Errorf("PathChanged told %d times, want for the first path and the move", a.happened(PathChanged))
		}
	})
}

func TestNothingMovesThePathButAuthenticNewMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, s := withStock(t, wireguard.PSK{})
		exchange(t, a, s, 1, 200)
		evil := netip.MustParseAddrPort("203.0.113.66:666")
		for _, x := range n.sightings() {
			if x.to != ourPort {
				continue
			}
			n.arrive(delivery{from: evil, to: ourPort, b: slices.Clone(x.b)}, len(x.b)) // replayed
			x.b[len(x.b)-1] ^= 1
			n.arrive(delivery{from: evil, to: ourPort, b: x.b}, len(x.b)) // forged
		}
		mustReceive(t, a)
		if got, _ := a.Peer(s.id.Address()); got.Path.Remote != stockPort {
			t.Errorf("path moved to %v", got.Path.Remote)
		}
		for _, x := range n.sightings() {
			if x.to == evil {
				t.Errorf("a replay was answered with %d bytes", len(x.b))
			}
		}
		exchange(t, a, s, 2, 200)
	})
}

func TestLossDuplicationReorderingCorruption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, s := withStock(t, wireguard.PSK{})
		exchange(t, a, s, 1, 200)
		r := rand.New(rand.NewPCG(1, 2))
		n.setFilter(func(from, to netip.AddrPort, b []byte) (out []delivery) {
			d := delivery{from: from, to: to, b: b, after: time.Duration(r.IntN(20)) * time.Millisecond}
			switch r.IntN(10) {
			case 0: // lost
			case 1:
				out = append(out, d, d) // duplicated
			case 2:
				bad := d
				bad.b = slices.Clone(b)
				bad.b[r.IntN(len(b))] ^= 0x10
				out = append(out, d, bad) // with a corrupted twin
			default:
				out = append(out, d)
			}
			return out
		})
		sent := map[uint32]bool{}
		for i := range uint32(2000) {
			a.send(udpPacket(a.id.Address(), s.id.Address(), i, 300))
			s.device.in <- udpPacket(s.id.Address(), a.id.Address(), i, 300)
			sent[i] = true
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		for name, x := range map[string]*node{"ours": a, "stock": s.asNode()} {
			seen := map[uint32]bool{}
			for _, b := range x.received() {
				number := binary.BigEndian.Uint32(b[48:])
				if !sent[number] || seen[number] || udpChecksum(b) != binary.BigEndian.Uint16(b[46:]) {
					t.Fatalf("%s: packet %d came twice or damaged", name, number)
				}
				seen[number] = true
			}
			if len(seen) < 1600 {
				t.Errorf("%s: %d of 2000 packets came through 10 %% loss", name, len(seen))
			}
		}
	})
}

func TestCookiesUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, s := withStock(t, wireguard.PSK{})
		// A stranger who knows our public key floods us with an initiation whose mac1 is valid.
		m := strangersInitiation(t, a, 66)
		for i := range 600 {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 1000)
			n.arrive(delivery{from: from, to: ourPort, b: m}, len(m))
			if i%200 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		if got := a.Stats().Refused.Load(); got > 300 {
			t.Errorf("%d handshakes of the flood were computed", got)
		}
		cookies := n.count(ourPort, 3)
		if cookies == 0 {
			t.Fatal("no cookie reply under load")
		}
		s.device.in <- udpPacket(s.id.Address(), a.id.Address(), 1, 100)
		synctest.Wait()
		if n.count(ourPort, 3) != cookies+1 || n.count(ourPort, 2) != 0 {
			t.Fatalf("the stock peer was not challenged: %d cookie replies, %d responses", n.count(ourPort, 3)-cookies, n.count(ourPort, 2))
		}
		// Keep the load up until the stock peer tries again with its cookie.
		for range 60 {
			time.Sleep(100 * time.Millisecond)
			for i := range 60 {
				n.arrive(delivery{from: netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 1000), to: ourPort, b: m}, len(m))
			}
		}
		if got := a.received(); len(got) != 1 {
			t.Errorf("%d packets after the cookie, want the stock peer's one", len(got))
		}
	})
}

// strangersInitiation makes an initiation to x from an identity that it may not know.
func strangersInitiation(t testing.TB, x *node, number byte) []byte {
	t.Helper()
	id := testIdentity(number)
	local := wireguard.NewLocal(id.PrivateKey(), id.PublicKey(), false)
	p := wireguard.NewPeer(wireguard.PeerConfig{Local: local, Remote: x.id.PublicKey(), Indices: noIndices{}, Stamp: time.Now})
	m, err := p.Initiation(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

type noIndices struct{}

func (noIndices) New() (uint32, bool)             { return 1, true }
func (noIndices) Bind(uint32, *wireguard.Keypair) {}
func (noIndices) Free(uint32)                     {}
