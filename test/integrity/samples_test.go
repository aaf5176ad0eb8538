package integrity

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// samplesCommand is the first argument of this program when it is started again as a DDS program on a host.
const samplesCommand = "integrity-samples"

// A sample is its CDR header, its number, the SHA-256 of number and body, and a body.
const (
	sampleNumberAt = 8
	sampleSumAt    = 16
	sampleBodyAt   = sampleSumAt + sha256.Size
)

const sampleType = "std_msgs::msg::dds_::ByteMultiArray_"

// samplesMain is a DDS program. "pub" reads numbers from its input, writes so many samples for each and says when they are acknowledged; "sub" says the
// hash of the samples that arrived whenever their number is a multiple of count; "ask" reads numbers from its input and makes so many round trips for
// each, to "echo".
func samplesMain(args []string) int {
	flags := flag.NewFlagSet(samplesCommand, flag.ExitOnError)
	topic := flags.String("topic", "/whole", "of ROS")
	size := flags.Int("size", 1000, "bytes of a sample")
	count := flags.Uint64("count", 1, "samples after which a subscriber tells what it has")
	if len(args) == 0 {
		return 2
	}
	_ = flags.Parse(args[1:])
	if err := samples(args[0], "rt"+*topic, max(*size, sampleBodyAt), *count); err != nil {
		fmt.Fprintln(os.Stderr, "samples:", err)
		return 1
	}
	return 0
}

