package integrity

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// metricsConfig has the daemons tell what they threw away.
const metricsConfig = "metrics: \"127.0.0.1:9586\"\n"

// queues are the places where something may be lost between some robots, and what the daemons threw away for other reasons.
type queues struct {
	ends   []end
	others []*lab.Host // on the way
}

// counts are how many were dropped, by place.
type counts map[string]uint64

// Queues of the kernel, as /proc names them: full socket buffers (a joined train counts once).
var kernelQueues = []string{"Udp6RcvbufErrors", "Udp6SndbufErrors", "Udp6MemErrors"}

func (q queues) read(t *testing.T) counts {
	t.Helper()
	c := counts{}
	for _, e := range q.ends {
		c.ofHost(t, e.Host)
		c[e.Name()+" lanes"] = e.thrownAway(t)["lane_overflow"]
	}
	for _, h := range q.others {
		c.ofHost(t, h)
	}
	// Between the devices: a queue for each processor, of the whole machine.
	b, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 {
			n, _ := strconv.ParseUint(f[1], 16, 64)
			c["backlog"] += n
		}
	}
	return c
}

// thrown is what the daemons threw away for whatever reason.
func (q queues) thrown(t *testing.T) counts {
	t.Helper()
	c := counts{}
	for _, e := range q.ends {
		for reason, n := range e.thrownAway(t) {
			c[e.Name()+" "+reason] += n
		}
	}
	return c
}

// paths says by which paths the ends reach each other.
func (q queues) paths() string {
	var list []string
	for _, e := range q.ends {
		for _, other := range q.ends {
			if p, ok := e.Peer(other.Address); ok {
				list = append(list, p.Endpoint.String())
			}
		}
	}
	return strings.Join(list, " and ")
}

// ofHost reads the queues of a host's kernel: those of its sockets and of its devices.
func (c counts) ofHost(t *testing.T, h *lab.Host) {
	t.Helper()
	for _, line := range strings.Split(h.Run(t, "cat", "/proc/net/snmp6"), "\n") {
		if f := strings.Fields(line); len(f) == 2 && slices.Contains(kernelQueues, f[0]) {
			c.add(h.Name()+" "+f[0], f[1])
		}
	}
	udp := strings.Split(h.Run(t, "grep", "^Udp:", "/proc/net/snmp"), "\n")
	if len(udp) >= 2 {
		names, values := strings.Fields(udp[0]), strings.Fields(udp[1])
		for i, name := range names {
			if strings.HasSuffix(name, "bufErrors") || name == "MemErrors" {
				c.add(h.Name()+" Udp"+name, values[i])
			}
		}
	}
	links, err := h.Netlink().LinkList()
	if err != nil {
		t.Fatalf("devices of %s: %v", h.Name(), err)
	}
	for _, l := range links {
		if s := l.Attrs().Statistics; s != nil {
			c[h.Name()+" "+l.Attrs().Name+" dropped"] += s.TxDropped + s.RxDropped
		}
	}
}

func (c counts) add(key, value string) {
	n, _ := strconv.ParseUint(value, 10, 64)
	c[key] += n
}

// since are those that have been dropped since.
func (c counts) since(before counts) counts {
	d := counts{}
	for k, n := range c {
		if n > before[k] {
			d[k] = n - before[k]
		}
	}
	return d
}

func (c counts) total() (n uint64) {
	for _, x := range c {
		n += x
	}
	return n
}

func (c counts) String() string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(c)) {
		list = append(list, fmt.Sprintf("%s %d", k, c[k]))
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// thrownAway is what the daemon counts as hnet_dropped_total, by reason.
func (e end) thrownAway(t *testing.T) counts {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, address string) (c net.Conn, err error) {
		err = e.Do(func() (err error) {
			c, err = net.DialTimeout(network, address, patience)
			return err
		})
		return c, err
	}}}
	answer, err := client.Get("http://127.0.0.1:9586/metrics")
	if err != nil {
		t.Fatalf("metrics of %s: %v", e.Name(), err)
	}
	defer answer.Body.Close()
	c := counts{}
	lines := bufio.NewScanner(io.LimitReader(answer.Body, 1<<20))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), `hnet_dropped_total{reason="`); ok {
			reason, value, _ := strings.Cut(rest, `"} `)
			c.add(reason, value)
		}
	}
	return c
}

// Reasons for which nothing may be thrown away while nobody disturbs, and while somebody sends again, or forges, what was sent.
var (
	undisturbed = []string{"malformed", "replayed", "spoofed", "unauthentic", "unknown", "write_error"}
	disturbed   = []string{"malformed", "spoofed", "write_error"}
)

// thrown is what the daemons of some ends threw away up to a moment.
type thrown map[string]counts

func (w *world) thrown() thrown {
	w.t.Helper()
	x := thrown{}
	for _, e := range []end{w.a, w.b} {
		x[e.Name()] = e.thrownAway(w.t)
	}
	return x
}

// handshakes is how many messages of handshakes may come late: a first one goes to all endpoints of a peer, and one of them is answered.
const handshakes = 8

// clean fails the test if a daemon has since thrown away something for one of the reasons.
func (w *world) clean(before thrown, reasons []string) {
	w.t.Helper()
	for name, now := range w.thrown() {
		for reason, n := range now.since(before[name]) {
			if slices.Contains(reasons, reason) && n > handshakes {
				w.t.Errorf("%s threw away %d as %q", name, n, reason)
			}
		}
	}
}
