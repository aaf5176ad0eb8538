package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const sample = "system\tmetric\tmedian\tmin\tmax\tn\tratio_to_wggo\n" +
	"wggo\ttcp1_mbps\t2000\t1900\t2100\t3\t1.00\n" +
	"hnet\ttcp1_mbps\t7000\t6500\t7200\t3\t3.50\n" +
	"hnet\tload_rtt_p99_us\t2000\t1500\t9000\t3\t0.05\n" +
	"wggo\tload_rtt_p99_us\t40000\t30000\t50000\t3\t1.00\n"

func sampleReport(t *testing.T) *report {
	t.Helper()
	path := filepath.Join(t.TempDir(), "table.tsv")
	if err := os.WriteFile(path, []byte(sample), 0o600); err != nil {
		t.Fatal(err)
	}
	tab, err := readTable(path)
	if err != nil {
		t.Fatal(err)
	}
	return &report{when: time.Unix(0, 0), rounds: 3, seconds: 6, systems: []string{"wggo", "hnet"}, tables: []comparison{{underlays[0], tab}}}
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	if err := sampleReport(t).write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| hnet | 7000 (6500–7200) **3.50**", "≥ 3.30 | 3.50 | reached", "≤ 0.06 | 0.05 | reached", "there is none"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	svgs, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(svgs) != len(plots) {
		t.Fatalf("%d plots (%v), want %d", len(svgs), err, len(plots))
	}
	for _, path := range svgs {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(f); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s is not well-formed: %v", path, err)
			}
		}
		f.Close()
	}
	if err := sampleReport(t).write(dir); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(filepath.Join(dir, "README.md")); err != nil || !strings.Contains(string(text), "no ratio moved") {
		t.Errorf("a second run with the same figures is not said to be like the first (%v)", err)
	}
	// A run of other systems leaves the record of these alone.
	other := sampleReport(t)
	other.systems = []string{"wggo"}
	if err := other.write(dir); err != nil {
		t.Fatal(err)
	}
	if kept, err := readRatios(filepath.Join(dir, "ratios.tsv")); err != nil || kept[key{"offload", "hnet", "tcp1_mbps"}] != 3.5 {
		t.Errorf("the record is now %v (%v)", kept, err)
	}
}

func TestPartsAlone(t *testing.T) {
	dir := t.TempDir()
	r := &report{rounds: 3, parts: []part{{title: "seal and open", name: "BenchmarkSeal/aes256gcm/1200", ns: []float64{600, 500, 900}, perSecond: []float64{2000, 2400, 1300}}}}
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "parts.md")); err != nil || !strings.Contains(string(text), "| seal and open | Seal/aes256gcm/1200 | 600 (500–900) | 2000 | 0 |  |") {
		t.Errorf("%v:\n%s", err, text)
	}
	if _, err := os.Stat(filepath.Join(dir, "README.md")); err == nil {
		t.Error("the report of the comparison was replaced")
	}
}

func TestOtherFigures(t *testing.T) {
	var p part
	for _, line := range []string{"   717 MB/s   0.81 ratio  1305 ns/packet  0 B/op  0 allocs/op", " 700 MB/s 0.83 ratio 24370 ns/packet", " 0.9 ratio 1400.4 ns/packet"} {
		p.add(line)
	}
	if got := p.others(); got != "1400 ns/packet, 0.83 ratio" {
		t.Errorf("got %q", got)
	}
}

func TestCompare(t *testing.T) {
	tcp, rtt := key{"offload", "hnet", "tcp1_mbps"}, key{"offload", "hnet", "rtt_p50_us"}
	for _, c := range []struct {
		name      string
		last, now map[key]float64
		want      string
	}{
		{"less throughput is worse", map[key]float64{tcp: 3}, map[key]float64{tcp: 2}, "WORSE: offload hnet tcp1_mbps 3.00 → 2.00"},
		{"more latency is worse", map[key]float64{rtt: 0.5}, map[key]float64{rtt: 0.7}, "WORSE: offload hnet rtt_p50_us 0.50 → 0.70"},
		{"more throughput is better", map[key]float64{tcp: 3}, map[key]float64{tcp: 4}, "better: offload hnet tcp1_mbps 3.00 → 4.00"},
		{"what is gone is worse", map[key]float64{tcp: 3, rtt: 0.5}, map[key]float64{tcp: 3}, "WORSE: offload hnet rtt_p50_us is missing"},
		{"who was not asked is not missed", map[key]float64{tcp: 3, {"offload", "hnet-aes", "tcp1_mbps"}: 3}, map[key]float64{tcp: 3}, "no ratio moved by more than 15 %"},
		{"noise is neither", map[key]float64{tcp: 3}, map[key]float64{tcp: 2.9}, "no ratio moved by more than 15 %"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := compare(c.last, c.now, []string{"wggo", "hnet"}); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestBrokenTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table.tsv")
	for _, bad := range []string{"head\nwggo\ttcp1", "head\nwggo\ttcp1_mbps\tx\t1\t1\t1\t1"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readTable(path); err == nil {
			t.Errorf("%q was read without an error", bad)
		}
	}
}
