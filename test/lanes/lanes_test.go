package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/lanes/topic"
)

func TestMain(m *testing.M) {
	topic.Main()
	lab.Main(m)
}

// TestUrgentBesideImages: with a buffer of 1 MB that images fill, an urgent sample would wait for 419 ms. On a machine that starves the link itself for a
// while nothing can be told, so it is tried three times.
func TestUrgentBesideImages(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real programs")
	}
	m := &measurement{settle: 4 * time.Second, span: 5 * time.Second}
	p := newPair(t, lab.New(t), "paced", "")
	var err error
	for range 3 {
		r := m.measure(t, p, 1<<20, datagrams())
		for what, d := range map[string]delays{"/cmd_vel": r.topic, "EF": r.datagram} {
			t.Logf("%s: p50 %v, p90 %v, p99 %v, %d of %d lost", what, d.quantile(.5), d.quantile(.9), d.quantile(.99), d.lost(), d.sent)
		}
		t.Logf("%.1f Mbit/s, %.1f whole images a second", r.mbit, r.samples)
		if err = short(r); err == nil {
			return
		}
		t.Log(err)
	}
	t.Error(err)
}

// short reports what is wrong with a result.
func short(r result) (err error) {
	for what, d := range map[string]delays{"/cmd_vel": r.topic, "EF": r.datagram} {
		if median := d.quantile(.5); median < delay || median > delay+120*time.Millisecond {
			err = errors.Join(err, fmt.Errorf("%s: the median takes %v", what, median))
		}
		if d.lost() > d.sent/4 || d.sent == 0 {
			err = errors.Join(err, fmt.Errorf("%s: %d of %d lost", what, d.lost(), d.sent))
		}
	}
	if r.mbit < rateMbit/3 {
		err = errors.Join(err, fmt.Errorf("%.1f of %d Mbit/s used", r.mbit, rateMbit))
	}
	return err
}
