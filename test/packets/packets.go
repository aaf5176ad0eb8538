// Package packets writes down what robots sent and received, for who has to find out why a path came late.
package packets

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// UDP writes the UDP packets among frames, one per line, times counted from began: as many as most, but for those that leaveOut names, if it is not nil.
func UDP(frames []lab.Frame, began time.Time, most int, leaveOut func(lab.Packet) bool) string {
	var b strings.Builder
	n := 0
	for _, f := range frames {
		p := f.Decode()
		if p.Kind != lab.UDP || leaveOut != nil && leaveOut(p) {
			continue
		}
		if n++; n > most {
			fmt.Fprintf(&b, "and more\n")
			break
		}
		way := "in "
		if f.Out {
			way = "out"
		}
		fmt.Fprintf(&b, "%8.3f %s %s:%d > %s:%d ttl %d %s, %d bytes\n", f.Time.Sub(began).Seconds(), way, p.Src, p.SrcPort, p.Dst, p.DstPort, ttl(f), message(p.Payload), p.PayloadLen)
	}
	return b.String()
}

func ttl(f lab.Frame) byte {
	switch b := f.Data[14:]; {
	case len(b) >= 20 && b[0]>>4 == 4:
		return b[8]
	case len(b) >= 40:
		return b[7]
	}
	return 0
}

// message names what is in a datagram.
func message(b []byte) string {
	switch {
	case stun.IsMessage(b):
		return fmt.Sprintf("STUN %#04x", binary.BigEndian.Uint16(b))
	case len(b) < 4:
		return "short"
	case b[0] == 1:
		return fmt.Sprintf("initiation from %08x", binary.LittleEndian.Uint32(b[4:]))
	case b[0] == 2:
		return fmt.Sprintf("response from %08x to %08x", binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:]))
	case b[0] == 3:
		return "cookie reply"
	case b[0] == 4 && len(b) >= 16:
		return fmt.Sprintf("transport to %08x number %d", binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[8:]))
	case (b[0] == 0x48 || b[0] == 0x49) && len(b) > wire.RelayHeaderLen:
		return "relayed " + message(b[wire.RelayHeaderLen:])
	case b[0] >= 0x40:
		return fmt.Sprintf("Base %#02x", b[0])
	}
	return "unknown"
}
