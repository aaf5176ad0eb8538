// Command ddssizes measures how large samples of DDS fare over the overlay, on a link with delay, loss and a limited rate: with hnet's profile,
// with the library's own sizes, with what ROS's guide to tuning recommends, and without the overlay; Cyclone DDS and Fast DDS, reliable and best effort.
// All profiles take turns, between the same two daemons. It takes some 13 minutes, tells what it does on stderr, and leaves nothing behind.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func main() {
	lab.Enter()
	m := measurement{warm: true}
	out := flag.String("o", filepath.Join(fleet.Root(), "docs", "dds-sizes.md"), "`file` to write; empty: none")
	only := flag.String("run", "", "measure only rows that match this `regexp`, as 'cyclone reliable 1 MB 3 %'; then nothing is written")
	flag.DurationVar(&m.span, "span", 4*time.Second, "how long each measurement takes")
	flag.IntVar(&m.rounds, "rounds", 1, "how often each is taken")
	flag.DurationVar(&m.link.Delay, "delay", 50*time.Millisecond, "of the link, each way")
	flag.Float64Var(&m.link.RateMbit, "rate", 100, "of the link, each way, in Mbit/s")
	flag.StringVar(&m.configuration, "configuration", "", "of hnetd, as 'pace: false'")
	flag.StringVar(&m.candidates, "try", "", "`folder` of further profiles to measure: cyclone-NAME.xml, fastdds-NAME.xml, with {{.Own}}, {{.Peer}} and {{.Device}} in them")
	profiles := flag.String("profiles", "", "measure only profiles that match this `regexp`; then nothing is written")
	flag.Parse()
	match, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ddssizes:", err)
		os.Exit(2)
	}
	if m.wanted, err = regexp.Compile(*profiles); err != nil {
		fmt.Fprintln(os.Stderr, "ddssizes:", err)
		os.Exit(2)
	}
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "ddssizes: network namespaces cannot be made here:", why)
		os.Exit(1)
	}
	for _, c := range cases(m.link.RateMbit) {
		if match.MatchString(c.String()) {
			m.cases = append(m.cases, c)
		}
	}
	if code := lab.Program("ddssizes", m.run); code != 0 {
		os.Exit(code)
	}
	var page bytes.Buffer
	m.report(&page)
	if *only != "" || *profiles != "" || m.configuration != "" || *out == "" || m.candidates != "" {
		os.Stdout.Write(page.Bytes())
		return
	}
	if err := os.WriteFile(*out, page.Bytes(), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "ddssizes:", err)
		os.Exit(1)
	}
}
