package pace

import (
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/pace/pacetest"
)

const ms = time.Millisecond

// TestSaturated: a source without end in front of a bottleneck.
func TestSaturated(t *testing.T) {
	for _, k := range []struct {
		name      string
		rate      float64 // Mbit/s
		rtt       time.Duration
		buffer    int
		loss      float64
		jitter    time.Duration
		lostBack  float64
		skew      float64
		use       float64       // at least
		p50, p99  time.Duration // of the queue, at most
		settle    time.Duration
		rekey     time.Duration
		wayBack   time.Duration // queue on the way back, at random up to
		unlimited bool
	}{
		{name: "64 kB buffer", rate: 20, rtt: 60 * ms, buffer: 64 << 10, use: .95, p50: 5 * ms, p99: 15 * ms},
		{name: "256 kB buffer", rate: 20, rtt: 60 * ms, buffer: 256 << 10, use: .95, p50: 5 * ms, p99: 15 * ms},
		{name: "2 MB buffer", rate: 20, rtt: 60 * ms, buffer: 2 << 20, settle: 15 * time.Second, use: .95, p50: 5 * ms, p99: 15 * ms},
		{name: "1 % loss", rate: 20, rtt: 60 * ms, buffer: 1 << 20, loss: .01, use: .95, p50: 5 * ms, p99: 15 * ms},
		{name: "1 % loss, 64 kB buffer", rate: 20, rtt: 60 * ms, buffer: 64 << 10, loss: .01, use: .95, p50: 5 * ms, p99: 15 * ms},
		{name: "3 % loss", rate: 20, rtt: 60 * ms, buffer: 1 << 20, loss: .03, use: .94, p50: 5 * ms, p99: 18 * ms},
		{name: "jitter of 5 ms", rate: 20, rtt: 60 * ms, buffer: 1 << 20, jitter: 5 * ms, use: .95, p50: 5 * ms, p99: 18 * ms},
		{name: "jitter of 20 ms", rate: 20, rtt: 60 * ms, buffer: 1 << 20, jitter: 20 * ms, use: .9, p50: 8 * ms, p99: 25 * ms},
		{name: "half of the reports lost", rate: 20, rtt: 60 * ms, buffer: 256 << 10, lostBack: .5, use: .95, p50: 5 * ms, p99: 25 * ms},
		{name: "receiver's clock is fast", rate: 20, rtt: 60 * ms, buffer: 256 << 10, skew: 100e-6, use: .95, p50: 5 * ms, p99: 15 * ms},
		{name: "receiver's clock is slow", rate: 20, rtt: 60 * ms, buffer: 256 << 10, skew: -100e-6, use: .95, p50: 5 * ms, p99: 15 * ms},
		{name: "sessions change", rate: 20, rtt: 60 * ms, buffer: 256 << 10, rekey: 2 * time.Second, use: .93, p50: 5 * ms, p99: 20 * ms},
		{name: "queue on the way back", rate: 20, rtt: 60 * ms, buffer: 256 << 10, wayBack: 200 * ms, use: .88, p50: 8 * ms, p99: 45 * ms},
		{name: "short way", rate: 100, rtt: 10 * ms, buffer: 1 << 20, use: .95, p50: 3 * ms, p99: 12 * ms},
		{name: "satellite", rate: 20, rtt: 600 * ms, buffer: 4 << 20, use: .9, p50: 60 * ms, p99: 130 * ms},
		{name: "2 Mbit/s", rate: 2, rtt: 60 * ms, buffer: 64 << 10, use: .95, p50: 30 * ms, p99: 60 * ms},
		{name: "2 Mbit/s that holds 4 s", rate: 2, rtt: 60 * ms, buffer: 1 << 20, settle: 30 * time.Second, use: .93, p50: 30 * ms, p99: 60 * ms},
		{name: "a policer without a buffer", rate: 20, rtt: 60 * ms, buffer: 6000, use: .9, p50: 3 * ms, p99: 3 * ms},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			w := pacetest.NewWorld(1)
			link := &pacetest.Link{World: w, Rate: k.rate * mbit, Buffer: k.buffer, Delay: k.rtt / 2, Loss: k.loss, Jitter: k.jitter}
			f := newFlow(link, k.rtt/2)
			f.lostBack, f.skew = k.lostBack, k.skew
			if k.rekey > 0 {
				w.Every(k.rekey, func() { f.counter = 0 })
			}
			if k.wayBack > 0 {
				back := time.Duration(0)
				f.queueBack = func() time.Duration { return back }
				w.Every(time.Second, func() { back = time.Duration(w.Rand.Int64N(int64(k.wayBack))) })
			}
			f.endless()
			w.Run(max(k.settle, 8*time.Second))
			check(t, w, link, k.use, k.p50, k.p99)
			if _, limited := f.control.Rate(); !limited {
				t.Error("no limit was found")
			}
		})
	}
}

