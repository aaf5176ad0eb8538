package packets

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// frame is a UDP packet over IPv4, TTL 7.
func frame(at time.Time, out bool, payload []byte) lab.Frame {
	b := make([]byte, 14+20+8, 14+20+8+len(payload))
	b[12], b[13] = 8, 0
	b[14], b[22], b[23] = 0x45, 7, 17
	binary.BigEndian.PutUint16(b[16:], uint16(28+len(payload)))
	copy(b[26:], []byte{192, 0, 2, 1, 198, 51, 100, 2})
	binary.BigEndian.PutUint16(b[34:], 5582)
	binary.BigEndian.PutUint16(b[36:], 1024)
	binary.BigEndian.PutUint16(b[38:], uint16(8+len(payload)))
	return lab.Frame{Time: at, Out: out, Data: append(b, payload...)}
}

// TestUDP names what is in datagrams, leaves some out, and does not go on for ever.
func TestUDP(t *testing.T) {
	began := time.Unix(1000, 0)
	transport := make([]byte, 32)
	transport[0], transport[4], transport[8] = 4, 1, 9
	relayed := append(make([]byte, wire.RelayHeaderLen), transport...)
	relayed[0] = 0x48
	frames := []lab.Frame{
		frame(began.Add(1500*time.Millisecond), true, transport), frame(began.Add(2*time.Second), false, relayed), frame(began, true, make([]byte, 77)),
		{Data: make([]byte, 60)}, frame(began.Add(3*time.Second), false, []byte{2, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0}), frame(began, true, nil), frame(began, true, nil),
	}
	got := UDP(frames, began, 4, func(p lab.Packet) bool { return p.PayloadLen == 77 })
	want := []string{
		"   1.500 out 192.0.2.1:5582 > 198.51.100.2:1024 ttl 7 transport to 00000001 number 9, 32 bytes",
		"relayed transport to 00000001 number 9,", "in  192.0.2.1:5582 > 198.51.100.2:1024 ttl 7 response from 00000005 to 00000006", "short, 0 bytes", "and more",
	}
	lines := strings.Split(strings.TrimRight(got, "\n"), "\n")
	for i, w := range want {
		if len(lines) != len(want) || !strings.Contains(lines[i], w) {
			t.Fatalf("%q is not in line %d of\n%s", w, i, got)
		}
	}
}
