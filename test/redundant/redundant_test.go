package main

import (
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/lanes/topic"
)

func TestMain(m *testing.M) {
	topic.Main()
	lab.Main(m)
}

// TestLosingAnUplink cuts each of two uplinks without a sign: no redundant sample may be lost, and of the others some are.
func TestLosingAnUplink(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real programs")
	}
	w := newWorld(t)
	time.Sleep(warm)
	m := measurement{outage: 2 * time.Second}
	late := false
	for _, e := range events() {
		if e.what != "Wi-Fi falls silent" && e.what != "LTE falls silent" {
			continue
		}
		r := m.measure(w, e)
		t.Logf("%s: redundant %+v, plain %+v", r.what, r.redundant, r.plain)
		late = late || r.plain.lost > 0 || r.plain.slowest > 500*time.Millisecond
		if r.redundant.sent < 4*rate {
			t.Errorf("%s: %d redundant samples were sent", r.what, r.redundant.sent)
		}
		if r.redundant.lost > 0 {
			t.Errorf("%s: %d of %d redundant samples were lost, for up to %v", r.what, r.redundant.lost, r.redundant.sent, r.redundant.gap)
		}
		if r.redundant.twice > 0 {
			t.Errorf("%s: %d samples arrived twice", r.what, r.redundant.twice)
		}
	}
	if !late {
		t.Error("no plain sample was lost or late: what was cut did not carry the traffic")
	}
}
