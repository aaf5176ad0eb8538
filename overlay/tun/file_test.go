package tun

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/hnet-robotics/hnet_bridge/test/netns"
)

// Reading takes all that waits in one call, stops at the end of the room and
// goes on there, and waits when nothing is left.
func TestFileReadBatch(t *testing.T) {
	needTUN(t)
	n := netns.New(t)
	d := openTUN(t, n, netip.MustParseAddr("fc94::a"), true)
	const packets = 100
	var conn *net.UDPConn
	n.Do(t, func() (err error) {
		conn, err = net.DialUDP("udp6", nil, &net.UDPAddr{IP: net.ParseIP("fc94::b"), Port: 9})
		return err
	})
	defer conn.Close()
	for i := range packets {
		if _, err := conn.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	b, ends := make([]byte, 2*(HeaderLen+MaxPacket)), make([]int, 64)
	if _, err := d.ReadBatch(b[:HeaderLen+MaxPacket-1], ends); err != io.ErrShortBuffer {
		t.Errorf("short buffer: %v", err)
	}
	if _, err := d.ReadBatch(b, nil); err != io.ErrShortBuffer {
		t.Errorf("no ends: %v", err)
	}
	next, calls := 0, 0
	for next < packets {
		got, err := d.ReadBatch(b, ends)
		if err != nil || got == 0 {
			t.Fatalf("%d packets, %v", got, err)
		}
		calls++
		begin := 0
		for _, end := range ends[:got] {
			if p := split(t, b[begin:end])[0]; p[6] == protocolUDP {
				if p[len(p)-1] != byte(next) {
					t.Fatalf("packet %d instead of %d", p[len(p)-1], next)
				}
				next++
			}
			begin = end
		}
	}
	if calls > 3 {
		t.Errorf("%d calls for %d waiting packets", calls, packets)
	}
}

func TestFileAllocatesNothing(t *testing.T) {
	needTUN(t)
	n := netns.New(t)
	d := openTUN(t, n, netip.MustParseAddr("fc94::a"), true)
	s := shape{protocol: protocolUDP, hopLimit: 64, ports: [2]uint16{9, 9}, payload: make([]byte, 1000)}
	p, _ := s.build()
	parts := [][]byte{make([]byte, HeaderLen), p[:48], nil, p[48:]}
	if allocs := testing.AllocsPerRun(100, func() {
		if err := d.Write(parts); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations per write", allocs)
	}
	var conn *net.UDPConn
	n.Do(t, func() (err error) {
		conn, err = net.DialUDP("udp6", nil, &net.UDPAddr{IP: net.ParseIP("fc94::b"), Port: 9})
		return err
	})
	defer conn.Close()
	b, ends := make([]byte, 2*(HeaderLen+MaxPacket)), make([]int, 64)
	if allocs := testing.AllocsPerRun(100, func() {
		if _, err := conn.Write(p[:1]); err != nil {
			t.Fatal(err)
		}
		if _, err := d.ReadBatch(b, ends); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations per read", allocs)
	}
}

func TestFileErrors(t *testing.T) {
	needTUN(t)
	n := netns.New(t)
	d := openTUN(t, n, netip.MustParseAddr("fc94::a"), true)
	packet, _ := shape{protocol: protocolUDP, hopLimit: 64}.build()
	good := [][]byte{make([]byte, HeaderLen), packet}
	for name, parts := range map[string][][]byte{
		"nothing":           nil,
		"half a header":     {make([]byte, HeaderLen-1), packet},
		"too many parts":    slices.Repeat(good, maxParts),
		"unknown kind":      {{0, 77, 0, 0, 0, 0, 0, 0, 0, 0}, packet},
		"checksum beyond":   {{1, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0}, packet},
		"no packet":         good[:1],
		"IP version of 200": {good[0], {200, 1, 2, 3}},
	} {
		if err := d.Write(parts); err == nil {
			t.Errorf("%s: written", name)
		}
		if err := d.Write(good); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}

	read := make(chan error)
	go func() {
		b, ends := make([]byte, HeaderLen+MaxPacket), make([]int, 1)
		for {
			if _, err := d.ReadBatch(b, ends); err != nil {
				read <- err
				return
			}
		}
	}()
	n.Do(t, func() error {
		link, err := netlink.LinkByName("hnet0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetDown(link); err != nil {
			return err
		}
		if err := d.Write(good); !errors.Is(err, syscall.EIO) {
			t.Errorf("write to a device that is down: %v", err)
		}
		return netlink.LinkDel(link)
	})
	for what, err := range map[string]error{
		"read that waited": <-read,
		"read":             func() error { _, err := d.ReadBatch(make([]byte, HeaderLen+MaxPacket), make([]int, 1)); return err }(),
		"write":            d.Write(good),
	} {
		if !errors.Is(err, syscall.EBADFD) {
			t.Errorf("%s on a removed device: %v", what, err)
		}
	}
}

// Close ends a read that waits, and what comes after it.
func TestFileClose(t *testing.T) {
	needTUN(t)
	n := netns.New(t)
	d := openTUN(t, n, netip.MustParseAddr("fc94::a"), false)
	if d.USO() {
		t.Error("USO without the kernel's consent")
	}
	read := make(chan error)
	go func() {
		b, ends := make([]byte, HeaderLen+MaxPacket), make([]int, 1)
		for {
			if _, err := d.ReadBatch(b, ends); err != nil {
				read <- err
				return
			}
		}
	}()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, os.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if err := d.Write([][]byte{make([]byte, HeaderLen+40)}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write: %v", err)
	}
}

// What the system calls cost, beside what BenchmarkSplit and BenchmarkCoalesce
// take.
func BenchmarkFileWrite(b *testing.B) {
	needTUN(b)
	n := netns.New(b)
	d := openTUN(b, n, netip.MustParseAddr("fc94::b"), true)
	for _, size := range []int{1380, 60000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := shape{protocol: protocolTCP, flags: tcpACK, hopLimit: 64, payload: make([]byte, size)}
			packets := cut(s, 1380)
			c := NewCoalescer(d)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				for _, p := range packets {
					if err := c.Add(p); err != nil {
						b.Fatal(err)
					}
				}
				if err := c.Flush(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
