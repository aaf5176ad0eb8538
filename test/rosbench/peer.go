package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
)

// peerCommand makes this binary, started again, the peer on ros_pkg/rtps.
const peerCommand = "rosbench-peer"

// The phases of a sample.
const (
	warming = iota
	measured
	ending
)

const sampleType = "rosbench::Sample"

// peer is one side of a measurement. It prints "ready", and at its end "cpu NANOSECONDS" of the measured phase.
//
//	ping   writes to "there", waits for the same sample on "back" and prints "rtt P50 P99" in nanoseconds
//	pong   returns what comes
//	pub    writes for so many seconds, as fast as its history takes it
//	sub    prints "got SAMPLES of WRITTEN in NANOSECONDS"
//	watch  is there, until SIGTERM
//	many   has so many writers and as many readers, until SIGTERM
type peer struct {
	mode              string
	size, count, warm int
	seconds           float64
	maxMessage        int
	profile           string
	counters          bool

	p      *rtps.Participant
	writer *rtps.Writer
	out    []byte

	mu       sync.Mutex // of what follows, against the ends of a program that is both
	number   uint64
	phase    uint32
	trips    int
	sentAt   time.Time
	rtts     []time.Duration
	received uint64
	first    uint64
	begun    time.Time
	took     time.Duration
	before   int64
	after    int64
	done     chan struct{}
}

func peerMain(args []string) int {
	p := &peer{done: make(chan struct{})}
	if len(args) == 0 {
		return 2
	}
	p.mode = args[0]
	flags := flag.NewFlagSet(peerCommand, flag.ExitOnError)
	flags.IntVar(&p.size, "size", 64, "bytes of a sample")
	flags.IntVar(&p.count, "count", 1000, "round trips, or endpoints of each kind")
	flags.IntVar(&p.warm, "warm", 200, "samples that do not count")
	flags.Float64Var(&p.seconds, "seconds", 1, "how long to write")
	flags.IntVar(&p.maxMessage, "max-message", 0, "longest datagram to other hosts")
	flags.StringVar(&p.profile, "profile", "", "file for a CPU profile")
	flags.BoolVar(&p.counters, "counters", false, "print the participant's counters at the end")
	_ = flags.Parse(args[1:])
	if err := p.run(); err != nil {
		fmt.Fprintln(os.Stderr, "rosbench:", err)
		return 1
	}
	return 0
}

func cpu() int64 {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r)
	return r.Utime.Nano() + r.Stime.Nano()
}

