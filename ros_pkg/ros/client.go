package ros

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/names"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// maxCalls is how many calls of a client may be under way.
const maxCalls = 1024

// Errors of [Client.Call].
var (
	ErrServerGone = errors.New("the server went away before it answered")
	ErrTooMany    = fmt.Errorf("%d calls are under way already", maxCalls)
)

// Client calls a service, of any vendor. Its methods may be called from several goroutines at once.
type Client[Req, Resp any] struct{ c client }

// NewClient makes a client of a service, whose name may be absolute, relative or private and is subject to remapping.
//
//	client, err := ros.NewClient[std_srvs.SetBoolRequest, std_srvs.SetBoolResponse](node, "enable")
//	resp, err := client.Call(ctx, &std_srvs.SetBoolRequest{Data: true})
func NewClient[Req, Resp any, Q message[Req], P message[Resp]](n *Node, name string) (*Client[Req, Resp], error) {
	full, err := n.ResolveService(name)
	if err != nil {
		return nil, err
	}
	c := new(Client[Req, Resp])
	if err := c.c.open(n, full, Q(new(Req)), P(new(Resp))); err != nil {
		return nil, err
	}
	return c, nil
}

// Name is the full name of the service.
func (c *Client[Req, Resp]) Name() string { return c.c.name }

// Available reports whether there is a server.
func (c *Client[Req, Resp]) Available() bool {
	fast, cyclone := c.c.servers(false)
	return len(fast)+len(cyclone) > 0
}

// Wait waits for a server.
func (c *Client[Req, Resp]) Wait(ctx context.Context) error {
	_, _, err := c.c.wait(ctx)
	return err
}

// Call waits for a server, if there is none yet, and for its answer, until ctx ends. Where there are several servers the first answer counts.
func (c *Client[Req, Resp]) Call(ctx context.Context, req *Req) (*Resp, error) {
	payload, err := c.c.call(ctx, cdr.Marshal(any(req).(cdr.Message)))
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", c.c.name, err)
	}
	resp := new(Resp)
	if err := cdr.Unmarshal(payload, any(resp).(cdr.Message)); err != nil {
		return nil, fmt.Errorf("service %s: response: %w", c.c.name, err)
	}
	return resp, nil
}

// Close takes the client off the graph; calls under way fail.
func (c *Client[Req, Resp]) Close() error {
	c.c.release()
	return nil
}

// client is a Client without its types.
type client struct {
	name    string
	n       *Node
	w       writer
	r       reader
	release func()
	closing chan struct{}

	requests peers // readers of requests: the servers
	replies  peers // writers of replies: the servers

	mu      sync.Mutex
	changed chan struct{} // closed when servers come or go; nil while nobody waits
	book    callBook
}

func (c *client) open(n *Node, full string, req, resp cdr.Message) error {
	if _, err := serviceTypes(req, resp); err != nil {
		return err
	}
	c.name, c.n, c.closing = full, n, make(chan struct{})
	var id [8]byte
	rand.Read(id[:])
	c.book.header.client = binary.LittleEndian.Uint64(id[:]) | 1 // not 0
	data := clientID + "=" + endpointID() + ";"
	qos := QoSServices.rtps()
	// The reader comes first: who sees the writer knows where to reply.
	r, err := n.c.dom.NewReader(rtps.ReaderConfig{
		Topic: names.DDSReply(full), Type: names.DDSType(resp.ROSType()), QoS: qos,
		UserData: append([]byte(data), typeHashData(resp.ROSTypeHash())...),
		Matched:  func(e rtps.Endpoint, m bool) { c.matched(&c.replies, e, m) }, Deliver: c.deliver,
	})
	if err != nil {
		return err
	}
	w, err := n.c.dom.NewWriter(rtps.WriterConfig{
		Topic: names.DDSRequest(full), Type: names.DDSType(req.ROSType()), QoS: qos,
		UserData: append([]byte(data), typeHashData(req.ROSTypeHash())...),
		Matched:  func(e rtps.Endpoint, m bool) { c.matched(&c.requests, e, m) },
	})
	if err != nil {
		r.Close()
		return err
	}
	c.mu.Lock()
	c.r, c.w = r, w
	c.book.reader, c.book.writer = r.GUID(), w.GUID()
	c.mu.Unlock()
	c.release, err = n.own(func() {
		close(c.closing)
		w.Close()
		r.Close()
		n.endpoints(false, []wire.GUID{r.GUID()}, []wire.GUID{w.GUID()})
	})
	if err != nil {
		w.Close()
		r.Close()
		return err
	}
	n.types.add(req)
	n.types.add(resp)
	n.endpoints(true, []wire.GUID{r.GUID()}, []wire.GUID{w.GUID()})
	return nil
}

