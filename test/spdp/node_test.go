package spdp

import (
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// asNode as first argument makes this test binary a node of our own stack that does as the DDS programs do: the second is
// its name.
const asNode = "as-node"

// node sends ten texts a second on the DDS programs' topic, and prints whose it hears.
func node(name string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	n, err := ros.NewNode(strings.ReplaceAll(name, "-", "_"))
	if err != nil {
		return err
	}
	defer n.Close()
	_, err = ros.NewSubscription(n, "/hnet_demo", ros.QoS{}, func(m *std_msgs.String, _ ros.MessageInfo) {
		var crc uint32
		var from, run string
		var seq, size int
		if _, err := fmt.Sscanf(m.Data, "hnet %x %s %s %d %d ", &crc, &from, &run, &seq, &size); err == nil {
			fmt.Println("received", from, seq, size)
		}
	})
	if err != nil {
		return err
	}
	pub, err := ros.NewPublisher[std_msgs.String](n, "/hnet_demo", ros.QoS{})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for i := range ros.Every(ctx, 100*time.Millisecond) {
		text := fmt.Sprintf("%s 7 %d 4 abcd", name, i+1)
		if err := pub.Publish(&std_msgs.String{Data: fmt.Sprintf("hnet %08x %s", crc32.ChecksumIEEE([]byte(text)), text)}); err != nil {
			return err
		}
	}
	return nil
}

// startNode starts a node of our own stack.
func (r *robot) startNode(name string) *lab.Process {
	r.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	p := r.Start(r.t, exe, asNode, name)
	p.WaitLine(`^ready$`, patience)
	return p
}

// TestDaemonRelays: hnetd itself passes discovery on, without being told to: between both vendors' programs and our own
// nodes, wherever they started first. A peer that leaves the whitelist is gone at once, and so are we for it.
func TestDaemonRelays(t *testing.T) {
	list := daemons(t, 2, "")
	a, b := list[0], list[1]
	running := map[string]*lab.Process{}
	start := func(r *robot) {
		for _, v := range vendors {
			running[name(r, v)] = r.start(v, "both", 0, "--rate", "10")
		}
		own := r.Name() + "-own"
		running[own] = r.startNode(own)
	}
	everybody := func(when string) {
		t.Helper()
		began := time.Now()
		for who, p := range running {
			for other := range running {
				if other != who {
					heard(t, p, other)
				}
			}
		}
		t.Logf("%s: everybody heard everybody after %v", when, time.Since(began).Round(10*time.Millisecond))
	}
	start(a)
	trust(a, b)
	start(b)
	everybody("two robots")
	for i, remover := range []*robot{a, b} {
		other := list[1-i]
		remover.Hnet("whitelist", "rm", other.Address.String())
		began := time.Now()
		for _, r := range list {
			for _, v := range vendors {
				matched(t, running[name(r, v)], 2)
			}
		}
		notLater(t, "everybody of "+other.Name()+" gone on both sides", began)
		trust(a, b)
		for _, r := range list {
			for _, v := range vendors {
				matched(t, running[name(r, v)], 5)
			}
		}
		more(t, running)
	}
}

// daemons are hosts on one LAN whose own daemons relay.
func daemons(t *testing.T, n int, configuration string) (list []*robot) {
	t.Helper()
	programs := programs(t)
	l := lab.New(t)
	var hosts []*lab.Host
	var parts []lab.Part
	for i := range n {
		h := l.Host(fmt.Sprintf("robot%d", i+1))
		hosts, parts = append(hosts, h), append(parts, h)
	}
	l.LAN(lab.Link{}, parts...)
	for _, h := range hosts {
		r := &robot{fleet.Start(t, h, configuration), t, programs, nil}
		r.profiles(true)
		list = append(list, r)
	}
	return list
}
