package pace

import (
	"encoding/binary"
	"errors"
	"time"
)

// Report is what the receiver of a path tells its sender: cumulative counts, so that a lost Report costs nothing but detail.
type Report struct {
	Counter uint64 // the highest that arrived on this path since the session's counter last began anew
	Bytes   uint64 // that arrived on this path, of sealed datagrams without the headers of the underlay
	Packets uint32 // datagrams that arrived; wraps around
	// Held is how long ago the datagram with Counter arrived when the Report left: 0 to 71 minutes, in microseconds on the wire.
	Held time.Duration
	// At is when that datagram arrived by the receiver's own clock, which begins anywhere and only runs on; microseconds on the wire. A one-way delay
	// measured with it tells a queue on the way there from one on the way back.
	At time.Duration
}

// ReportLen is the length of a Report on the wire, in bytes:
//
//	0..7    highest counter        8..15   bytes
//	16..19  packets                20..23  held, µs
//	24..31  arrival of the counter by the receiver's clock, µs
//
// Integers are big endian.
const ReportLen = 32

var errShortReport = errors.New("report of a path is shorter than 32 bytes")

// AppendReport appends the wire form of r to b.
func AppendReport(b []byte, r Report) []byte {
	b = binary.BigEndian.AppendUint64(b, r.Counter)
	b = binary.BigEndian.AppendUint64(b, r.Bytes)
	b = binary.BigEndian.AppendUint32(b, r.Packets)
	b = binary.BigEndian.AppendUint32(b, uint32(min(max(r.Held.Microseconds(), 0), 1<<32-1)))
	return binary.BigEndian.AppendUint64(b, uint64(max(r.At.Microseconds(), 0)))
}

// ParseReport reads a Report; what follows its 32 bytes is left for later versions.
func ParseReport(b []byte) (Report, error) {
	if len(b) < ReportLen {
		return Report{}, errShortReport
	}
	at := binary.BigEndian.Uint64(b[24:])
	if at > maxMicroseconds {
		at = maxMicroseconds
	}
	return Report{
		Counter: binary.BigEndian.Uint64(b),
		Bytes:   binary.BigEndian.Uint64(b[8:]),
		Packets: binary.BigEndian.Uint32(b[16:]),
		Held:    time.Duration(binary.BigEndian.Uint32(b[20:])) * time.Microsecond,
		At:      time.Duration(at) * time.Microsecond,
	}, nil
}

// maxMicroseconds keeps a time.Duration from overflowing: 146,000 years.
const maxMicroseconds = 1 << 52
