package main

import (
	"bytes"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// TestShort takes one row of each library with hnet's profile, and writes the page.
func TestShort(t *testing.T) {
	if lab.Missing() != "" {
		t.Skip("no network namespaces here: " + lab.Missing())
	}
	m := measurement{link: lab.Link{Delay: 5 * time.Millisecond, RateMbit: 50}, span: time.Second, rounds: 1, wanted: regexp.MustCompile("^hnet$")}
	for _, vendor := range []string{cyclone, fastdds} {
		m.cases = append(m.cases, row{vendor, true, 100_000, 10, 0.01})
	}
	m.run(t)
	for _, c := range m.cases {
		if r := m.results[c][ours]; len(r) != 1 || math.IsNaN(r[0].median) {
			t.Errorf("%s: nothing was delivered: %+v", c, r)
		}
	}
	var page bytes.Buffer
	m.report(&page)
	for _, want := range []string{"## Cyclone DDS, reliable\n", "## Fast DDS, reliable\n", "| 100 kB | 10 | 1 % | hnet |", "| dropped | torn |"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %q in\n%s", want, page.String())
		}
	}
}

func TestEvaluate(t *testing.T) {
	c := row{cyclone, true, 1000, 10, 0}
	const pub = "ready\nsent 1 9.0\nsent 2 10.0\nsent 3 10.5\nsent 4 11.5\n" // the first before the reader is there
	const sub = "received robot1 1 1000 9.1\nreceived robot1 2 1000 10.1\nreceived robot1 4 1000 13.5\nreceived guest 9 1000 1\n"
	r := evaluate(pub, sub, c, 9.5, 2*time.Second, counters{bytes: 6000, packets: 10, carried: 9, cut: 4, whole: 1})
	if r.perSecond != 0.5 || math.Abs(r.median-2) > 1e-9 || r.sent != 3 || r.note != "1 of 3 lost" || r.dropped != 0.1 || r.torn != 0.75 {
		t.Errorf("%+v", r)
	}
	if r := evaluate("", "", c, 0, time.Second, counters{}); !math.IsNaN(r.median) || !math.IsInf(r.sent, 1) || r.perSecond != 0 || !math.IsNaN(r.torn) {
		t.Errorf("of nothing: %+v", r)
	}
}

func TestHeldInPieces(t *testing.T) {
	if n := heldInPieces("TCP6: inuse 3\nRAW6: inuse 0\nFRAG6: inuse 7 memory 4194816\n"); n != 4194816 {
		t.Error(n)
	}
	if n := heldInPieces("TCP6: inuse 3\n"); n != 0 {
		t.Error(n)
	}
}
