package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/dds"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/lanes/topic"
)

const (
	imageBytes = 1_000_000
	// imageRate offers more than the link carries: 24 Mbit/s of samples that are sent again if need be, 80 Mbit/s of datagrams.
	imageRate    = 3
	imageDepth   = 5
	datagramRate = 10
)

// load fills the link. start returns what ends it; count is how many whole images have arrived so far, NaN if it has none.
type load struct {
	name  string
	start func(t lab.TB, p *pair) (stop func())
	count func() float64
}

func loads(t lab.TB) (list []load) {
	none := func() float64 { return unknown }
	list = []load{
		{"nothing", func(lab.TB, *pair) func() { return func() {} }, none},
		{"TCP", tcp, none},
	}
	list = append(list, datagrams(), ownImages())
	programs, err := dds.Build(context.Background())
	if errors.Is(err, dds.ErrMissing) {
		t.Logf("left out: %v", err)
		return list
	} else if err != nil {
		t.Fatalf("lanes: %v", err)
	}
	return append(list, vendorImages("Cyclone DDS", "cyclone", programs.Cyclone), vendorImages("Fast DDS", "fastdds", programs.FastDDS))
}

// tcp is one stream that never ends.
func tcp(t lab.TB, p *pair) func() {
	var l net.Listener
	if err := p.b.Do(func() (err error) {
		l, err = net.Listen("tcp6", netip.AddrPortFrom(p.b.Address, 0).String())
		return err
	}); err != nil {
		t.Fatalf("lanes: %v", err)
	}
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	var c net.Conn
	if err := p.a.Do(func() (err error) {
		c, err = net.DialTimeout("tcp6", l.Addr().String(), 10*time.Second)
		return err
	}); err != nil {
		t.Fatalf("lanes: %v", err)
	}
	go func() {
		zeros := make([]byte, 64<<10)
		for {
			if _, err := c.Write(zeros); err != nil {
				return
			}
		}
	}()
	return func() {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
		l.Close()
	}
}

// datagrams are images in plain datagrams of 1,200 bytes, marked CS1, that nobody sends again.
func datagrams() load {
	const size = 1200
	const pieces = (imageBytes + size - 1) / size
	var whole atomic.Int64
	return load{name: "datagrams", count: func() float64 { return float64(whole.Load()) }, start: func(t lab.TB, p *pair) func() {
		to := p.listen(t)
		from := p.dial(t, to.LocalAddr(), classCS1)
		_ = from.SetWriteBuffer(4 << 20)
		ended := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			b := make([]byte, size)
			tick := time.NewTicker(time.Second / datagramRate)
			defer tick.Stop()
			for number := uint32(1); ; number++ {
				select {
				case <-tick.C:
				case <-ended:
					return
				}
				b[0], b[1], b[2], b[3] = byte(number>>24), byte(number>>16), byte(number>>8), byte(number)
				for range pieces {
					if _, err := from.Write(b); err != nil && !errors.Is(err, unix.ENOBUFS) {
						break
					}
				}
			}
		})
		wg.Go(func() {
			b := make([]byte, size)
			var number [4]byte
			got := 0
			for {
				n, err := to.Read(b)
				if err != nil {
					return
				}
				if n < 4 {
					continue
				}
				if [4]byte(b) != number {
					number, got = [4]byte(b), 0
				}
				if got++; got == pieces {
					whole.Add(1)
				}
			}
		})
		return func() {
			close(ended)
			to.Close()
			wg.Wait()
			from.Close()
		}
	}}
}

// counter counts a program's lines that begin with a word.
type counter struct {
	p    *lab.Process
	word string
}

func (c *counter) count() float64 {
	if c.p == nil {
		return 0
	}
	n := 0
	for line := range strings.Lines(c.p.Output()) {
		if strings.HasPrefix(line, c.word) {
			n++
		}
	}
	return float64(n)
}

// ownImages are reliable images of ros_pkg/rtps.
func ownImages() load {
	got := &counter{word: "sample "}
	return load{name: "hnet's RTPS", count: got.count, start: func(t lab.TB, p *pair) func() {
		c := topic.Config{Name: "/image", Type: topic.Image, Size: imageBytes, Rate: imageRate, Depth: imageDepth}
		sub, pub := topic.Subscribe(t, p.b.Host, c), topic.Publish(t, p.a.Host, c)
		got.p = sub.Process
		return func() {
			pub.Stop()
			sub.Stop()
		}
	}}
}

// vendorImages are reliable samples of a vendor's program, in hnet's profile.
func vendorImages(name, profile, program string) load {
	got := &counter{word: "received "}
	return load{name: name, count: got.count, start: func(t lab.TB, p *pair) func() {
		file := "/etc/hnet/" + profile + ".xml"
		start := func(r *fleet.Robot, role string, more ...string) *lab.Process {
			r.Write(file, r.Hnet("dds", "show", profile))
			args := append([]string{role, "--name", r.Name(), "--reliable", "--depth", fmt.Sprint(imageDepth), "--size", fmt.Sprint(imageBytes), "--count", "0", "--timeout", "0"}, more...)
			cmd := r.Command(context.Background(), program, args...)
			cmd.Env = append(os.Environ(), "CYCLONEDDS_URI=file://"+file, "FASTRTPS_DEFAULT_PROFILES_FILE="+file, "FASTDDS_DEFAULT_PROFILES_FILE="+file)
			return r.StartCmd(t, cmd)
		}
		sub := start(p.b, "sub")
		got.p = sub
		pub := start(p.a, "pub", "--rate", fmt.Sprint(imageRate))
		pub.WaitLine(`^sent 1$`, 30*time.Second)
		return func() { end(pub, sub) }
	}}
}

func end(list ...*lab.Process) {
	for _, p := range list {
		p.Signal(unix.SIGTERM)
	}
	for _, p := range list {
		select {
		case <-p.Done():
		case <-time.After(5 * time.Second):
			p.Signal(unix.SIGKILL)
			<-p.Done()
		}
	}
}