// check lets 10 s pass and compares them with what they should have been.
func check(t *testing.T, w *pacetest.World, link *pacetest.Link, use float64, p50, p99 time.Duration) {
	t.Helper()
	const span = 10
	list, before := watch(w, link), link.Carried
	w.Run(span * time.Second)
	got := float64(link.Carried-before) / (link.Rate * span)
	q50, q99 := quantile(*list, .5).Round(100*time.Microsecond), quantile(*list, .99).Round(100*time.Microsecond)
	t.Logf("%.3f of the link used, queue %v, p99 %v", got, q50, q99)
	if got < use {
		t.Errorf("%.3f of the link used, want %.2f", got, use)
	}
	if q50 > p50 || q99 > p99 {
		t.Errorf("queue %v, p99 %v; want at most %v and %v", q50, q99, p50, p99)
	}
}

// TestNotLimited: paths that only look congested.
func TestNotLimited(t *testing.T) {
	for _, k := range []struct {
		name          string
		rate, offered float64 // Mbit/s
		rtt           time.Duration
		noise, jitter time.Duration
		loss          float64
	}{
		{name: "LAN", rate: 1000, offered: 480, rtt: 100 * time.Microsecond},
		{name: "LAN, noise of 5 ms", rate: 1000, offered: 480, rtt: 100 * time.Microsecond, noise: 5 * ms, jitter: 5 * ms},
		{name: "LAN, noise of 30 ms", rate: 1000, offered: 480, rtt: 100 * time.Microsecond, noise: 30 * ms, jitter: 30 * ms},
		{name: "LAN, full", rate: 1000, offered: 2000, rtt: 100 * time.Microsecond},
		{name: "half used", rate: 20, offered: 10, rtt: 60 * ms},
		{name: "half used, a radio", rate: 20, offered: 10, rtt: 60 * ms, jitter: 15 * ms, noise: 20 * ms},
		{name: "half used, 10 % loss", rate: 20, offered: 10, rtt: 60 * ms, loss: .1},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			w := pacetest.NewWorld(2)
			link := &pacetest.Link{World: w, Rate: k.rate * mbit, Buffer: 1 << 20, Delay: k.rtt / 2, Jitter: k.jitter, Loss: k.loss}
			f := newFlow(link, k.rtt/2)
			f.offered, f.noise = k.offered*mbit, k.noise
			f.endless()
			span := time.Duration(min(10, 2000/k.rate) * float64(time.Second))
			w.Run(span / 4)
			sent := f.control.log.bytes
			w.Run(span)
			want := min(k.offered, k.rate) * mbit * span.Seconds()
			if got := float64(f.control.log.bytes-sent) / want; got < .97 {
				t.Errorf("%.2f of what was offered was sent", got)
			}
			if rate, limited := f.control.Rate(); limited {
				t.Errorf("limited to %.1f Mbit/s", rate/mbit)
			}
		})
	}
}

// TestCapacityChanges follows the link down and up.
func TestCapacityChanges(t *testing.T) {
	w := pacetest.NewWorld(1)
	link := &pacetest.Link{World: w, Rate: 20 * mbit, Buffer: 1 << 20, Delay: 30 * ms}
	f := newFlow(link, 30*ms)
	f.endless()
	for _, rate := range []float64{20, 5, 50, 10, 100, 20} {
		link.Rate = rate * mbit
		w.Run(8 * time.Second)
		t.Logf("%v Mbit/s", rate)
		check(t, w, link, .9, 10*ms, 150*ms)
	}
}

// TestRadio: a capacity that walks between 3 and 40 Mbit/s by up to 15 % ten times a second, with jitter.
func TestRadio(t *testing.T) {
	w := pacetest.NewWorld(1)
	link := &pacetest.Link{World: w, Rate: 20 * mbit, Buffer: 1 << 20, Delay: 30 * ms, Jitter: 8 * ms}
	f := newFlow(link, 30*ms)
	f.endless()
	w.Run(5 * time.Second)
	capacity := 0.0
	w.Every(100*ms, func() {
		link.Rate = min(max(link.Rate*(1+(w.Rand.Float64()-.5)*.3), 3*mbit), 40*mbit)
		capacity += link.Rate * .1
	})
	list, before := watch(w, link), link.Carried
	w.Run(40 * time.Second)
	use := float64(link.Carried-before) / capacity
	t.Logf("%.2f of the link used, queue %v, p90 %v, p99 %v", use, quantile(*list, .5), quantile(*list, .9), quantile(*list, .99))
	if use < .7 || quantile(*list, .5) > 15*ms || quantile(*list, .9) > 200*ms {
		t.Error("want 0.7 of the link, a queue of 15 ms and a p90 of 200 ms")
	}
}

