// Command bench measures the project beside its peers, interleaved on one machine (peers.sh in this folder), and its own parts alone, and
// writes tables, plots and the ratios that the next run is compared with. It changes nothing outside of namespaces of its own.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	b := bench{}
	flag.IntVar(&b.rounds, "rounds", 3, "how often each system is measured, in turns, and each part")
	flag.IntVar(&b.seconds, "seconds", 6, "how long one TCP measurement takes")
	flag.StringVar(&b.out, "o", "docs/performance", "the folder to write to")
	flag.StringVar(&b.bin, "bin", "bin", "the folder of hnet, hnetd and hnetd-nocipher")
	flag.StringVar(&b.tools, "tools", filepath.Join(cacheDir(), "peer-bench"), "the folder of the programs compared with")
	systems := flag.String("systems", "bare,wggo,hnet,hnet-chacha,hnet-nocipher", "what is compared; see peers.sh; empty = nothing but the parts")
	flag.BoolVar(&b.parts, "parts", true, "measure the parts too, by 'go test -bench'")
	flag.Parse()
	if *systems != "" {
		b.systems = strings.Split(*systems, ",")
	}
	if err := b.run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func cacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return os.TempDir()
	}
	return dir
}

// bench is one run.
type bench struct {
	rounds, seconds int
	out, bin, tools string
	systems         []string
	parts           bool
}

// underlay is one of the networks that the systems are compared on.
type underlay struct{ key, title, flag string }

var underlays = []underlay{
	{"offload", "Underlay with segmentation offload", ""},
	{"plain", "Underlay without segmentation offload, nearer to a real network card", "-S"},
}

func (b *bench) run() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("network namespaces need root: run 'sudo make bench'")
	}
	r := report{when: time.Now(), rounds: b.rounds, seconds: b.seconds, systems: b.systems}
	if len(b.systems) > 0 {
		if err := b.compare(&r); err != nil {
			return err
		}
	}
	if b.parts {
		var err error
		if r.parts, err = measureParts(b.rounds); err != nil {
			return err
		}
	}
	return r.write(b.out)
}

// compare measures the systems side by side on each underlay.
func (b *bench) compare(r *report) error {
	if err := b.script("", "-b"); err != nil {
		return fmt.Errorf("the programs compared with could not be built: %w", err)
	}
	for _, u := range underlays {
		dir, err := os.MkdirTemp("", "hnet-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		args := []string{"-r", fmt.Sprint(b.rounds), "-t", fmt.Sprint(b.seconds), "-u", b.source("hnet.sh"), "-o", dir}
		if u.flag != "" {
			args = append(args, u.flag)
		}
		fmt.Fprintln(os.Stderr, "bench:", u.title)
		if err := b.script(dir, append(args, b.systems...)...); err != nil {
			return fmt.Errorf("peers.sh: %w", err)
		}
		t, err := readTable(filepath.Join(dir, "table.tsv"))
		if err != nil {
			return err
		}
		r.tables = append(r.tables, comparison{u, t})
	}
	return nil
}

// source is the path of a file beside this program's source.
func (b *bench) source(name string) string {
	wd, err := os.Getwd()
	if err != nil {
		wd = "."
	}
	return filepath.Join(wd, "test", "bench", name)
}

// script runs peers.sh; to measure, in network and mount namespaces of its own.
func (b *bench) script(dir string, args ...string) error {
	abs := func(p string) string {
		if a, err := filepath.Abs(p); err == nil {
			return a
		}
		return p
	}
	line := append([]string{"bash", b.source("peers.sh")}, args...)
	if dir != "" {
		inside := "mount --make-rprivate / && mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip link set lo up && exec nice -n -15 \"$@\""
		line = append([]string{"unshare", "--net", "--mount", "sh", "-c", inside, "sh"}, line...)
	}
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), "BIN="+abs(b.tools), "HNET_BIN="+abs(b.bin), "VERBOSE=1")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}
