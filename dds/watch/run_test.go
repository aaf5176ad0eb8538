package watch

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// twins are a watch with one Inspector, and one whose Inspectors see one packet each, and so never have a run.
type twins struct {
	t    *testing.T
	fast *Watch
	slow *Watch
	i    *Inspector
	now  time.Time
}

func newTwins(t *testing.T) *twins {
	w := New(Config{Now: start})
	return &twins{t: t, fast: w, slow: New(Config{Now: start}), i: w.Inspector(), now: start.Add(time.Second)}
}

func (x *twins) packet(outbound bool, p []byte) {
	if outbound {
		p = append(make([]byte, tun.HeaderLen), p...)
		if a, b := x.i.Outbound(x.now, robotA, p), x.slow.Inspector().Outbound(x.now, robotA, p); a != b {
			x.t.Fatalf("treated as %+v, want %+v", a, b)
		}
		return
	}
	x.i.Inbound(x.now, robotA, p)
	x.slow.Inspector().Inbound(x.now, robotA, p)
}

func (x *twins) compare() {
	x.t.Helper()
	if a, b := x.fast.Snapshot(x.now), x.slow.Snapshot(x.now); !reflect.DeepEqual(a, b) {
		x.t.Fatalf("at %v: counted\n%+v\nwant\n%+v", x.now.Sub(start), a, b)
	}
}

// play makes traffic of what chance says: samples and fragments in order, lost, late and repeated, of several writers to several ports.
func (x *twins) play(chance func(n int) int, steps int) {
	type series struct {
		next     int
		fragment int // of next; 0 = none was sent
	}
	var all [2][3][2]series // direction, writer, port
	for range steps {
		d, writer, port := chance(2), chance(3), chance(2)
		s := &all[d][writer][port]
		id := wire.MakeEntityID(uint32(writer+1), wire.KindWriterNoKey)
		from, to := prefix(byte(d+1)), userPort+uint16(port)
		send := func(parts ...wire.Submessage) { x.packet(d == tx, ip6(self, robotA, to, message(from, parts...))) }
		sample := func(n int) *wire.Data { return dataOf(id, n, 40) }
		piece := func(number int) {
			f := fragment(s.next+1, number, 70_000)
			f.Writer = id
			send(f)
		}
		switch chance(16) {
		default: // a burst, as most is
			for range chance(40) + 1 {
				s.next++
				send(&wire.InfoDst{Prefix: prefix(9)}, &wire.InfoTS{Time: 1}, sample(s.next), heartbeat(id))
			}
		case 1:
			s.next += chance(4)
		case 2:
			send(sample(max(1, s.next-chance(6))))
		case 3, 4, 5:
			if writer != 0 {
				continue
			}
			for range chance(90) {
				if s.fragment++; s.fragment > 70 {
					s.fragment = 0
					s.next++
				} else {
					piece(s.fragment)
				}
			}
		case 6:
			if writer == 0 {
				piece(chance(70) + 1)
				s.fragment = min(70, s.fragment+chance(3))
			}
		case 7:
			g := &wire.Gap{Writer: id, Start: wire.SequenceNumber(s.next + 1), Set: wire.NewSequenceNumberSet(wire.SequenceNumber(s.next + 1 + chance(9)))}
			send(g)
		case 8:
			send(sample(s.next+1), dataOf(id+256, 7, 9), heartbeat(id+256))
			s.next++
		case 9:
			x.now = x.now.Add(time.Duration(chance(50)) * time.Millisecond)
		case 10:
			x.now = x.now.Add(time.Duration(chance(2500)) * time.Millisecond)
		case 11:
			x.compare()
		case 12:
			send(sedp(from, id, "rt/"+string(rune('a'+chance(4))), "std_msgs::msg::dds_::String_"))
		case 13:
			p := ip6(self, robotA, to, make([]byte, 100))
			if chance(2) == 0 {
				p[6] = protocolTCP
			}
			for range chance(20) {
				x.packet(d == tx, p)
			}
		case 14:
			send(heartbeat(id))
		}
	}
	x.compare()
	x.now = x.now.Add(5 * time.Second)
	x.compare()
	checkBounds(x.t, x.fast)
}

// TestRuns: what runs count is what would be counted packet by packet.
func TestRuns(t *testing.T) {
	games := 100
	if testing.Short() {
		games = 10
	}
	for seed := range uint64(games) {
		random := rand.New(rand.NewPCG(seed, 1))
		newTwins(t).play(random.IntN, 150)
	}
}

func FuzzRuns(f *testing.F) {
	f.Add([]byte("0000000000000000000000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		newTwins(t).play(func(n int) int {
			if len(b) == 0 {
				return 0
			}
			v := int(b[0])
			b = b[1:]
			return v * n / 256
		}, min(200, len(b)/3+1))
	})
}

// TestRunsOfTheGone: what an Inspector counted stays when it is gone, and another goes on where it was.
func TestRunsOfTheGone(t *testing.T) {
	w := New(Config{Now: start})
	const goroutines, samples = 40, 30
	for n := range goroutines {
		i := w.Inspector()
		for k := range samples {
			i.Inbound(start.Add(time.Second), robotA, ip6(robotA, self, userPort, message(prefix(2), data(n*samples+k+1, 10))))
		}
	}
	if row := w.Snapshot(start.Add(time.Second)).Peers[0].Topics[0]; row.Rx.Samples != goroutines*samples || row.Rx.Resent != 0 || row.Rx.Lost != 0 {
		t.Errorf("%+v, want %d samples", row.Rx, goroutines*samples)
	}
}