// TestBurstsFindTheirRate: 1 MB once a second must fill the modem's buffer only the first time.
func TestBurstsFindTheirRate(t *testing.T) {
	w := pacetest.NewWorld(1)
	link := &pacetest.Link{World: w, Rate: 20 * mbit, Buffer: 1 << 20, Delay: 30 * ms}
	f := newFlow(link, 30*ms)
	burst := func() { f.push(1 << 20) }
	burst()
	w.Run(900 * ms)
	if link.Queueing() > 0 {
		t.Fatal("the first burst is not through")
	}
	for range 3 { // in the second at the latest it is found out
		burst()
		w.Run(time.Second)
	}
	list, before := watch(w, link), f.delivered
	for _, pause := range []time.Duration{time.Second, time.Second, time.Second, 20 * time.Second, time.Second, time.Second} {
		burst()
		w.Run(pause)
		rate, limited := f.control.Rate()
		t.Logf("queue up to %v so far, limited %v to %.1f Mbit/s", quantile(*list, 1), limited, rate/mbit)
	}
	if got := float64(f.delivered-before) / (6 << 20); got < .99 {
		t.Errorf("%.2f of the bursts arrived", got)
	}
	if most := quantile(*list, 1); most > 40*ms {
		t.Errorf("a later burst queued for %v", most)
	}
	// Half an hour later nobody knows what the link carries.
	w.Run(30 * time.Minute)
	f.push(2 * packet)
	if _, limited := f.control.Rate(); limited {
		t.Error("an old limit was not forgotten")
	}
}

func TestFair(t *testing.T) {
	for _, k := range []struct {
		name   string
		backs  []time.Duration
		rate   float64
		settle time.Duration
		jain   float64
	}{
		{"two", []time.Duration{30 * ms, 30 * ms}, 20, 20 * time.Second, .85},
		{"two of other RTT", []time.Duration{10 * ms, 90 * ms}, 20, 20 * time.Second, .8},
		{"two at 100 Mbit/s", []time.Duration{30 * ms, 30 * ms}, 100, 40 * time.Second, .8},
		{"four", []time.Duration{30 * ms, 40 * ms, 50 * ms, 60 * ms}, 20, 40 * time.Second, .8},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			w := pacetest.NewWorld(1)
			link := &pacetest.Link{World: w, Rate: k.rate * mbit, Buffer: 256 << 10, Delay: 30 * ms}
			var all []*flow
			for i, back := range k.backs {
				f := newFlow(link, back)
				all = append(all, f)
				w.After(time.Duration(i)*3*time.Second, f.endless)
			}
			w.Run(k.settle)
			before := make([]float64, len(all))
			for i, f := range all {
				before[i] = float64(f.delivered)
			}
			check(t, w, link, .93, 10*ms, 30*ms)
			sum, squares := 0., 0.
			for i, f := range all {
				x := float64(f.delivered) - before[i]
				sum, squares = sum+x, squares+x*x
			}
			if jain := sum * sum / float64(len(all)) / squares; jain < k.jain {
				t.Errorf("Jain's index is %.2f, want %.2f", jain, k.jain)
			} else {
				t.Logf("Jain's index is %.2f", jain)
			}
		})
	}
}

// TestBesideTCP: somebody else fills the buffer. Neither starves the other, and when he has gone the queue is short again.
func TestBesideTCP(t *testing.T) {
	for _, buffer := range []int{64 << 10, 256 << 10, 1 << 20} {
		w := pacetest.NewWorld(1)
		link := &pacetest.Link{World: w, Rate: 20 * mbit, Buffer: buffer, Delay: 30 * ms}
		f := newFlow(link, 30*ms)
		f.endless()
		w.Run(5 * time.Second)
		other := newTCP(link, 30*ms)
		w.Run(15 * time.Second)
		a, b := f.delivered, other.delivered
		w.Run(30 * time.Second)
		ours := float64(f.delivered-a) / float64(f.delivered-a+other.delivered-b)
		t.Logf("%d bytes of buffer: %.2f of the link", buffer, ours)
		if ours < .1 || ours > .9 {
			t.Errorf("%.2f of the link with a buffer of %d bytes", ours, buffer)
		}
		other.stop = true
		w.Run(8 * time.Second)
		check(t, w, link, .93, 10*ms, 40*ms)
	}
}

