// Package topic is a small DDS program on ros_pkg/rtps, for measurements of how long samples take between hosts of a lab. A program that imports it
// starts itself again as that: its main calls Main first.
package topic

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// command is the first argument of the program that is started again.
const command = "topic-peer"

// Types of ROS 2 by their DDS names.
const (
	Twist = "geometry_msgs::msg::dds_::Twist_"
	Image = "sensor_msgs::msg::Image_"
)

// Config is what a program publishes or subscribes to.
type Config struct {
	Name       string  // of ROS, as /cmd_vel
	Type       string  // of DDS
	Size       int     // bytes of a sample, at least 16
	Rate       float64 // samples a second
	BestEffort bool
	Depth      int // samples that a reliable writer keeps; 0 = 1
}

// Main makes this process the program if it was started for that, and then does not return.
func Main() {
	if len(os.Args) < 2 || os.Args[1] != command {
		return
	}
	if err := run(os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "topic:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Publish starts a publisher on a host, Subscribe a subscriber.
func Publish(t lab.TB, h *lab.Host, c Config) *Peer   { return start(t, h, "pub", c) }
func Subscribe(t lab.TB, h *lab.Host, c Config) *Peer { return start(t, h, "sub", c) }

// Peer is a program that runs.
type Peer struct{ *lab.Process }

func start(t lab.TB, h *lab.Host, mode string, c Config) *Peer {
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("topic: %v", err)
	}
	return &Peer{h.Start(t, self, command, mode, "-name", c.Name, "-type", c.Type, "-size", fmt.Sprint(c.Size), "-rate", fmt.Sprint(c.Rate),
		"-best-effort="+fmt.Sprint(c.BestEffort), "-depth", fmt.Sprint(max(c.Depth, 1)))}
}

// Stop ends the program.
func (p *Peer) Stop() {
	p.Signal(unix.SIGTERM)
	select {
	case <-p.Done():
	case <-time.After(5 * time.Second):
		p.Signal(unix.SIGKILL)
		<-p.Done()
	}
}

// Sample is one that was sent, by its time of sending, and how long it took; a publisher does not know that.
type Sample struct{ At, Took time.Duration }

// Samples are those so far.
func (p *Peer) Samples() (list []Sample) {
	for line := range strings.Lines(p.Output()) {
		var s Sample
		if n, _ := fmt.Sscanf(line, "sample %d %d", &s.At, &s.Took); n == 2 {
			list = append(list, s)
		}
	}
	return list
}

// Now is the machine's monotonic clock, which all namespaces and programs share. Without one nothing can be measured: the program ends.
func Now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		fmt.Fprintln(os.Stderr, "topic: no monotonic clock:", err)
		os.Exit(1)
	}
	return time.Duration(t.Nano())
}

func run(mode string, args []string) error {
	flags := flag.NewFlagSet(command, flag.ExitOnError)
	var c Config
	flags.StringVar(&c.Name, "name", "/cmd_vel", "of the topic")
	flags.StringVar(&c.Type, "type", Twist, "of DDS")
	flags.IntVar(&c.Size, "size", 48, "bytes of a sample")
	flags.Float64Var(&c.Rate, "rate", 50, "samples a second")
	flags.BoolVar(&c.BestEffort, "best-effort", false, "lost samples are not sent again")
	flags.IntVar(&c.Depth, "depth", 1, "samples that the writer keeps")
	_ = flags.Parse(args)
	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	p, err := rtps.New(rtps.Config{Name: "topic", Multicast: true, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	ctx, leave := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	defer func() { leave(); <-ended }()
	qos := rtps.QoS{Reliability: rtps.Reliable, Depth: c.Depth, MaxBlocking: 100 * time.Millisecond}
	if c.BestEffort {
		qos.Reliability = rtps.BestEffort
	}
	if mode == "sub" {
		return subscribe(stopped, p, c, qos)
	}
	return publish(stopped, p, c, qos)
}

func subscribe(stopped context.Context, p *rtps.Participant, c Config, qos rtps.QoS) error {
	var mu sync.Mutex // one line at a time
	_, err := p.NewReader(rtps.ReaderConfig{Topic: "rt" + c.Name, Type: c.Type, QoS: qos, Deliver: func(s rtps.Sample) {
		if len(s.Payload) >= 16 {
			at := time.Duration(binary.LittleEndian.Uint64(s.Payload[8:]))
			mu.Lock()
			fmt.Printf("sample %d %d\n", at, Now()-at)
			mu.Unlock()
		}
		p.Recycle(&s)
	}})
	if err == nil {
		<-stopped.Done()
	}
	return err
}

func publish(stopped context.Context, p *rtps.Participant, c Config, qos rtps.QoS) error {
	w, err := p.NewWriter(rtps.WriterConfig{Topic: "rt" + c.Name, Type: c.Type, QoS: qos})
	if err != nil {
		return err
	}
	sample := make([]byte, max(c.Size, 16))
	sample[1] = 1 // CDR, little endian
	tick := time.NewTicker(time.Duration(float64(time.Second) / c.Rate))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-stopped.Done():
			return nil
		}
		at := Now()
		binary.LittleEndian.PutUint64(sample[8:], uint64(at))
		if _, err := w.Write(sample, rtps.WriteOptions{}); err == nil {
			fmt.Printf("sample %d 0\n", at)
		}
	}
}
