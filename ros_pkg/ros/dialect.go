package ros

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// dialect is how an RMW carries requests and replies.
type dialect uint8

const (
	// fast: the request is known by {the client's reply reader, sequence number of the request}, which the reply has in its inline QoS. rmw_fastrtps_cpp, and
	// this package among its own.
	fast dialect = iota
	// cyclone: request and reply begin with a header that names the client and counts its requests. rmw_cyclonedds_cpp.
	cyclone
)

func dialectOf(e *rtps.Endpoint) dialect {
	if e.Participant != nil && e.Participant.Vendor == wire.VendorCyclone {
		return cyclone
	}
	return fast
}

// header is what Cyclone's requests and replies begin with.
type header struct {
	client   uint64
	sequence int64
}

const headerLen = 16

var errHeader = errors.New("too short for the header of rmw_cyclonedds")

// cutHeader splits a payload into the header and the payload without it, for which it reuses the payload's memory. Headers do not change the alignment of what
// follows them.
func cutHeader(payload []byte) (header, []byte, error) {
	if len(payload) < cdr.HeaderLen+headerLen {
		return header{}, nil, fmt.Errorf("%d bytes: %w", len(payload), errHeader)
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if payload[1]&1 == 0 {
		order = binary.BigEndian
	}
	h := header{order.Uint64(payload[cdr.HeaderLen:]), int64(order.Uint64(payload[cdr.HeaderLen+8:]))}
	copy(payload[headerLen:], payload[:cdr.HeaderLen])
	return h, payload[headerLen:], nil
}

// putHeader returns a little-endian payload with the header in it.
func putHeader(h header, payload []byte) []byte {
	out := make([]byte, 0, len(payload)+headerLen)
	out = append(out, payload[:cdr.HeaderLen]...)
	out = binary.LittleEndian.AppendUint64(out, h.client)
	out = binary.LittleEndian.AppendUint64(out, uint64(h.sequence))
	return append(out, payload[cdr.HeaderLen:]...)
}

// caller is what is needed to answer a request.
type caller struct {
	dialect dialect
	prefix  wire.GuidPrefix // the client's participant
	request wire.GUID       // the writer of the request

	// Of fast.
	reader   wire.GUID // the reply reader; zero if the request does not tell
	identity rtps.SampleIdentity

	// Of cyclone.
	header header
	id     string // "clientid" of the client's user data; "" if there is none
}

// clientID and serviceID are the keys by which rmw_cyclonedds finds the reader that belongs to a writer.
const (
	clientID  = "clientid"
	serviceID = "serviceid"
)

// callerOf tells who sent a request, and returns the request's payload.
func callerOf(s *rtps.Sample, from *rtps.Endpoint, id string) (caller, []byte, error) {
	c := caller{dialect: dialectOf(from), prefix: s.Writer.Prefix, request: s.Writer}
	if c.dialect == cyclone {
		h, payload, err := cutHeader(s.Payload)
		c.header, c.id = h, id
		return c, payload, err
	}
	c.identity = rtps.SampleIdentity{Writer: s.Writer, Sequence: s.Sequence}
	// A reader of somebody else is nobody to send a reply to.
	if r := s.Related; r != nil && r.Writer.Prefix == c.prefix && r.Writer.Entity.IsReader() {
		c.reader, c.identity.Writer = r.Writer, r.Writer
	}
	return c, s.Payload, nil
}

// wants reports whether a reader of the service's replies, with this clientid, is the caller's.
func (c *caller) wants(reader wire.GUID, id string) bool {
	switch {
	case reader.Prefix != c.prefix:
		return false
	case c.dialect == cyclone:
		return c.id == "" || id == c.id
	}
	return c.reader.IsZero() || reader == c.reader
}
