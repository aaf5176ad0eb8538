package rosdds

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
	"github.com/hnet-robotics/hnet_bridge/test/monitor"
)

// Types of DDS; see peers/rosdds.idl.
const (
	messageType  = "rosdds::msg::dds_::Sample_"
	requestType  = "rosdds::srv::dds_::Echo_Request_"
	responseType = "rosdds::srv::dds_::Echo_Response_"
)

// peer is the program.
type peer struct {
	o      options
	p      *rtps.Participant
	writer *rtps.Writer
	reader *rtps.Reader
	client uint64 // Cyclone's mapping: the number in the header

	mu                           monitor.Monitor
	readers, writers, matched    int
	received, lost, dup, corrupt int
	answered, unanswered, sent   int
	last                         uint64
	waiting, done                bool
	held                         []held
}

// Peer is the program of Go. It returns the exit code.
func Peer(args []string) int {
	o, err := parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "go:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	p := &peer{o: o, client: rand.Uint64()}
	code, err := p.run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "go:", err)
	}
	return code
}

func (p *peer) event(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func (p *peer) run(stopped context.Context) (code int, err error) {
	o := p.o
	ctx := stopped
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(stopped, time.Duration(o.timeout*float64(time.Second)))
		defer cancel()
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p.p, err = rtps.New(rtps.Config{Domain: o.domain, Name: "rosdds", Multicast: true, Log: log})
	if err != nil {
		return 1, err
	}
	runs, leave := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.p.Run(runs) }()
	defer func() {
		leave()
		if e := <-ended; e != nil && err == nil {
			code, err = 1, e
		}
	}()
	if err := p.open(); err != nil {
		return 1, err
	}
	p.event("ready")

	var failed error
	if o.mode == "pub" || o.mode == "client" {
		failed = p.publish(ctx)
	}
	if failed == nil {
		p.mu.Wait(ctx, func() bool {
			return o.mode == "sub" && o.count > 0 && p.received >= o.count || p.corrupt > 0 || (o.mode == "pub" || o.mode == "client") && !o.stay
		})
	}
	if o.mode == "sub" && o.reliable {
		// The writers leave first, so that the last acknowledgements arrive.
		second, cancel := context.WithTimeout(ctx, time.Second)
		p.mu.Wait(second, func() bool { return p.writers == 0 })
		cancel()
	}
	return p.end(stopped, failed)
}

func (p *peer) end(stopped context.Context, failed error) (int, error) {
	o := p.o
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	reached := true
	switch o.mode {
	case "pub":
		p.event("done sent=%d", p.sent)
	case "sub":
		p.event("done received=%d lost=%d duplicates=%d corrupt=%d", p.received, p.lost, p.dup, p.corrupt)
		reached = o.count == 0 || p.received >= o.count
	case "client":
		p.event("done answered=%d unanswered=%d", p.answered, p.unanswered)
		reached = p.unanswered == 0 && p.dup == 0
	case "server":
		p.event("done served=%d", p.received)
	}
	if p.corrupt > 0 || stopped.Err() == nil && (failed != nil || !reached) {
		return 1, fmt.Errorf("not everything was reached: matched %d, sent %d, received %d, answered %d, corrupt %d: %w", p.matched, p.sent, p.received, p.answered, p.corrupt, failed)
	}
	return 0, nil
}

func (p *peer) open() (err error) {
	o := p.o
	qos := rtps.QoS{Depth: o.depth, MaxBlocking: 200 * time.Millisecond}
	if o.reliable {
		qos.Reliability = rtps.Reliable
	}
	if o.transientLocal {
		qos.Durability = rtps.TransientLocal
	}
	if o.keepAll {
		qos.History = rtps.KeepAll
	}
	inTopic, inType, outTopic, outType := o.topic, messageType, o.topic, messageType
	switch o.mode {
	case "client":
		outTopic, outType, inTopic, inType = o.request, requestType, o.reply, responseType
	case "server":
		inTopic, inType, outTopic, outType = o.request, requestType, o.reply, responseType
	}
	incompatible := func(_ rtps.Endpoint, policy string) {
		p.event("incompatible %d", policyNumber(policy))
	}
	if o.mode != "sub" {
		p.writer, err = p.p.NewWriter(rtps.WriterConfig{Topic: outTopic, Type: outType, QoS: qos, Incompatible: incompatible,
			Matched: func(_ rtps.Endpoint, matched bool) { p.match(&p.readers, matched) }})
		if err != nil {
			return err
		}
	}
	if o.mode != "pub" {
		p.mu.Lock() // a sample must find p.reader
		defer p.mu.Unlock()
		p.reader, err = p.p.NewReader(rtps.ReaderConfig{Topic: inTopic, Type: inType, QoS: qos, Incompatible: incompatible, Deliver: p.deliver,
			Matched: func(_ rtps.Endpoint, matched bool) { p.match(&p.writers, matched) }})
	}
	return err
}

func policyNumber(name string) int {
	for n := range wire.Policy(32) {
		if n.String() == name {
			return int(n)
		}
	}
	return 0
}

