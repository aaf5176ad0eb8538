package rtps

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/monitor"
)

// The demo peer of test/dds in Go, with the same command line as far as the tests here use it, the same topic and the
// same output. The test binary is it when this is its first argument.
const peerCommand = "rtps-peer"

type peer struct {
	mu       monitor.Monitor
	matched  int
	last     int
	received int
	bad      int
}

func (p *peer) update(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.mu.Changed()
}

func peerMain(args []string) int {
	flags := flag.NewFlagSet("peer", flag.ExitOnError)
	name := flags.String("name", "", "")
	count := flags.Int("count", 10, "")
	rate := flags.Float64("rate", 10, "")
	size := flags.Int("size", 64, "")
	bestEffort := flags.Bool("best-effort", false, "")
	flags.Bool("reliable", false, "")
	transient := flags.Bool("transient-local", false, "")
	localhost := flags.Bool("localhost", false, "")
	match := flags.Int("match", 1, "")
	timeout := flags.Float64("timeout", 12, "")
	verbose := flags.Bool("verbose", false, "")
	flags.Parse(args[1:])

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if *timeout > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*timeout*float64(time.Second)))
		defer cancel()
	}
	level := slog.LevelWarn
	if *verbose {
		level = slog.LevelDebug
	}
	config := Config{Name: *name, Multicast: true, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))}
	if *localhost {
		config.Interfaces = LocalhostOnly
	}
	p, err := New(config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	running, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(running) }()
	defer func() {
		end()
		<-ended
		if *verbose {
			fmt.Fprintf(os.Stderr, "%+v\n", p.Counters())
		}
	}()
	if *verbose {
		p.Subscribe(func(e GraphEvent) {
			fmt.Fprintf(os.Stderr, "event %d %+v %+v\n", e.Kind, e.Participant, e.Endpoint)
		})
	}

	state := &peer{}
	matched := func(e Endpoint, on bool) {
		state.update(func() {
			if on {
				state.matched++
			} else {
				state.matched--
			}
			fmt.Println("matched", state.matched)
		})
	}
	refused := func(e Endpoint, policy string) { fmt.Fprintln(os.Stderr, "incompatible", policy) }
	q := QoS{Reliability: Reliable, History: KeepAll}
	if *bestEffort {
		q = QoS{Depth: 64}
	}
	if *transient {
		q.Durability = TransientLocal
	}
	const topic, kind = "rt/hnet_demo", "std_msgs::msg::dds_::String_"
	if args[0] == "sub" {
		_, err := p.NewReader(ReaderConfig{Topic: topic, Type: kind, QoS: q, Matched: matched, Incompatible: refused, Deliver: func(s Sample) {
			state.update(func() { state.take(s) })
		}})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("ready")
		ok := state.mu.Wait(ctx, func() bool { return *count > 0 && state.received >= *count }) || *count == 0
		if *count == 0 {
			<-ctx.Done()
		}
		if ok && !*bestEffort {
			// The writer waits for what is acknowledged.
			time.Sleep(300 * time.Millisecond)
		}
		fmt.Printf("done received=%d bad=%d\n", state.received, state.bad)
		if !ok || state.bad > 0 {
			return 1
		}
		return 0
	}
	w, err := p.NewWriter(WriterConfig{Topic: topic, Type: kind, QoS: q, Matched: matched, Incompatible: refused, MaxSamples: 64})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	if !state.mu.Wait(ctx, func() bool { return state.matched >= *match }) {
		fmt.Fprintln(os.Stderr, "nobody matched")
		return 1
	}
	write := func(text string) bool {
		for ctx.Err() == nil {
			if _, err := w.Write(cdrString(text), WriteOptions{}); err == nil {
				return true
			}
		}
		return false
	}
	if !*bestEffort && !*transient {
		if write("hnet hello"); w.WaitAcked(ctx) != nil {
			fmt.Fprintln(os.Stderr, "the greeting is not acknowledged")
			return 1
		}
	}
	sent := 0
	for i := 1; (*count == 0 || i <= *count) && ctx.Err() == nil; i++ {
		body := fmt.Sprintf("%s %x %d %d %s", *name, 0x1234, i, *size, strings.Repeat("x", *size))
		if !write(fmt.Sprintf("hnet %08x %s", crc32.ChecksumIEEE([]byte(body)), body)) {
			break
		}
		sent = i
		if *rate > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(float64(time.Second) / *rate)):
			}
		}
	}
	if !*bestEffort {
		if err := w.WaitAcked(ctx); err != nil && *count > 0 {
			fmt.Fprintln(os.Stderr, "not acknowledged:", err)
			return 1
		}
	}
	fmt.Printf("done sent=%d\n", sent)
	return 0
}

// take checks a sample.
func (p *peer) take(s Sample) {
	b := s.Payload
	if len(b) < 9 || b[1] != 1 || int(binary.LittleEndian.Uint32(b[4:])) > len(b)-8 {
		p.bad++
		fmt.Println("corrupt", len(b))
		return
	}
	text := string(b[8 : 8+binary.LittleEndian.Uint32(b[4:])-1])
	if text == "hnet hello" {
		return
	}
	var crc, run uint32
	var name string
	var seq, size int
	if n, err := fmt.Sscanf(text, "hnet %x %s %x %d %d", &crc, &name, &run, &seq, &size); n != 5 && err != nil {
		// The run is of 64 bits.
		fields := strings.SplitN(text, " ", 7)
		if len(fields) != 7 {
			p.bad++
			fmt.Println("corrupt", len(text))
			return
		}
		fmt.Sscanf(fields[1], "%x", &crc)
		fmt.Sscan(fields[4], &seq)
		name, size = fields[2], len(fields[6])
	}
	if crc32.ChecksumIEEE([]byte(text[14:])) != crc || p.last != 0 && seq <= p.last {
		p.bad++
		fmt.Println("corrupt", len(text), seq)
		return
	}
	p.last = seq
	p.received++
	fmt.Println("received", name, seq, size)
}

func cdrString(s string) []byte {
	b := binary.LittleEndian.AppendUint32([]byte{0, 1, 0, 0}, uint32(len(s)+1))
	return append(append(b, s...), 0)
}
