package ros

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/names"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// maxQueued bounds what waits for one callback, in bytes of serialized messages.
const maxQueued = 64 << 20

// MessageInfo tells where a message came from. The addresses are those of a UDP datagram as the kernel tells them: a host on the way may have
// forged them.
type MessageInfo struct {
	Publisher  wire.GUID
	Sequence   int64     // counts a publisher's messages
	SourceTime time.Time // when it was published, by the publisher's clock
	Received   time.Time

	From     netip.AddrPort // source of the datagram that completed it; invalid if Own
	Local    netip.AddrPort // where that was sent to
	Loopback bool           // the datagram did not leave this host; true if Own
	Own      bool           // published by this very program
}

func infoOf(s *rtps.Sample) MessageInfo {
	return MessageInfo{Publisher: s.Writer, Sequence: int64(s.Sequence), SourceTime: s.SourceTime, Received: s.ReceiveTime,
		From: s.From, Local: s.Local, Loopback: s.Loopback, Own: s.Own}
}

// Subscription calls a function for the messages of a topic.
type Subscription struct {
	topic   string
	node    *Node
	log     *slog.Logger
	decode  func(*rtps.Sample) error // and calls the function
	queue   queue[rtps.Sample]
	pubs    peers
	bad     mismatches
	broken  atomic.Uint64
	release func()
}

// NewSubscription makes a subscription of a topic, whose name may be absolute, relative or private and is subject to remapping. Each call of f gets a
// message of its own, which it may keep.
//
//	sub, err := ros.NewSubscription(node, "chatter", ros.QoS{}, func(m *std_msgs.String, info ros.MessageInfo) {
//		fmt.Println(m.Data)
//	})
func NewSubscription[T any, M message[T]](n *Node, topic string, qos QoS, f func(m *T, info MessageInfo), opts ...EndpointOption) (*Subscription, error) {
	full, err := n.ResolveTopic(topic)
	if err != nil {
		return nil, err
	}
	if qos, err = n.overridden("subscription", full, qos, opts); err != nil {
		return nil, err
	}
	s := &Subscription{decode: func(sample *rtps.Sample) error {
		m := M(new(T))
		if err := cdr.Unmarshal(sample.Payload, m); err != nil {
			return err
		}
		f((*T)(m), infoOf(sample))
		return nil
	}}
	if err := s.open(n, full, M(new(T)), qos); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Subscription) open(n *Node, topic string, m cdr.Message, qos QoS) error {
	s.topic, s.node, s.log = topic, n, n.log
	s.bad = mismatches{log: n.log, topic: topic, what: "no messages will be received from it"}
	s.queue = queue[rtps.Sample]{run: s.run, depth: qos.depth(), bytes: maxQueued}
	r, err := n.c.dom.NewReader(rtps.ReaderConfig{
		Topic: names.DDSTopic(topic), Type: names.DDSType(m.ROSType()), QoS: qos.rtps(), UserData: typeHashData(m.ROSTypeHash()),
		Matched: s.pubs.set, Incompatible: s.bad.add, Deliver: s.deliver,
	})
	if err != nil {
		return err
	}
	s.release, err = n.own(func() {
		s.queue.close()
		r.Close()
		n.endpoints(false, []wire.GUID{r.GUID()}, nil)
	})
	if err != nil {
		r.Close()
		return err
	}
	n.types.add(m)
	n.endpoints(true, []wire.GUID{r.GUID()}, nil)
	return nil
}

func (s *Subscription) deliver(sample rtps.Sample) {
	if sample.Status == rtps.Alive {
		s.queue.push(sample, len(sample.Payload))
	}
}

func (s *Subscription) run(sample rtps.Sample) {
	if err := s.decode(&sample); err != nil && s.broken.Add(1) == 1 {
		s.log.Warn("a message cannot be read; further ones are only counted", "topic", s.topic, "publisher", sample.Writer, "address", sample.From, "error", err)
	}
}

// Topic is the full name.
func (s *Subscription) Topic() string { return s.topic }

// Publishers returns how many publishers are matched.
func (s *Subscription) Publishers() int { return s.pubs.count() }

// WaitForPublishers waits until at least n publishers are matched.
func (s *Subscription) WaitForPublishers(ctx context.Context, n int) error {
	return s.pubs.wait(ctx, s.node.closing, n)
}

// Dropped returns how many messages were dropped because the function was too slow.
func (s *Subscription) Dropped() uint64 { return s.queue.drops() }

// Broken returns how many messages could not be read.
func (s *Subscription) Broken() uint64 { return s.broken.Load() }

// Close ends the subscription. A call that is under way goes on.
func (s *Subscription) Close() error {
	s.release()
	return nil
}
