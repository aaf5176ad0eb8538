package ros

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/graph"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/names"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Bounds of the requests that wait for a service. A participant may have a quarter of them, so that nobody keeps others out.
const (
	maxRequests       = 256
	maxRequestsClient = maxRequests / 4
	maxRequestBytes   = 16 << 20
)

// replyDepth is how many replies a service keeps for clients that have not acknowledged them. Ten, the QoS of services, would not do if many ask at once
// and datagrams are lost.
const replyDepth = 256

// RequestInfo tells where a request came from. The addresses are those of the UDP datagram that brought it (the last of several), as the kernel tells them:
// Loopback is certain, a source address elsewhere may be forged.
type RequestInfo struct {
	Service    string         // full name
	Client     wire.GUID      // the client's request writer
	Vendor     string         // of the client's DDS, "Fast DDS"
	From       netip.AddrPort // source of the datagram; invalid if Own
	Local      netip.AddrPort // where it was sent to
	Interface  int            // index of the network interface it came in at
	Loopback   bool           // the datagram did not leave this host; true if Own
	Own        bool           // asked by this very program
	SourceTime time.Time
	Received   time.Time
}

// Service answers requests.
type Service struct {
	name   string
	n      *Node
	log    *slog.Logger
	handle func(ctx context.Context, payload []byte, info RequestInfo) ([]byte, error)

	ctx     context.Context
	clients peers // request writers
	queue   queue[incoming]
	w       writer
	release func()

	mu      sync.Mutex
	out     outbox
	waiting map[wire.GuidPrefix]int // requests in the queue
	timer   *time.Timer             // for out.next
	stats   ServiceStats
	warned  map[string]bool // by the text of the warning: each is given once
	closed  bool
}

// ServiceStats counts what happened to requests.
type ServiceStats struct {
	Requests uint64 // received
	Replies  uint64 // sent
	Broken   uint64 // requests that could not be read
	Refused  uint64 // requests there was no room for
	Failed   uint64 // requests whose handler returned an error
	Unheard  uint64 // replies whose client had no reader for them in time
}

type incoming struct {
	from    caller
	payload []byte
	info    RequestInfo
}

// NewService makes a service, whose name may be absolute, relative or private and is subject to remapping. f is called for one request at a time. Its context ends when the
// service is closed. ROS has no form for errors: what the client should know belongs into the response; an error of f is logged, and the client waits in vain.
//
//	srv, err := ros.NewService(node, "enable", func(ctx context.Context, req *std_srvs.SetBoolRequest, info ros.RequestInfo) (*std_srvs.SetBoolResponse, error) {
//		return &std_srvs.SetBoolResponse{Success: true}, nil
//	})
func NewService[Req, Resp any, Q message[Req], P message[Resp]](n *Node, name string,
	f func(ctx context.Context, req *Req, info RequestInfo) (*Resp, error)) (*Service, error) {
	full, err := n.ResolveService(name)
	if err != nil {
		return nil, err
	}
	return newService[Req, Resp, Q, P](n, full, QoSServices, f)
}

func newService[Req, Resp any, Q message[Req], P message[Resp]](n *Node, full string, qos QoS,
	f func(ctx context.Context, req *Req, info RequestInfo) (*Resp, error)) (*Service, error) {
	s := &Service{handle: func(ctx context.Context, payload []byte, info RequestInfo) ([]byte, error) {
		req := Q(new(Req))
		if err := cdr.Unmarshal(payload, req); err != nil {
			return nil, errBroken{err}
		}
		resp, err := f(ctx, (*Req)(req), info)
		if err != nil {
			return nil, err
		}
		if resp == nil {
			return nil, errors.New("the handler returned no response")
		}
		return cdr.Marshal(P(resp)), nil
	}}
	if err := s.open(n, full, qos, Q(new(Req)), P(new(Resp))); err != nil {
		return nil, err
	}
	return s, nil
}