func (p *peer) match(count *int, matched bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if matched {
		*count++
	} else {
		*count--
	}
	n := p.readers
	if p.o.mode == "sub" || p.o.mode != "pub" && p.writers < n {
		n = p.writers
	}
	if n != p.matched && !p.done {
		p.matched = n
		p.event("matched %d", n)
	}
	p.release()
	p.mu.Changed()
}

func (p *peer) deliver(s rtps.Sample) {
	if s.Status != rtps.Alive {
		return
	}
	b, err := body(s.Payload)
	p.mu.Lock()
	defer p.mu.Unlock()
	// Cyclone's mapping has a header in front, Fast's names a sample beside.
	header, fast := []byte(nil), s.Related != nil
	service := p.o.mode == "client" || p.o.mode == "server"
	if service && !fast && err == nil {
		if len(b) < 16 {
			err = errPayload
		} else {
			header, b = b[:16], b[16:]
		}
	}
	var m sample
	if err == nil {
		m, err = parseSample(b)
	}
	switch {
	case p.done:
	case p.o.mode == "client" && fast && s.Related.Writer != p.reader.GUID() && s.Related.Writer != p.writer.GUID():
	case p.o.mode == "client" && header != nil && binary.LittleEndian.Uint64(header) != p.client:
	case err != nil || m.crc != crc32.ChecksumIEEE(m.data) || s.SourceTime.IsZero(): // all libraries tell the time, if only with the first fragment
		p.corrupt++
		p.event("corrupt %d", m.number)
	case p.o.mode == "server":
		p.received++
		p.event("served %d", m.number)
		p.serve(s, header, m)
	case p.o.mode == "client" && p.waiting && m.number == p.last && (m.number == 0 || len(m.data) == p.o.size(m.number)):
		p.waiting = false
	case m.number == 0:
	case p.o.mode == "client" || m.number <= p.last:
		p.dup++
		p.event("duplicate %d", m.number)
	default:
		if p.last > 0 {
			p.lost += int(m.number - p.last - 1)
		}
		p.last = m.number
		p.received++
		p.event("received %d %d", m.number, len(m.data))
	}
	p.mu.Changed()
}

func (p *peer) write(ctx context.Context, m sample) error {
	b := []byte{0, 1, 0, 0}
	o := rtps.WriteOptions{}
	if p.o.mode == "client" {
		if p.o.mapping == string(Cyclone) {
			b = binary.LittleEndian.AppendUint64(b, p.client)
			b = binary.LittleEndian.AppendUint64(b, m.number)
		} else {
			o.Related = &rtps.SampleIdentity{Writer: p.reader.GUID(), Sequence: wire.SequenceUnknown}
		}
	}
	b = m.append(b)
	for {
		_, err := p.writer.Write(b, o)
		if !errors.Is(err, rtps.ErrFull) || ctx.Err() != nil {
			return err
		}
	}
}

func (p *peer) publish(ctx context.Context) error {
	o := p.o
	if !p.mu.Wait(ctx, func() bool { return p.matched >= o.match }) {
		return ctx.Err()
	}
	if o.mode == "pub" && o.reliable && o.match > 0 {
		// What it is for is said in peers/peer.c.
		if err := p.write(ctx, makeSample(0, 0)); err != nil {
			return err
		}
		if err := p.writer.WaitAcked(ctx); err != nil {
			return err
		}
	}
	// Request 0 until it is answered.
	p.mu.Lock()
	p.waiting = o.mode == "client" && o.warm
	warming := p.waiting
	p.mu.Unlock()
	for warming {
		if err := p.write(ctx, makeSample(0, 0)); err != nil {
			return err
		}
		second, cancel := context.WithTimeout(ctx, time.Second)
		warming = !p.mu.Wait(second, func() bool { return !p.waiting })
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	due := time.Now()
	for n := uint64(1); o.count == 0 || n <= uint64(o.count); n++ {
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if o.rate > 0 {
			due = due.Add(time.Duration(float64(time.Second) / o.rate))
		}
		start := time.Now()
		p.mu.Lock()
		p.waiting = true
		if o.mode == "client" {
			p.last = n
		}
		p.mu.Unlock()
		if err := p.write(ctx, makeSample(n, o.size(n))); err != nil {
			return err
		}
		p.mu.Lock()
		p.sent = int(n)
		p.mu.Unlock()
		if o.mode == "pub" {
			p.event("sent %d", n)
			continue
		}
		reply, cancel := context.WithTimeout(ctx, time.Duration(o.replyTimeout*float64(time.Second)))
		ok := p.mu.Wait(reply, func() bool { return !p.waiting })
		cancel()
		p.mu.Lock()
		if ok {
			p.answered++
			p.event("answered %d %.1f", n, time.Since(start).Seconds()*1000)
		} else {
			p.unanswered++
			p.event("unanswered %d", n)
		}
		p.mu.Unlock()
	}
	if o.mode == "pub" && o.reliable {
		return p.writer.WaitAcked(ctx)
	}
	return nil
}