func (p *peer) run() error {
	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if p.profile != "" {
		f, err := os.Create(p.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	participant, err := rtps.New(rtps.Config{
		Name: "rosbench", Multicast: true, MaxMessage: p.maxMessage,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	p.p = participant
	ctx, leave := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- participant.Run(ctx) }()
	defer func() { leave(); <-ended }()

	p.out = make([]byte, 20+p.size)
	p.out[1] = 1
	binary.LittleEndian.PutUint32(p.out[16:], uint32(p.size))
	p.rtts = make([]time.Duration, 0, p.count+1)
	if p.mode == "many" {
		return p.many(stopped, participant)
	}
	flow := p.mode == "pub" || p.mode == "sub"
	qos := rtps.QoS{Reliability: rtps.Reliable, Depth: 10, MaxBlocking: 10 * time.Second}
	if flow {
		qos.History = rtps.KeepAll
	}
	to, from := "there", "back"
	if p.mode == "pong" {
		to, from = from, to
	}
	if flow {
		from = to
	}
	both := make(chan struct{}, 2)
	need := 0
	matched := func(_ rtps.Endpoint, on bool) {
		if on {
			both <- struct{}{}
		}
	}
	if p.mode != "sub" && p.mode != "watch" {
		need++
		if p.writer, err = participant.NewWriter(rtps.WriterConfig{Topic: to, Type: sampleType, QoS: qos, Matched: matched}); err != nil {
			return err
		}
	}
	if p.mode != "pub" && p.mode != "watch" {
		need++
		if _, err = participant.NewReader(rtps.ReaderConfig{Topic: from, Type: sampleType, QoS: qos, Matched: matched, Deliver: p.deliver}); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	for range need {
		select {
		case <-both:
		case <-stopped.Done():
			return errors.New("nobody was there")
		}
	}
	time.Sleep(200 * time.Millisecond)
	switch p.mode {
	case "ping":
		p.mu.Lock()
		p.trips = 1
		err = p.ping()
		p.mu.Unlock()
	case "pub":
		err = p.publish()
	}
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-stopped.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.mode {
	case "ping":
		slices.Sort(p.rtts)
		if n := len(p.rtts); n > 0 {
			fmt.Printf("rtt %d %d\n", p.rtts[n/2], p.rtts[n*99/100])
		}
	case "sub":
		fmt.Printf("got %d of %d in %d\n", p.received, p.number-p.first, p.took)
	}
	fmt.Printf("cpu %d\n", p.after-p.before)
	if p.counters {
		fmt.Printf("%+v\n", participant.Counters())
	}
	time.Sleep(200 * time.Millisecond)
	return nil
}

// put writes the next sample.
func (p *peer) put(phase uint32) error {
	p.number++
	p.phase = phase
	binary.LittleEndian.PutUint64(p.out[4:], p.number)
	binary.LittleEndian.PutUint32(p.out[12:], phase)
	_, err := p.writer.Write(p.out, rtps.WriteOptions{})
	return err
}

func (p *peer) ping() error {
	phase := uint32(warming)
	if p.trips > p.warm+p.count {
		phase = ending
	} else if p.trips > p.warm {
		phase = measured
	}
	p.sentAt = time.Now()
	return p.put(phase)
}

func (p *peer) pinged() {
	t := time.Since(p.sentAt)
	if p.phase == measured {
		p.rtts = append(p.rtts, t)
	}
	p.trips++
	if p.trips == p.warm+1 {
		p.before = cpu()
	}
	if p.trips == p.warm+p.count+1 {
		p.after = cpu()
	}
	if p.phase == ending {
		close(p.done)
	} else if err := p.ping(); err != nil {
		fmt.Fprintln(os.Stderr, "rosbench:", err)
	}
}

func (p *peer) deliver(s rtps.Sample) {
	if len(s.Payload) < 20 {
		return
	}
	defer p.p.Recycle(&s)
	number, phase := binary.LittleEndian.Uint64(s.Payload[4:]), binary.LittleEndian.Uint32(s.Payload[12:])
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == "ping" {
		if number == p.number {
			p.pinged()
		}
		return
	}
	if phase == measured {
		if p.received == 0 {
			p.before, p.begun, p.first = cpu(), time.Now(), number
		}
		p.received++
	}
	if phase == ending {
		p.after, p.took, p.number = cpu(), time.Since(p.begun), number
	}
	if p.mode == "pong" {
		if _, err := p.writer.Write(s.Payload, rtps.WriteOptions{}); err != nil {
			fmt.Fprintln(os.Stderr, "rosbench:", err)
		}
	}
	if phase == ending {
		close(p.done)
	}
}

func (p *peer) publish() error {
	for range p.warm {
		if err := p.put(warming); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := p.writer.WaitAcked(ctx); err != nil {
		return err
	}
	p.before, p.begun = cpu(), time.Now()
	for time.Since(p.begun) < time.Duration(p.seconds*float64(time.Second)) {
		if err := p.put(measured); err != nil {
			return err
		}
	}
	if err := p.put(ending); err != nil {
		return err
	}
	err := p.writer.WaitAcked(ctx)
	p.after = cpu()
	close(p.done)
	return err
}

// many makes endpoints as a ROS 2 node has them.
func (p *peer) many(stopped context.Context, participant *rtps.Participant) error {
	data := []byte("typehash=RIHS01_0123456789012345678901234567890123456789012345678901234567890123;")
	qos := rtps.QoS{Reliability: rtps.Reliable, Depth: 10}
	for i := range p.count {
		topic, kind := fmt.Sprintf("rt/robot_%d/some/topic_%d", i%10, i), fmt.Sprintf("some_package_msgs::msg::dds_::Message%d_", i%50)
		if _, err := participant.NewWriter(rtps.WriterConfig{Topic: topic, Type: kind, QoS: qos, UserData: data}); err != nil {
			return err
		}
		if _, err := participant.NewReader(rtps.ReaderConfig{Topic: topic + "/in", Type: kind, QoS: qos, UserData: data}); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	<-stopped.Done()
	return nil
}