// ownService makes one of the services that every node has, below its name.
func ownService[Req, Resp any, Q message[Req], P message[Resp]](n *Node, name string, qos QoS,
	f func(ctx context.Context, req *Req, info RequestInfo) (*Resp, error)) (*Service, error) {
	full, err := n.ResolveService("~/" + name)
	if err != nil {
		return nil, err
	}
	return newService[Req, Resp, Q, P](n, full, qos, f)
}

// errBroken is the error of a request that cannot be read.
type errBroken struct{ error }

// serviceTypes checks that two messages are request and response of one service, and returns its type.
func serviceTypes(req, resp cdr.Message) (string, error) {
	name, ok := names.ServiceType(req.ROSType())
	if !ok || resp.ROSType() != name+"_Response" {
		return "", fmt.Errorf("%s and %s are not request and response of one service", req.ROSType(), resp.ROSType())
	}
	return name, nil
}

// endpointID is a new value of serviceid or clientid.
func endpointID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (s *Service) open(n *Node, full string, qos QoS, req, resp cdr.Message) error {
	if _, err := serviceTypes(req, resp); err != nil {
		return err
	}
	s.name, s.n, s.log = full, n, n.log
	s.waiting, s.warned = map[wire.GuidPrefix]int{}, map[string]bool{}
	s.queue = queue[incoming]{run: s.run, depth: maxRequests, bytes: maxRequestBytes}
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx = ctx
	id := serviceID + "=" + endpointID() + ";"
	replyQoS := qos.rtps()
	replyQoS.Depth = max(replyQoS.Depth, replyDepth)
	// The writer comes first: who sees the reader may ask at once.
	w, err := n.c.dom.NewWriter(rtps.WriterConfig{
		Topic: names.DDSReply(full), Type: names.DDSType(resp.ROSType()), QoS: replyQoS,
		UserData: append([]byte(id), typeHashData(resp.ROSTypeHash())...), Matched: s.matched,
	})
	if err != nil {
		cancel()
		return err
	}
	s.mu.Lock()
	s.w = w
	s.mu.Unlock()
	r, err := n.c.dom.NewReader(rtps.ReaderConfig{
		Topic: names.DDSRequest(full), Type: names.DDSType(req.ROSType()), QoS: qos.rtps(),
		UserData: append([]byte(id), typeHashData(req.ROSTypeHash())...), Matched: s.clients.set, Deliver: s.deliver,
	})
	if err != nil {
		cancel()
		w.Close()
		return err
	}
	s.release, err = n.own(func() {
		cancel()
		s.queue.close()
		s.mu.Lock()
		s.closed = true
		if s.timer != nil {
			s.timer.Stop()
		}
		s.mu.Unlock()
		r.Close()
		w.Close()
		n.endpoints(false, []wire.GUID{r.GUID()}, []wire.GUID{w.GUID()})
	})
	if err != nil {
		cancel()
		r.Close()
		w.Close()
		return err
	}
	n.types.add(req)
	n.types.add(resp)
	n.endpoints(true, []wire.GUID{r.GUID()}, []wire.GUID{w.GUID()})
	return nil
}

// deliver takes a request.
func (s *Service) deliver(sample rtps.Sample) {
	if sample.Status != rtps.Alive {
		return
	}
	from, ok := s.clients.get(sample.Writer)
	if !ok {
		return // it left
	}
	id, _ := graph.UserData(from.UserData, clientID)
	caller, payload, err := callerOf(&sample, &from, id)
	s.mu.Lock()
	s.stats.Requests++
	if err != nil {
		s.stats.Broken++
		s.mu.Unlock()
		s.warn("a request cannot be read", "client", sample.Writer, "address", sample.From, "error", err)
		return
	}
	full := s.waiting[caller.prefix] >= maxRequestsClient
	if !full {
		s.waiting[caller.prefix]++
	}
	s.mu.Unlock()
	info := RequestInfo{Service: s.name, Client: sample.Writer, From: sample.From, Local: sample.Local, Interface: sample.Interface,
		Loopback: sample.Loopback, Own: sample.Own, SourceTime: sample.SourceTime, Received: sample.ReceiveTime}
	if from.Participant != nil {
		info.Vendor = from.Participant.Vendor.String()
	}
	if !full && s.queue.offer(incoming{caller, payload, info}, len(payload)) {
		return
	}
	s.mu.Lock()
	s.stats.Refused++
	if !full {
		s.done(caller.prefix)
	}
	s.mu.Unlock()
	s.warn("too many requests wait, some are refused", "client", sample.Writer, "address", sample.From)
}

