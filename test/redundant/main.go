// Command redundant cuts the paths of a robot with two uplinks, Wi-Fi and LTE, one after the other under two topics of 100 samples a second, of which one
// is in a redundant lane, and counts the samples that are lost. It adds its table to docs/lanes.md and leaves nothing else behind.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/lanes/topic"
)

// mark begins this program's part of the page; test/lanes keeps what follows it.
const mark = "\n<!-- redundant -->\n"

func main() {
	topic.Main()
	lab.Enter()
	out := flag.String("o", filepath.Join(fleet.Root(), "docs", "lanes.md"), "`file` whose last part is written; empty: none")
	m := &measurement{}
	flag.DurationVar(&m.outage, "outage", 5*time.Second, "how long a path is cut, and how long it is there before the next cut")
	flag.IntVar(&m.rounds, "rounds", 2, "how often each is done")
	flag.Parse()
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "redundant: network namespaces cannot be made here:", why)
		os.Exit(1)
	}
	if code := lab.Program("redundant", m.run); code != 0 {
		os.Exit(code)
	}
	var page bytes.Buffer
	m.report(&page)
	if *out == "" {
		os.Stdout.Write(page.Bytes())
		return
	}
	old, err := os.ReadFile(*out)
	if err == nil || os.IsNotExist(err) {
		before, _, _ := bytes.Cut(old, []byte(mark))
		err = os.WriteFile(*out, append(append(before, mark...), page.Bytes()...), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "redundant:", err)
		os.Exit(1)
	}
}