func TestRouteChanges(t *testing.T) {
	w := pacetest.NewWorld(1)
	link := &pacetest.Link{World: w, Rate: 20 * mbit, Buffer: 256 << 10, Delay: 30 * ms}
	f := newFlow(link, 30*ms)
	f.endless()
	w.Run(8 * time.Second)
	for _, delay := range []time.Duration{60 * ms, 20 * ms, 150 * ms} {
		link.Delay = delay
		w.Run(12 * time.Second)
		t.Logf("one way %v", delay)
		check(t, w, link, .92, 25*ms, 150*ms)
	}
}

// TestReceiverBeginsAnew: the other daemon was started again, so its counts and its clock begin anew.
func TestReceiverBeginsAnew(t *testing.T) {
	w := pacetest.NewWorld(1)
	link := &pacetest.Link{World: w, Rate: 20 * mbit, Buffer: 256 << 10, Delay: 30 * ms}
	f := newFlow(link, 30*ms)
	f.endless()
	w.Run(8 * time.Second)
	f.receive, f.counter = Receiver{}, 0
	w.Run(3 * time.Second)
	check(t, w, link, .93, 8*ms, 20*ms)
}

// TestHostileReports: whatever a peer reports, only its own path suffers, and no number escapes.
func TestHostileReports(t *testing.T) {
	now := time.Unix(0, 0)
	rng := pacetest.NewWorld(7).Rand
	for range 200 {
		c := New()
		for i := range 500 {
			now = now.Add(time.Duration(rng.Int64N(int64(20 * ms))))
			c.Sent(now, uint64(i)*uint64(rng.IntN(4)), 1+rng.IntN(60000))
			r := Report{Counter: uint64(rng.IntN(2 * (i + 1))), Bytes: rng.Uint64() >> rng.IntN(64), Held: time.Duration(rng.Uint32()) * time.Microsecond, At: time.Duration(rng.Int64()) >> rng.IntN(63)}
			if rng.IntN(2) == 0 {
				r.Held, r.At = 0, time.Duration(i)*10*ms
			}
			c.Report(now, r)
			rate, limited := c.Rate()
			if limited && !(rate >= slowest && rate <= 2*fast) {
				t.Fatalf("limited to %v", rate)
			}
			if until, ok := c.Allow(now, 1400); !ok && (until.Before(now) || until.Sub(now) > time.Minute) {
				t.Fatalf("asked to wait for %v", until.Sub(now))
			}
			if c.Queueing() < 0 {
				t.Fatalf("queueing %v", c.Queueing())
			}
		}
	}
}

func BenchmarkUnlimited(b *testing.B) {
	c := New()
	now := time.Now()
	b.ReportAllocs()
	counter := uint64(0)
	for b.Loop() {
		counter += 45
		now = now.Add(20 * time.Microsecond)
		if _, ok := c.Allow(now, 64000); ok {
			c.Sent(now, counter, 64000)
		}
	}
}

func BenchmarkLimited(b *testing.B) {
	c := New()
	now := time.Now()
	c.Sent(now, 0, 1400)
	c.limit = 2.5e6
	b.ReportAllocs()
	counter := uint64(0)
	for b.Loop() {
		counter++
		now = now.Add(600 * time.Microsecond)
		if _, ok := c.Allow(now, 1400); ok {
			c.Sent(now, counter, 1400)
		}
	}
}

func BenchmarkReport(b *testing.B) {
	c := New()
	now := time.Now()
	b.ReportAllocs()
	r := Report{}
	for b.Loop() {
		now = now.Add(2 * time.Millisecond)
		r.Counter++
		c.Sent(now, r.Counter, 1400)
		r.Bytes += 1400
		r.At += 2 * time.Millisecond
		c.Report(now.Add(time.Millisecond), r)
	}
}

// TestFirstReportInAQueue: what flows first fills the buffer, before any Report came. A probe has measured the way before.
func TestFirstReportInAQueue(t *testing.T) {
	for _, probed := range []bool{false, true} {
		w := pacetest.NewWorld(1)
		link := &pacetest.Link{World: w, Rate: 20 * mbit, Buffer: 1 << 20, Delay: 30 * ms}
		for range 500 {
			link.Send(packet, func(time.Duration) {})
		}
		f := newFlow(link, 30*ms)
		if probed {
			f.control.RoundTrip(w.Now, 61*ms)
		}
		f.endless()
		w.Run(4 * time.Second)
		got := link.Queueing()
		t.Logf("probed %v: a queue of %v after 4 s", probed, got)
		if probed && got > 30*ms {
			t.Errorf("a queue of %v after 4 s", got)
		}
	}
}

