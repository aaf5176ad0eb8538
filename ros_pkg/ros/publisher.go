package ros

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/names"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Publisher publishes messages of type T. Its methods may be called from several goroutines at once.
type Publisher[T any] struct{ p publisher }

// publisher is a Publisher without its type.
type publisher struct {
	topic   string
	w       writer
	node    *Node
	subs    peers
	bad     mismatches
	quiet   bool // nothing about it goes to /rosout
	release func()

	mu  sync.Mutex
	buf []byte
}

// keepBuffer is up to which length in bytes a buffer is kept for the next message.
const keepBuffer = 64 << 10

// NewPublisher makes a publisher of a topic, whose name may be absolute, relative or private and is subject to remapping.
//
//	pub, err := ros.NewPublisher[std_msgs.String](node, "chatter", ros.QoS{})
func NewPublisher[T any, M message[T]](n *Node, topic string, qos QoS, opts ...EndpointOption) (*Publisher[T], error) {
	p := new(Publisher[T])
	full, err := n.ResolveTopic(topic)
	if err != nil {
		return nil, err
	}
	if qos, err = n.overridden("publisher", full, qos, opts); err != nil {
		return nil, err
	}
	if err := p.p.open(n, full, M(new(T)), qos); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *publisher) open(n *Node, topic string, m cdr.Message, qos QoS) error {
	p.topic, p.node = topic, n
	p.bad = mismatches{log: n.log, topic: topic, what: "no messages will be sent to it"}
	if p.quiet {
		p.bad.log = n.c.log // a log line about logging must not be logged by it
	}
	w, err := n.c.dom.NewWriter(rtps.WriterConfig{
		Topic: names.DDSTopic(topic), Type: names.DDSType(m.ROSType()), QoS: qos.rtps(), UserData: typeHashData(m.ROSTypeHash()),
		Matched: p.subs.set, Incompatible: p.bad.add,
	})
	if err != nil {
		return err
	}
	p.w = w
	p.release, err = n.own(func() {
		w.Close()
		n.endpoints(false, nil, []wire.GUID{w.GUID()})
	})
	if err != nil {
		w.Close()
		return err
	}
	n.types.add(m)
	n.endpoints(true, nil, []wire.GUID{w.GUID()})
	return nil
}

// Publish sends a message to the matched subscriptions. m is not kept. Only a KeepAll publisher ever waits.
func (p *Publisher[T]) Publish(m *T) error { return p.p.publish(any(m).(cdr.Message), time.Time{}) }

// PublishAt is Publish with the time that the message is told to be of.
func (p *Publisher[T]) PublishAt(m *T, source time.Time) error {
	return p.p.publish(any(m).(cdr.Message), source)
}

func (p *publisher) publish(m cdr.Message, source time.Time) error {
	p.mu.Lock()
	buf := p.buf
	p.buf = nil
	p.mu.Unlock()
	buf = cdr.AppendMarshal(buf[:0], m)
	_, err := p.w.Write(buf, rtps.WriteOptions{SourceTime: source})
	if cap(buf) <= keepBuffer {
		p.mu.Lock()
		p.buf = buf
		p.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("topic %s: %w", p.topic, err)
	}
	return nil
}

// Topic is the full name.
func (p *Publisher[T]) Topic() string { return p.p.topic }

// Subscriptions returns how many subscriptions are matched.
func (p *Publisher[T]) Subscriptions() int { return p.p.subs.count() }

// WaitForSubscriptions waits until at least n subscriptions are matched.
func (p *Publisher[T]) WaitForSubscriptions(ctx context.Context, n int) error {
	return p.p.subs.wait(ctx, p.p.node.closing, n)
}

// Flush waits until all reliable subscriptions that are matched now have got what was published.
func (p *Publisher[T]) Flush(ctx context.Context) error { return p.p.w.WaitAcked(ctx) }

// Close takes the publisher off the graph.
func (p *Publisher[T]) Close() error {
	p.p.release()
	return nil
}
