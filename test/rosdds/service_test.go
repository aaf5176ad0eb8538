package rosdds

import (
	"fmt"
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

// warm makes a client's first request not count. A client that knows the server may not be known to it yet, and the first
// request, or the first answer, can be lost to a volatile reader that has not met the writer: so it is with two Cyclone
// DDS as well. With HNET_ROSDDS_ALL it counts.
func warm() string {
	if all {
		return ""
	}
	return "--warm"
}

// TestService calls a server of each vendor, with requests and answers of several sizes, over good and bad links.
func TestService(t *testing.T) {
	sizes := []int{0, 20_000}
	if all {
		sizes = []int{0, 64, 20_000}
	}
	shares := losses()
	if !all {
		shares = shares[:1]
	}
	for _, loss := range shares {
		t.Run(fmt.Sprintf("loss_%g", loss), func(t *testing.T) {
			_, a, b := network(t, lab.Link{Loss: loss})
			for i, pair := range calls() {
				t.Run(fmt.Sprintf("%s_calls_%s", pair[0], pair[1]), func(t *testing.T) {
					server := Start(t, b, pair[1], args("server --name s%d", i)...)
					for _, size := range sizes {
						client := Start(t, a, pair[0], args("client --name s%d --count 10 --rate 0 --size %d %s %s", i, size, mapping(pair[0], pair[1]), warm())...)
						want(t, client, 0)
						client.WaitLine(`^done answered=10 unanswered=0$`, patience)
					}
					server.Signal(unix.SIGTERM)
					want(t, server, 0)
				})
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
		clients = append(clients, Start(t, a, c.vendor, args("client --count 20 --rate 50 --size 500 --warm %s", c.more)...))
	}
	for _, c := range clients {
		want(t, c, 0)
		c.WaitLine(`^done answered=20 unanswered=0$`, patience)
	}
	server.Signal(unix.SIGTERM)
	want(t, server, 0)
}
