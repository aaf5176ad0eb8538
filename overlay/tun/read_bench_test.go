package tun

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/netns"
)

// BenchmarkFileRead reads what a program of this host sends by UDP: 48 datagrams of 1,200 bytes as one superpacket, and one by one. It includes the
// program's own call.
func BenchmarkFileRead(b *testing.B) {
	needTUN(b)
	const size, train = 1200, 48
	n := netns.New(b)
	d := openTUN(b, n, netip.MustParseAddr("fc94::a"), true)
	for _, datagrams := range []int{train, 1} {
		b.Run(fmt.Sprint(datagrams*size), func(b *testing.B) {
			var conn *net.UDPConn
			n.Do(b, func() (err error) {
				conn, err = net.DialUDP("udp6", nil, &net.UDPAddr{IP: net.ParseIP("fc94::b"), Port: 9})
				return err
			})
			defer conn.Close()
			raw, err := conn.SyscallConn()
			if err != nil {
				b.Fatal(err)
			}
			var inner error
			if err := raw.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) }); err != nil || inner != nil {
				b.Fatal(err, inner)
			}
			payload := make([]byte, datagrams*size)
			arena, ends := make([]byte, 2*(HeaderLen+MaxPacket)), make([]int, 64)
			superpackets := 0
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.Write(payload); err != nil {
					b.Fatal(err)
				}
				n, err := d.ReadBatch(arena, ends)
				if err != nil {
					b.Fatal(err)
				}
				superpackets += n
			}
			// 1, and a few of the kernel's own, if they come whole.
			b.ReportMetric(float64(superpackets)/float64(b.N), "superpackets/op")
		})
	}
}
