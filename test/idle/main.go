// Command idle measures what an idle node costs: two real Bases, five whitelisted peers elsewhere, nothing to say. It counts every byte on the
// node's uplink at the IP level, both ways, with the default configuration and with 'low_data: true' at the same time, measures what the latter costs
// when something fails, and writes docs/idle-traffic.md. It exits 1 if a day costs more than it may. Nothing is left behind.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func main() {
	lab.Enter()
	out := flag.String("o", filepath.Join(fleet.Root(), "docs", "idle-traffic.md"), "`file` to write; empty: none")
	window := flag.Duration("window", 10*time.Minute, "how `long` the bytes are counted")
	settle := flag.Duration("settle", 3*time.Minute, "how `long` the nodes are left alone before that: what contact with the peers set off ends by itself")
	trials := flag.Int("trials", 3, "how often each failure is tried; 0 = not at all")
	quick := flag.Bool("quick", false, "a window of 2 minutes, 1 trial")
	flag.Parse()
	if *quick {
		*window, *settle, *trials = 2*time.Minute, 90*time.Second, 1
	}
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "idle: no network namespaces here:", why)
		os.Exit(1)
	}
	var r report
	if code := lab.Program("idle", func(t lab.TB) { r = measure(t, *settle, *window, *trials) }); code != 0 {
		os.Exit(code)
	}
	text := r.markdown()
	fmt.Print(text)
	if *out != "" {
		if err := os.WriteFile(*out, []byte(text), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "idle:", err)
			os.Exit(1)
		}
	}
	if !r.ok() {
		os.Exit(1)
	}
}
