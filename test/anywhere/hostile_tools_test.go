package anywhere

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// elsewhere is a network that forged sources are taken from; what is sent there arrives at the sink.
var elsewhere = netip.MustParsePrefix("44.0.0.0/8")

// newSink adds the host to which the whole network elsewhere is routed. Nobody answers there.
func newSink(n *internet.Net) *internet.Host {
	h := n.Base("sink", internet.IPv4)
	n.Core().Route(elsewhere, h.Addrs()[0])
	return h
}

// forger sends UDP over IPv4 with any source. Its methods belong to one goroutine.
type forger struct {
	t    testing.TB
	conn *ipv4.RawConn
	pool []ipv4.Message
	n    int
}

const forgedBatch = 64

func newForger(t testing.TB, h *lab.Host) *forger {
	t.Helper()
	f := &forger{t: t}
	err := h.Do(func() error {
		c, err := net.ListenPacket("ip4:255", "0.0.0.0") // receives nothing: no such protocol
		if err != nil {
			return err
		}
		f.conn, err = ipv4.NewRawConn(c)
		return err
	})
	if err != nil {
		t.Fatalf("%s cannot forge: %v", h.Name(), err)
	}
	t.Cleanup(func() { f.conn.Close() })
	for range forgedBatch {
		f.pool = append(f.pool, ipv4.Message{Buffers: [][]byte{make([]byte, 0, 2048)}, Addr: &net.IPAddr{}})
	}
	return f
}

const ipUDP = 20 + 8

// add queues a datagram; a full batch is sent.
func (f *forger) add(from, to netip.AddrPort, payload []byte) {
	m := &f.pool[f.n]
	b := m.Buffers[0][:ipUDP]
	clear(b)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(b[2:], uint16(ipUDP+len(payload)))
	src, dst := from.Addr().As4(), to.Addr().As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[20:], from.Port())
	binary.BigEndian.PutUint16(b[22:], to.Port())
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	m.Buffers[0] = append(b, payload...) // without checksum, as IPv4 allows
	m.Addr.(*net.IPAddr).IP = append(m.Addr.(*net.IPAddr).IP[:0], dst[:]...)
	if f.n++; f.n == len(f.pool) {
		f.flush()
	}
}

// flush sends what is queued. What the sender's own kernel refuses is lost.
func (f *forger) flush() {
	for ms := f.pool[:f.n]; len(ms) > 0; {
		n, err := f.conn.WriteBatch(ms, 0)
		if err != nil {
			n = 1
		}
		ms = ms[max(n, 1):]
	}
	f.n = 0
}

// send sends one datagram now.
func (f *forger) send(from, to netip.AddrPort, payload []byte) {
	f.add(from, to, payload)
	f.flush()
}

// listenUDP opens a UDP socket on a host; it is closed at the end of the test.
func listenUDP(t testing.TB, h *lab.Host, at netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	err := h.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", h.Name(), err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// resident is a process's memory in kB.
func resident(t testing.TB, p *lab.Process) (kB int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "status"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no VmRSS in %s", b)
	}
	kB, _ = strconv.Atoi(string(m[1]))
	return kB
}

// streamRate is datagrams a second: so few that a busy machine is not what loses them.
const streamRate = 100

// stream is numbered datagrams from one robot to another through their tunnel.
type stream struct {
	name string
	sent atomic.Int64
	got  atomic.Int64
	stop chan struct{}
	done sync.WaitGroup
}

func startStream(t *testing.T, from, to *fleet.Robot) *stream {
	t.Helper()
	s := &stream{name: from.Name() + " to " + to.Name(), stop: make(chan struct{})}
	in := listenUDP(t, to.Host, netip.AddrPortFrom(to.Address, 0))
	out := listenUDP(t, from.Host, netip.AddrPortFrom(from.Address, 0))
	target := in.LocalAddr().(*net.UDPAddr).AddrPort()
	_ = in.SetReadBuffer(1 << 20)
	go func() {
		seen := make(map[uint64]bool)
		b := make([]byte, 100)
		for {
			n, err := in.Read(b)
			if err != nil {
				return
			}
			if k := binary.BigEndian.Uint64(b[:max(n, 8)]); n == 64 && !seen[k] {
				seen[k] = true
				s.got.Add(1)
			}
		}
	}()
	s.done.Go(func() {
		tick := time.NewTicker(time.Second / streamRate)
		defer tick.Stop()
		b := make([]byte, 64)
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
			}
			binary.BigEndian.PutUint64(b, uint64(s.sent.Load()))
			if _, err := out.WriteToUDPAddrPort(b, target); err == nil {
				s.sent.Add(1)
			}
		}
	})
	return s
}

// end stops the stream and returns how many datagrams were sent and how many of them arrived.
func (s *stream) end() (sent, got int64) {
	close(s.stop)
	s.done.Wait()
	// What is on its way arrives, or is lost.
	for deadline := time.Now().Add(2 * time.Second); s.got.Load() < s.sent.Load() && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	return s.sent.Load(), s.got.Load()
}

// loss runs a stream both ways between pairs of robots while f runs, and returns the share lost of each pair.
func loss(t *testing.T, pairs [][2]*fleet.Robot, f func()) []float64 {
	t.Helper()
	var streams []*stream
	for _, p := range pairs {
		streams = append(streams, startStream(t, p[0], p[1]), startStream(t, p[1], p[0]))
	}
	f()
	lost := make([]float64, len(pairs))
	for i := range pairs {
		sent, got := streams[2*i].end()
		sent2, got2 := streams[2*i+1].end()
		lost[i] = 1 - float64(got+got2)/float64(max(sent+sent2, 1))
		t.Logf("%s and back: %d of %d arrived", streams[2*i].name, got+got2, sent+sent2)
	}
	return lost
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// arrivals counts UDP packets from a host to a victim that a capture on the victim saw, in all and in the busiest second.
func arrivals(frames []lab.Frame, match func(lab.Packet) bool) (n, busiest int) {
	var times []time.Time
	for _, f := range frames {
		if p := f.Decode(); !f.Out && p.Kind == lab.UDP && match(p) {
			times = append(times, f.Time)
		}
	}
	first := 0
	for i, t := range times {
		for t.Sub(times[first]) > time.Second {
			first++
		}
		busiest = max(busiest, i-first+1)
	}
	return len(times), busiest
}

// probesTo is how many probes one robot may send in d to an address that never answered: 12 at once and one each 5 s (package path).
func probesTo(d time.Duration) int { return 12 + int(d/(5*time.Second)) + 1 }