func samples(mode, topic string, size int, count uint64) error {
	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	p, err := rtps.New(rtps.Config{Name: "integrity", Multicast: true,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	ctx, leave := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	defer func() { leave(); <-ended }()
	qos := rtps.QoS{Reliability: rtps.Reliable, History: rtps.KeepAll, MaxBlocking: patience}
	matched := make(chan struct{}, 16)
	on := func(_ rtps.Endpoint, is bool) {
		if is {
			matched <- struct{}{}
		}
	}
	to, from := topic, topic+"_back"
	if mode == "echo" {
		to, from = from, to
	}
	var w *rtps.Writer
	if mode != "sub" {
		if w, err = p.NewWriter(rtps.WriterConfig{Topic: to, Type: sampleType, QoS: qos, Matched: on}); err != nil {
			return err
		}
	}
	var tally sampleTally
	back := make(chan struct{}, 1)
	deliver := map[string]func(rtps.Sample){
		"sub":  func(s rtps.Sample) { tally.take(s.Payload, count); p.Recycle(&s) },
		"echo": func(s rtps.Sample) { _, _ = w.Write(s.Payload, rtps.WriteOptions{}); p.Recycle(&s) },
		"ask":  func(s rtps.Sample) { p.Recycle(&s); back <- struct{}{} },
	}[mode]
	if mode == "sub" {
		from = to
	}
	if deliver != nil {
		if _, err := p.NewReader(rtps.ReaderConfig{Topic: from, Type: sampleType, QoS: qos, Matched: on, Deliver: deliver}); err != nil {
			return err
		}
	}
	for range map[string]int{"ask": 2, "pub": 1}[mode] {
		select {
		case <-matched:
		case <-stopped.Done():
			return nil
		}
	}
	fmt.Println("ready")
	if mode == "sub" || mode == "echo" {
		<-stopped.Done()
		return nil
	}
	return command(p, w, mode, size, back)
}

// command carries out what the input asks for.
func command(p *rtps.Participant, w *rtps.Writer, mode string, size int, back <-chan struct{}) error {
	sample := make([]byte, size)
	sample[1] = 1 // CDR, little endian
	number := uint64(0)
	var all digest
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		n := 0
		if _, err := fmt.Sscan(lines.Text(), &n); err != nil {
			return err
		}
		start := time.Now()
		for range n {
			all.add(composeSample(sample, number))
			number++
			if _, err := w.Write(sample, rtps.WriteOptions{}); err != nil {
				return err
			}
			if mode == "ask" {
				<-back
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := w.WaitAcked(ctx)
		cancel()
		if err != nil {
			return err
		}
		fmt.Printf("done %d %s\n", time.Since(start), hex.EncodeToString(all[:]))
	}
	return nil
}

func composeSample(b []byte, n uint64) [sha256.Size]byte {
	binary.LittleEndian.PutUint64(b[sampleNumberAt:], n)
	for at := sampleBodyAt; at < len(b); {
		at += copy(b[at:], randomness[n*7919%(1<<19):])
	}
	sum := sampleSum(b)
	copy(b[sampleSumAt:], sum[:])
	return sum
}

func sampleSum(b []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	h.Write(b[sampleNumberAt:sampleSumAt])
	h.Write(b[sampleBodyAt:])
	h.Sum(sum[:0])
	return sum
}

// sampleTally is what a subscriber got.
type sampleTally struct {
	mu               sync.Mutex
	seen             map[uint64]bool
	twice, corrupted uint64
	all              digest
}

func (x *sampleTally) take(b []byte, count uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.seen == nil {
		x.seen = map[uint64]bool{}
	}
	sum := [sha256.Size]byte{}
	if len(b) >= sampleBodyAt {
		sum = sampleSum(b)
	}
	switch {
	case len(b) < sampleBodyAt || sum != [sha256.Size]byte(b[sampleSumAt:sampleBodyAt]):
		x.corrupted++
	case x.seen[binary.LittleEndian.Uint64(b[sampleNumberAt:])]:
		x.twice++
	default:
		x.seen[binary.LittleEndian.Uint64(b[sampleNumberAt:])] = true
		x.all.add(sum)
		if uint64(len(x.seen))%count == 0 {
			fmt.Printf("got %d twice %d corrupted %d %s\n", len(x.seen), x.twice, x.corrupted, hex.EncodeToString(x.all[:]))
		}
	}
}

// program is this program, started again on a robot.
type program struct {
	*lab.Process
	in io.WriteCloser
}

// Stop ends the program.
func (p program) Stop() {
	p.in.Close()
	p.Process.Stop()
}

func start(t lab.TB, r *fleet.Robot, mode string, args ...string) program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("%v", err)
	}
	cmd := r.Command(context.Background(), self, append([]string{samplesCommand, mode}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return program{r.StartCmd(t, cmd), in}
}

// TestCopies sends samples of a topic that goes by both of a robot's uplinks: each arrives once, and is what was sent.
func TestCopies(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real programs")
	}
	net := internet.New(t, lab.New(t))
	base := fleet.StartBase(t, net.Base("base1").Host)
	configuration := metricsConfig + "port_mapping: false\nbases:\n" + base.Entry("base1") + "dds:\n  lanes:\n    - {match: \"/whole*\", redundant: true}\n"
	one, two := net.Site("one", internet.Public), net.Site("two", internet.Public)
	host := one.Host("robot1")
	host.Connect(two)
	a := fleet.Start(t, host.Host, configuration)
	b := fleet.Start(t, net.Site("office", internet.Public).Host("robot2").Host, configuration)
	for _, r := range []*fleet.Robot{a, b} {
		r.Hnet("wait", "base", "--timeout", patience.String())
	}
	fleet.Trust(a, b)
	w := &world{t: t, a: end{a, a.Address}, b: end{b, b.Address}}
	w.meet()
	const size = 60_000
	n := max(int(volume()/2/size), 10)
	for _, way := range [][2]*fleet.Robot{{a, b}, {b, a}} {
		topic := "/whole_from_" + way[0].Name()
		sub := start(t, way[1], "sub", "-topic", topic, "-count", fmt.Sprint(n))
		pub := start(t, way[0], "pub", "-topic", topic, "-size", fmt.Sprint(size))
		pub.WaitLine("^ready", patience)
		// The second way is found while the first samples go by the first: go on until copies have come.
		for round := 1; ; round++ {
			before := w.thrown()
			fmt.Fprintln(pub.in, n)
			var took time.Duration
			var sent, received string
			var got, twice, corrupted int
			fmt.Sscanf(pub.WaitLine("^done", 2*patience), "done %d %s", &took, &sent)
			fmt.Sscanf(sub.WaitLine(fmt.Sprintf("^got %d ", n*round), patience), "got %d twice %d corrupted %d %s", &got, &twice, &corrupted, &received)
			if sent != received || twice != 0 || corrupted != 0 {
				t.Fatalf("from %s: of %d samples %d arrived, %d twice, %d corrupted, and the hashes are %s and %s", way[0].Name(), n*round, got, twice, corrupted, sent, received)
			}
			c := w.thrown()[way[1].Name()].since(before[way[1].Name()])
			t.Logf("from %s: %.0f MB of samples in %v; %s threw away %v", way[0].Name(), float64(n*size)/1e6, took.Round(time.Millisecond), way[1].Name(), c)
			if c["copy"] > 0 {
				break
			}
			if round == 20 {
				t.Fatalf("no copies came in %d rounds: %+v", round, way[0].Hnet("peers", "--paths"))
			}
		}
		pub.Stop()
		sub.Stop()
	}
}

// BenchmarkSamples is DDS samples end to end, between programs on two hosts through their daemons: round trips of reliable samples, and as many as go.
func BenchmarkSamples(b *testing.B) {
	l := lab.New(b)
	hx, hy := l.Host("robot1"), l.Host("robot2")
	l.LAN(lab.Link{}, hx, hy)
	x, y := fleet.Start(b, hx, ""), fleet.Start(b, hy, "")
	fleet.Trust(x, y)
	x.Hnet("wait", "peer", y.Address.String(), "--timeout", patience.String())
	for _, size := range []int{64, 64 << 10} {
		for _, flow := range []struct{ name, here, there string }{{"round trip", "ask", "echo"}, {"one way", "pub", "sub"}} {
			b.Run(fmt.Sprintf("%s/%d", flow.name, size), func(b *testing.B) {
				topic := fmt.Sprintf("/s%d_%s", size, flow.here)
				there := start(b, y, flow.there, "-topic", topic, "-count", "1000000000")
				here := start(b, x, flow.here, "-topic", topic, "-size", fmt.Sprint(size))
				defer there.Stop()
				defer here.Stop()
				here.WaitLine("^ready", patience)
				fmt.Fprintln(here.in, 20)
				here.WaitLine("^done", patience)
				b.SetBytes(int64(size))
				b.ResetTimer()
				fmt.Fprintln(here.in, b.N)
				here.WaitLine("^done", patience)
				b.StopTimer()
			})
		}
	}
}
