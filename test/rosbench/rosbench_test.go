package main

import (
	"os"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == peerCommand {
		os.Exit(peerMain(os.Args[2:]))
	}
	lab.Main(m)
}

// TestPeers measures large samples between two hosts once, in short: all that is sent arrives, between all pairs.
func TestPeers(t *testing.T) {
	cyclone, err := build()
	if err != nil {
		if os.Getenv("HNET_LAB") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	out := t.TempDir() + "/report.md"
	m := measurement{rounds: 1, trips: 40, span: 30 * time.Millisecond, out: out, cyclone: cyclone, noMemory: true, only: "-65536-far"}
	m.run(t)
	if b, err := os.ReadFile(out); err != nil || len(b) < 1000 {
		t.Errorf("%d bytes of report, %v", len(b), err)
	}
	for k, c := range m.cells {
		if !k.far || k.size < 1000 {
			continue
		}
		if c.lost != 0 || len(c.p50) != 1 || c.p50[0] <= 0 || c.rate[0] <= 0 {
			t.Errorf("%v: %+v", k, *c)
		}
	}
}
