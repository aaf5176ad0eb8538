package rosnode

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/rosdds"
)

func TestMain(m *testing.M) {
	rosdds.Main()
	lab.Main(m)
}

// patience is for what comes, if it comes.
const patience = 40 * time.Second

var vendors = []rosdds.Vendor{rosdds.Cyclone, rosdds.FastDDS}

// startNode starts hnet_bridge on a host, with parameters in the form name:=value. ~/peers comes once in 10 s, or when there is news.
func startNode(t *testing.T, h *lab.Host, parameters ...string) *lab.Process {
	t.Helper()
	args := []string{"--ros-args", "-p", "publish_rate:=0.1"}
	for _, p := range parameters {
		args = append(args, "-p", p)
	}
	return h.Start(t, fleet.Binary(t, "hnet_bridge"), args...)
}

func fields(s string, more ...any) []string { return strings.Fields(fmt.Sprintf(s, more...)) }

// arrived is a line of a raw program.
type arrived struct {
	at      time.Time
	payload []byte
}

var arrival = regexp.MustCompile(`^(?:sample|reply|asked) (\d+)\.(\d{6}) ?([0-9a-f]*)$`)

func parseArrived(t *testing.T, line string) arrived {
	t.Helper()
	m := arrival.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("not a line of a raw program: %q", line)
	}
	seconds, _ := strconv.ParseInt(m[1], 10, 64)
	micros, _ := strconv.ParseInt(m[2], 10, 64)
	payload, err := hex.DecodeString(m[3])
	if err != nil {
		t.Fatal(err)
	}
	return arrived{time.Unix(seconds, micros*1000), payload}
}

// next waits for the next line of a kind.
func next(t *testing.T, p *lab.Process, kind string) arrived {
	t.Helper()
	return parseArrived(t, p.WaitLine("^"+kind+" ", patience))
}

// until waits for a sample that is wanted.
func until[T any, P interface {
	*T
	cdr.Message
}](t *testing.T, p *lab.Process, what string, want func(m *T, at time.Time) bool) (*T, time.Time) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		a := next(t, p, "sample")
		m := new(T)
		exactly(t, a.payload, P(m))
		if want(m, a.at) {
			return m, a.at
		}
		if time.Now().After(deadline) {
			t.Fatalf("no sample with %s; the last one: %+v", what, m)
		}
	}
}

// exactly reads a message and checks that the payload is nothing but that message.
func exactly(t *testing.T, payload []byte, m cdr.Message) {
	t.Helper()
	if err := cdr.Unmarshal(payload, m); err != nil {
		t.Fatalf("%s: %v in % x", m.ROSType(), err, payload)
	}
	again := cdr.Marshal(m)
	rest, ok := bytes.CutPrefix(payload[min(4, len(payload)):], again[4:])
	if !ok || len(rest) > 3 || len(bytes.Trim(rest, "\x00")) > 0 { // padding
		t.Fatalf("%s is not % x: written again it is % x", m.ROSType(), payload, again)
	}
}

// reply reads the reply to a request of a vendor's client.
func reply(t *testing.T, p *lab.Process, v rosdds.Vendor, m cdr.Message) time.Time {
	t.Helper()
	a := next(t, p, "reply")
	if v == rosdds.Cyclone { // a header of 16 bytes, which keeps the alignment
		if len(a.payload) < 20 {
			t.Fatalf("reply of %d bytes", len(a.payload))
		}
		a.payload = append(a.payload[:4:4], a.payload[20:]...)
	}
	exactly(t, a.payload, m)
	return a.at
}

// ends waits for a program's good end.
func ends(t *testing.T, p *lab.Process) {
	t.Helper()
	if code := p.Wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// stop ends a program that has no end of its own.
func stop(t *testing.T, p *lab.Process) {
	t.Helper()
	p.Signal(unix.SIGTERM)
	ends(t, p)
}
