package session

import (
	"bytes"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

// Messages that came before their turn are kept for a while: a path that reorders a burst would otherwise cost a repetition for each datagram.
// Nobody relies on it, since only what was delivered is acknowledged. So it is small, and ends by itself: what a client can make a Base hold is what it
// sends within earlyFor.
const (
	earlyBytes = 8 << 10 // bodies: a window of datagrams
	earlyFor   = 5 * time.Second
)

// early is the messages that wait for what is missing before them.
type early struct {
	messages []wire.Message
	bytes    int
	until    time.Duration // dropped then
}

// keep takes a message beyond the next one, if there is room.
func (s *Session) keep(now time.Time, m wire.Message) {
	if m.Sequence-s.delivered > MaxQueued {
		return // more than the other side can have under way
	}
	if s.early == nil {
		s.early = &early{until: now.Sub(s.start) + earlyFor}
	}
	e := s.early
	same := func(other wire.Message) bool { return other.Sequence == m.Sequence }
	if e.bytes+len(m.Body) > earlyBytes || slices.ContainsFunc(e.messages, same) {
		return
	}
	m.Body = bytes.Clone(m.Body) // the rest of its datagram need not stay
	e.messages = append(e.messages, m)
	e.bytes += len(m.Body)
}

// turn takes out the message that is next now, if it came already.
func (s *Session) turn() (wire.Message, bool) {
	e := s.early
	if e == nil {
		return wire.Message{}, false
	}
	next := func(m wire.Message) bool { return m.Sequence == s.delivered+1 }
	i := slices.IndexFunc(e.messages, next)
	if i < 0 {
		return wire.Message{}, false
	}
	m := e.messages[i]
	e.messages = slices.Delete(e.messages, i, i+1)
	e.bytes -= len(m.Body)
	if len(e.messages) == 0 {
		s.early = nil
	}
	return m, true
}