// TestInherit: the traffic moves to another path through the same bottleneck.
func TestInherit(t *testing.T) {
	w := pacetest.NewWorld(1)
	link := &pacetest.Link{World: w, Rate: 20 * mbit, Buffer: 1 << 20, Delay: 30 * ms}
	f := newFlow(link, 30*ms)
	f.endless()
	w.Run(8 * time.Second)
	before := f.control
	f.control, f.receive = New(), Receiver{}
	f.control.Inherit(w.Now, before)
	f.control.Inherit(w.Now, nil)
	rate, limited := f.control.Rate()
	if want, _ := before.Rate(); !limited || rate != want {
		t.Fatalf("limited %v to %v, want %v", limited, rate, want)
	}
	check(t, w, link, .93, 8*ms, 40*ms)
}

// TestBurstsAreNoQueue: samples that the link carries before the next one comes. They arrive as they would without a Controller.
func TestBurstsAreNoQueue(t *testing.T) {
	for _, k := range []struct {
		name   string
		rate   float64
		delay  time.Duration
		sample int
		every  time.Duration
		loss   float64
		busy   time.Duration // how long processors are away at most, 0 = never
		worst  time.Duration // that the median may be later than without
	}{
		{"100 kB at 30 Hz over 100 Mbit/s", 100, 50 * ms, 100e3, time.Second / 30, 0, 0, 2 * ms},
		{"100 kB at 30 Hz, 1 % loss", 100, 50 * ms, 100e3, time.Second / 30, .01, 0, 2 * ms},
		{"1 MB at 5 Hz over 100 Mbit/s", 100, 50 * ms, 1e6, time.Second / 5, 0, 0, 15 * ms},
		{"1 MB at 5 Hz, 1 % loss", 100, 50 * ms, 1e6, time.Second / 5, .01, 0, 15 * ms},
		{"6 MB at 1 Hz over 100 Mbit/s", 100, 50 * ms, 6e6, time.Second, 0, 0, 150 * ms},
		{"100 kB at 30 Hz, busy hosts", 100, 50 * ms, 100e3, time.Second / 30, 0, 40 * ms, 40 * ms},
		{"5 kB at 100 Hz over a LAN, busy hosts", 1000, 100 * time.Microsecond, 5e3, 10 * ms, 0, 40 * ms, 40 * ms},
		{"5 kB at 100 Hz over a LAN, starved hosts", 1000, 100 * time.Microsecond, 5e3, 10 * ms, 0, 300 * ms, 300 * ms},
		{"100 kB at 10 Hz by LTE, starved hosts", 50, 25 * ms, 100e3, 100 * ms, 0, 300 * ms, 400 * ms},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			const seed = 3
			var median [2]time.Duration
			var share [2]float64
			for i, paced := range []bool{false, true} {
				w := pacetest.NewWorld(seed)
				link := &pacetest.Link{World: w, Rate: k.rate * mbit, Buffer: 4 << 20, Delay: k.delay, Loss: k.loss}
				f := newFlow(link, k.delay)
				f.offered = 125e6
				f.deaf = !paced
				f.control.RoundTrip(w.Now, 2*k.delay)
				if k.busy > 0 {
					f.here, f.way, f.there = newProcessor(w, 30*ms, k.busy), newProcessor(w, 30*ms, k.busy), newProcessor(w, 30*ms, k.busy)
				}
				w.Every(k.every, func() { f.push(k.sample) })
				w.Run(40 * time.Second)
				share[i] = float64(f.delivered) / float64(f.pushed)
				if worst := quantile(f.arrivals, 1); paced && worst > 4*time.Second {
					t.Errorf("a sample took %v", worst)
				}
				median[i] = quantile(f.arrivals, .5)
				rate, limited := f.control.Rate()
				t.Logf("paced %v: median %v p95 %v max %v of %d; limited %v to %.1f Mbit/s", paced, median[i], quantile(f.arrivals, .95), quantile(f.arrivals, 1), len(f.arrivals), limited, rate/mbit)
			}
			if share[1] < share[0]-.01 {
				t.Errorf("%.3f of what was pushed arrived, %.3f without", share[1], share[0])
			}
			if more := median[1] - median[0]; more > k.worst {
				t.Errorf("the median is %v later", more)
			}
		})
	}
}
