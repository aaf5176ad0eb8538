package rosdds

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// calls are clients and servers that understand each other: of one vendor, or Go.
func calls() (list [][2]Vendor) {
	for _, pair := range pairs() {
		if pair[0] == Go || pair[1] == Go || pair[0] == pair[1] {
			list = append(list, pair)
		}
	}
	return list
}

// mapping is the option that makes a client of Go speak a vendor's mapping.
func mapping(client, server Vendor) string {
	if client == Go && server == Cyclone {
		return "--mapping cyclone"
	}
	return ""
}

// TestService calls a server of each vendor, with requests and answers of several sizes, over good and bad links. The first request counts as well: it is
// written as soon as the client knows the server, which may not know the client yet.
func TestService(t *testing.T) {
	count := 20
	if all {
		count = 100
	}
	for _, loss := range losses {
		t.Run(fmt.Sprintf("loss_%g", loss), func(t *testing.T) {
			_, a, b := network(t, lab.Link{Loss: loss})
			list := calls()
			if loss > 0.05 {
				list = append(list, [2]Vendor{FastDDS, FastDDS}) // the measure
			}
			var mu sync.Mutex
			unanswered := make(map[[2]Vendor]int)
			t.Run("calls", func(t *testing.T) {
				for i, pair := range list {
					t.Run(fmt.Sprintf("%s_calls_%s", pair[0], pair[1]), func(t *testing.T) {
						t.Parallel()
						server := Start(t, b, pair[1], args("server --name s%d --timeout 0", i)...)
						server.WaitLine("^ready$", patience)
						client := Start(t, a, pair[0], args("client --name s%d --count %d --rate 0 --size 0,64,20000 --timeout 50 %s", i, count, mapping(pair[0], pair[1]))...)
						var answered, not int
						line := client.WaitLine(`^done `, patience)
						if n, err := fmt.Sscanf(line, "done answered=%d unanswered=%d", &answered, &not); n != 2 {
							t.Fatalf("%q: %v", line, err)
						}
						client.Wait(patience)
						server.Signal(unix.SIGTERM)
						want(t, server, 0)
						mu.Lock()
						unanswered[pair] = count - answered
						mu.Unlock()
						if loss <= 0.05 && answered != count {
							t.Errorf("%d of %d requests are answered", answered, count)
						}
					})
				}
			})
			if loss > 0.05 {
				measure := unanswered[[2]Vendor{FastDDS, FastDDS}]
				t.Logf("without an answer: %v", unanswered)
				for pair, n := range unanswered {
					if pair[1] == Go && n > measure {
						t.Errorf("%v: %d of %d requests have no answer; from a server of Fast DDS %d", pair, n, count, measure)
					}
				}
			}
		})
	}
}

// TestBothVendorsAtOnce has one server answer clients of all vendors that call at the same time.
func TestBothVendorsAtOnce(t *testing.T) {
	_, a, b := network(t, lab.Link{Delay: time.Millisecond})
	server := Start(t, b, Go, args("server")...)
	var clients []*lab.Process
	for _, c := range []struct {
		vendor Vendor
		more   string
	}{{Cyclone, ""}, {FastDDS, ""}, {Go, "--mapping cyclone"}, {Go, ""}} {
		clients = append(clients, Start(t, a, c.vendor, args("client --count 20 --rate 50 --size 500 %s", c.more)...))
	}
	for _, c := range clients {
		want(t, c, 0)
		c.WaitLine(`^done answered=20 unanswered=0$`, patience)
	}
	server.Signal(unix.SIGTERM)
	want(t, server, 0)
}
