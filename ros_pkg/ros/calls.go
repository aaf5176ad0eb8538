package ros

import (
	"slices"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// callBook finds the call that a reply belongs to. It knows no sockets and is not for several goroutines at once.
type callBook struct {
	reader, writer wire.GUID // the client's own; replies name one of them
	header         header    // of the latest call, in Cyclone's dialect

	byHeader   map[int64]*call
	bySequence map[wire.SequenceNumber]*call
	all        map[*call]bool

	// A reply in Fast's dialect may come before its request's number is known: it waits here while requests are being written.
	writing int
	early   []earlyReply
}

type earlyReply struct {
	seq     wire.SequenceNumber
	payload []byte
}

// maxEarly bounds callBook.early: there are no more replies to wait for than requests being written, and servers.
const maxEarly = 64

type call struct {
	header  header
	seq     wire.SequenceNumber // 0 = not yet
	writing bool
	asked   []wire.GuidPrefix // servers that may still answer
	reply   chan []byte       // holds the first reply; closed if none can come any more
	over    bool
}

// begin makes a call to the servers with these request readers.
func (b *callBook) begin(fastOnes, cycloneOnes []wire.GUID) (*call, error) {
	if len(b.all) >= maxCalls {
		return nil, ErrTooMany
	}
	if b.all == nil {
		b.all, b.byHeader, b.bySequence = map[*call]bool{}, map[int64]*call{}, map[wire.SequenceNumber]*call{}
	}
	b.header.sequence++
	c := &call{header: b.header, reply: make(chan []byte, 1)}
	for _, g := range fastOnes {
		c.asked = append(c.asked, g.Prefix)
	}
	for _, g := range cycloneOnes {
		c.asked = append(c.asked, g.Prefix)
	}
	if len(cycloneOnes) > 0 {
		b.byHeader[c.header.sequence] = c
	}
	if len(fastOnes) > 0 {
		c.writing = true
		b.writing++
	}
	b.all[c] = true
	return c, nil
}

// sent tells the number that the request got.
func (b *callBook) sent(c *call, seq wire.SequenceNumber) {
	if !c.writing {
		return
	}
	c.writing = false
	b.writing--
	c.seq = seq
	if b.all[c] {
		b.bySequence[seq] = c
	}
	for _, e := range b.early {
		if e.seq == seq {
			c.answer(e.payload)
			break
		}
	}
	if b.writing == 0 {
		b.early = nil
	}
}

// end forgets a call.
func (b *callBook) end(c *call) {
	if c.writing { // it was not written at all
		c.writing = false
		if b.writing--; b.writing == 0 {
			b.early = nil
		}
	}
	delete(b.all, c)
	delete(b.byHeader, c.header.sequence)
	if b.bySequence[c.seq] == c {
		delete(b.bySequence, c.seq)
	}
}

// reply gives a reply to the call it belongs to, if that waits.
func (b *callBook) reply(d dialect, s *rtps.Sample) {
	if d == cyclone {
		h, payload, err := cutHeader(s.Payload)
		if err != nil || h.client != b.header.client {
			return // another client's, perhaps
		}
		if c := b.byHeader[h.sequence]; c != nil {
			c.answer(payload)
		}
		return
	}
	r := s.Related
	if r == nil || r.Writer != b.reader && r.Writer != b.writer {
		return
	}
	if c := b.bySequence[r.Sequence]; c != nil {
		c.answer(s.Payload)
	} else if b.writing > 0 && len(b.early) < maxEarly {
		b.early = append(b.early, earlyReply{r.Sequence, s.Payload})
	}
}

func (c *call) answer(payload []byte) {
	if !c.over {
		c.over = true
		c.reply <- payload
	}
}

// gone tells that a server went away.
func (b *callBook) gone(p wire.GuidPrefix) {
	for c := range b.all {
		before := len(c.asked)
		c.asked = slices.DeleteFunc(c.asked, func(q wire.GuidPrefix) bool { return p == q })
		if len(c.asked) == 0 && before > 0 && !c.over {
			c.over = true
			close(c.reply)
		}
	}
}
