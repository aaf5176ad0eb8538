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
	for _, want := range []string{"## Cyclone DDS, reliable\n", "## Fast DDS, reliable\n", "| 100 kB | 10 | 1 % | hnet |"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %q in\n%s", want, page.String())
		}
	}
}

func TestEvaluate(t *testing.T) {
	c := row{cyclone, true, 1000, 10, 0}
	r := evaluate("ready\nsent 1 10.0\nsent 2 10.5\nsent 3 11.5\n", "received robot1 1 1000 10.1\nreceived robot1 3 1000 13.5\nreceived guest 9 1000 1\n", c, 2*time.Second, 6000)
	if r.perSecond != 0.5 || math.Abs(r.median-2) > 1e-9 || r.sent != 3 || r.note != "1 of 3 lost" {
		t.Errorf("%+v", r)
	}
	if r := evaluate("", "", c, time.Second, 0); !math.IsNaN(r.median) || !math.IsInf(r.sent, 1) || r.perSecond != 0 {
		t.Errorf("of nothing: %+v", r)
	}
}