// done counts a request of a participant as no longer waiting; mu is held.
func (s *Service) done(p wire.GuidPrefix) {
	if s.waiting[p]--; s.waiting[p] <= 0 {
		delete(s.waiting, p)
	}
}

// warn logs a warning of a kind once.
func (s *Service) warn(text string, attrs ...any) {
	s.mu.Lock()
	first := !s.warned[text]
	s.warned[text] = true
	s.mu.Unlock()
	if first {
		s.log.Warn(text+" (told once, then counted)", append([]any{"service", s.name}, attrs...)...)
	}
}

// run answers a request.
func (s *Service) run(in incoming) {
	s.mu.Lock()
	s.done(in.from.prefix)
	s.mu.Unlock()
	reply, err := s.handle(s.ctx, in.payload, in.info)
	if err != nil {
		_, broken := err.(errBroken)
		s.mu.Lock()
		if broken {
			s.stats.Broken++
		} else {
			s.stats.Failed++
		}
		s.mu.Unlock()
		if broken {
			s.warn("a request cannot be read", "client", in.info.Client, "address", in.info.From, "error", err)
		} else {
			s.log.Error("a request stays unanswered", "service", s.name, "client", in.info.Client, "error", err)
		}
		return
	}
	s.mu.Lock()
	r, now := s.out.send(time.Now(), in.from, reply)
	s.arm()
	s.mu.Unlock()
	if now {
		s.send(r)
	}
}

// matched is called when a client's reader of replies comes or goes.
func (s *Service) matched(e rtps.Endpoint, matched bool) {
	id, _ := graph.UserData(e.UserData, clientID)
	s.mu.Lock()
	var list []ready
	if matched {
		list = s.out.matched(time.Now(), e.GUID, id)
	} else {
		s.out.unmatched(e.GUID)
	}
	s.arm()
	s.mu.Unlock()
	for _, r := range list {
		s.send(r)
	}
}

// arm sets the timer for what is held; mu is held.
func (s *Service) arm() {
	next := s.out.next()
	if next.IsZero() || s.closed {
		return
	}
	if wait := time.Until(next); s.timer == nil {
		s.timer = time.AfterFunc(wait, s.expire)
	} else {
		s.timer.Reset(wait)
	}
}

func (s *Service) expire() {
	s.mu.Lock()
	before := s.out.expired
	s.out.expire(time.Now())
	lost := s.out.expired > before
	s.arm()
	s.mu.Unlock()
	if lost {
		s.warn("a reply was dropped: the client has no matching reader for it")
	}
}

func (s *Service) send(r ready) {
	payload := r.payload
	o := rtps.WriteOptions{To: r.readers}
	if r.to.dialect == cyclone {
		payload = putHeader(r.to.header, payload)
	} else {
		o.Related = &r.to.identity
	}
	s.mu.Lock()
	w := s.w
	s.stats.Replies++
	s.mu.Unlock()
	if _, err := w.Write(payload, o); err != nil {
		s.warn("a reply cannot be sent", "error", err)
	}
}

// Name is the full name.
func (s *Service) Name() string { return s.name }

// Stats returns what happened to requests so far.
func (s *Service) Stats() ServiceStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Unheard = s.out.expired + s.out.refused
	return st
}

// Close takes the service off the graph. Requests that wait are not answered.
func (s *Service) Close() error {
	s.release()
	return nil
}
