// Command lanes measures how long 50 small samples a second take, as a robot's /cmd_vel does, beside what fills the link: TCP, images as plain
// datagrams, and 1 MB images of our own RTPS, Cyclone DDS and Fast DDS; with and without pacing, in turns, over links with small and large buffers.
// It leaves nothing behind.
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
	"github.com/hnet-robotics/hnet_bridge/test/lanes/topic"
)

func main() {
	topic.Main()
	lab.Enter()
	m := &measurement{}
	out := flag.String("o", filepath.Join(fleet.Root(), "docs", "lanes.md"), "`file` to write; what it has of 'make redundant' stays; empty: none")
	only := flag.String("run", "", "measure only rows that match this `regexp`, as '256 kB Cyclone'; then nothing is written")
	flag.DurationVar(&m.span, "span", 20*time.Second, "how long each measurement takes")
	flag.DurationVar(&m.settle, "settle", 6*time.Second, "how long the load runs before")
	flag.Parse()
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "lanes: network namespaces cannot be made here:", why)
		os.Exit(1)
	}
	var err error
	if m.wanted, err = regexp.Compile(*only); err != nil {
		fmt.Fprintln(os.Stderr, "lanes:", err)
		os.Exit(2)
	}
	if code := lab.Program("lanes", m.run); code != 0 {
		os.Exit(code)
	}
	var page bytes.Buffer
	m.report(&page)
	if *only != "" || *out == "" {
		os.Stdout.Write(page.Bytes())
		return
	}
	if err := writePage(*out, page.Bytes()); err != nil {
		fmt.Fprintln(os.Stderr, "lanes:", err)
		os.Exit(1)
	}
}

// redundantMark begins the part of the page that test/redundant writes.
const redundantMark = "\n<!-- redundant -->\n"

// writePage replaces all of a file but what follows the mark.
func writePage(file string, page []byte) error {
	old, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if _, rest, ok := bytes.Cut(old, []byte(redundantMark)); ok {
		page = append(append(page, redundantMark...), rest...)
	}
	return os.WriteFile(file, page, 0o644)
}
