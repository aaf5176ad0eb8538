package rtps

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// run starts a participant and ends it with the test.
func run(t testing.TB, config Config) *Participant {
	t.Helper()
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

func local(domain int) Config {
	return Config{Domain: domain, Interfaces: LocalhostOnly, Multicast: true}
}

// collector counts samples in order.
type collector struct {
	mu      sync.Mutex
	next    uint32
	wrong   int
	changed chan struct{}
}

func newCollector() *collector { return &collector{changed: make(chan struct{}, 1)} }

func (c *collector) deliver(s Sample) {
	c.mu.Lock()
	if binary.LittleEndian.Uint32(s.Payload[4:]) != c.next {
		c.wrong++
	}
	c.next++
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *collector) await(t testing.TB, n uint32) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		c.mu.Lock()
		got, wrong := c.next, c.wrong
		c.mu.Unlock()
		if wrong > 0 {
			t.Fatalf("%d samples are out of order", wrong)
		}
		if got >= n {
			return
		}
		select {
		case <-c.changed:
		case <-limit:
			t.Fatalf("%d of %d samples", got, n)
		}
	}
}

func payload(i, size int) []byte {
	b := make([]byte, max(size, 8))
	b[1] = 1
	binary.LittleEndian.PutUint32(b[4:], uint32(i))
	return b
}

// Two participants of one process, over loopback, with all that can be done at once done at once.
func TestLoopback(t *testing.T) {
	a, b := run(t, local(11)), run(t, local(11))
	if a.Index() == b.Index() || a.GUID() == b.GUID() {
		t.Errorf("both are number %d, %v", a.Index(), a.GUID())
	}
	q := QoS{Reliability: Reliable, History: KeepAll, MaxBlocking: 5 * time.Second}
	matched := make(chan Endpoint, 4)
	w, err := a.NewWriter(WriterConfig{Topic: "rt/x", Type: "T", QoS: q, MaxSamples: 50, Matched: func(e Endpoint, on bool) {
		if on {
			matched <- e
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	far, near := newCollector(), newCollector()
	r, err := b.NewReader(ReaderConfig{Topic: "rt/x", Type: "T", QoS: q, Deliver: func(s Sample) {
		if !s.Loopback || s.Own || !s.From.IsValid() || !s.Local.Addr().IsLoopback() {
			t.Errorf("from %v to %v, loopback %v, own %v", s.From, s.Local, s.Loopback, s.Own)
		}
		far.deliver(s)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.NewReader(ReaderConfig{Topic: "rt/x", Type: "T", QoS: q, Deliver: near.deliver}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case <-matched:
		case <-time.After(20 * time.Second):
			t.Fatal("no match")
		}
	}
	// A first sample, acknowledged, says that the reader has matched too.
	const count = 2000
	for i := range count {
		if _, err := w.Write(payload(i, 64+i%7*400), WriteOptions{}); err != nil {
			t.Fatalf("sample %d: %v", i, err)
		}
		if i == 0 {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			if err := w.WaitAcked(ctx); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
		if i%100 == 0 {
			a.Graph()
			w.Matched()
			r.Matched()
			b.Counters()
		}
	}
	far.await(t, count)
	near.await(t, count)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.WaitAcked(ctx); err != nil {
		t.Fatal(err)
	}
	if len(w.Matched()) != 2 || len(r.Matched()) != 1 {
		t.Errorf("%d and %d are matched", len(w.Matched()), len(r.Matched()))
	}
	r.Close()
	w.Close()
	if _, err := w.Write(payload(0, 8), WriteOptions{}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// Without a network own endpoints meet, and callbacks may call the participant.
func TestOff(t *testing.T) {
	p := run(t, Config{Interfaces: Off})
	q := QoS{Reliability: Reliable, Durability: TransientLocal, Depth: 5}
	echo, err := p.NewWriter(WriterConfig{Topic: "rr/x", Type: "T", QoS: q})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = p.NewReader(ReaderConfig{Topic: "rq/x", Type: "T", QoS: q, Deliver: func(s Sample) {
		if _, err := echo.Write(s.Payload, WriteOptions{Related: &SampleIdentity{Writer: s.Writer, Sequence: s.Sequence}}); err != nil {
			t.Error(err)
		}
	}}); err != nil {
		t.Fatal(err)
	}
	ask, err := p.NewWriter(WriterConfig{Topic: "rq/x", Type: "T", QoS: q})
	if err != nil {
		t.Fatal(err)
	}
	back := newCollector()
	if _, err = p.NewReader(ReaderConfig{Topic: "rr/x", Type: "T", QoS: q, Deliver: back.deliver}); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := ask.Write(payload(i, 20), WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	back.await(t, 100)
}

func TestRefusedConfigs(t *testing.T) {
	for _, c := range []Config{{Domain: 233}, {Domain: -1}, {Prefix: &wire.GuidPrefix{1, 0x0f}}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// BenchmarkRoundTrip is 64 bytes to another participant over loopback and back.
func BenchmarkRoundTrip(b *testing.B) {
	x, y := run(b, local(12)), run(b, local(12))
	q := QoS{Reliability: Reliable, Depth: 10}
	matched := make(chan bool, 8)
	on := func(_ Endpoint, on bool) { matched <- on }
	w, _ := x.NewWriter(WriterConfig{Topic: "rt/ping", Type: "T", QoS: q, Matched: on})
	back, _ := y.NewWriter(WriterConfig{Topic: "rt/pong", Type: "T", QoS: q, Matched: on})
	got := make(chan struct{}, 1)
	y.NewReader(ReaderConfig{Topic: "rt/ping", Type: "T", QoS: q, Matched: on, Deliver: func(s Sample) { back.Write(s.Payload, WriteOptions{}) }})
	x.NewReader(ReaderConfig{Topic: "rt/pong", Type: "T", QoS: q, Matched: on, Deliver: func(Sample) { got <- struct{}{} }})
	for range 4 {
		<-matched
	}
	data := payload(0, 64)
	b.ReportAllocs()
	for b.Loop() {
		w.Write(data, WriteOptions{})
		<-got
	}
}