// matched is called when one half of a server comes or goes.
func (c *client) matched(p *peers, e rtps.Endpoint, matched bool) {
	p.set(e, matched)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !matched {
		c.book.gone(e.GUID.Prefix)
	}
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// servers returns the request readers of the participants that can answer, by dialect; if sure, only of those that are known to know where to send the
// answer.
func (c *client) servers(sure bool) (fastOnes, cycloneOnes []wire.GUID) {
	c.mu.Lock()
	h, ok := c.r.(hearer)
	c.mu.Unlock()
	sure = sure && ok
	answer := map[wire.GuidPrefix]bool{}
	var ask []wire.GUID
	c.replies.each(func(e *rtps.Endpoint) bool {
		// A Fast DDS writer is silent until it has something to say, for some seconds at worst.
		if sure && dialectOf(e) == cyclone {
			ask = append(ask, e.GUID)
		} else {
			answer[e.GUID.Prefix] = true
		}
		return true
	})
	for _, g := range ask {
		answer[g.Prefix] = answer[g.Prefix] || h.Heard(g)
	}
	c.requests.each(func(e *rtps.Endpoint) bool {
		switch {
		case !answer[e.GUID.Prefix]:
		case dialectOf(e) == cyclone:
			cycloneOnes = append(cycloneOnes, e.GUID)
		default:
			fastOnes = append(fastOnes, e.GUID)
		}
		return true
	})
	return fastOnes, cycloneOnes
}

// A server that has not heard of the client's reader would answer into the void: a Cyclone DDS server did so at one of four first calls. It is given settle to
// hear of it, and looked at every settleStep.
const (
	settle     = time.Second
	settleStep = 5 * time.Millisecond
)

// wait waits for servers.
func (c *client) wait(ctx context.Context) (fastOnes, cycloneOnes []wire.GUID, err error) {
	var since time.Time
	var again <-chan time.Time
	for {
		c.mu.Lock()
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		if fastOnes, cycloneOnes = c.servers(true); len(fastOnes)+len(cycloneOnes) > 0 {
			return fastOnes, cycloneOnes, nil
		}
		again = nil
		if fastOnes, cycloneOnes = c.servers(false); len(fastOnes)+len(cycloneOnes) > 0 {
			if since.IsZero() {
				since = time.Now()
			}
			if time.Since(since) >= settle {
				return fastOnes, cycloneOnes, nil
			}
			again = time.After(settleStep)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("there is no server: %w", ctx.Err())
		case <-c.closing:
			return nil, nil, ErrClosed
		}
	}
}

func (c *client) call(ctx context.Context, payload []byte) ([]byte, error) {
	fastOnes, cycloneOnes, err := c.wait(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	w, self := c.w, c.book.reader
	call, err := c.book.begin(fastOnes, cycloneOnes)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	defer func() {
		c.mu.Lock()
		c.book.end(call)
		c.mu.Unlock()
	}()
	if len(cycloneOnes) > 0 {
		if _, err := w.Write(putHeader(call.header, payload), rtps.WriteOptions{To: cycloneOnes}); err != nil {
			return nil, err
		}
	}
	if len(fastOnes) > 0 {
		seq, err := w.Write(payload, rtps.WriteOptions{To: fastOnes,
			Related: &rtps.SampleIdentity{Writer: self, Sequence: wire.SequenceUnknown}})
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.book.sent(call, seq)
		c.mu.Unlock()
	}
	select {
	case reply, ok := <-call.reply:
		if !ok {
			select {
			case <-c.closing: // which makes the servers go, too
				return nil, ErrClosed
			default:
				return nil, ErrServerGone
			}
		}
		return reply, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.closing:
		return nil, ErrClosed
	}
}

// deliver takes a reply.
func (c *client) deliver(s rtps.Sample) {
	if s.Status != rtps.Alive {
		return
	}
	from, ok := c.replies.get(s.Writer)
	if !ok {
		return
	}
	d := dialectOf(&from)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.book.reply(d, &s)
}
