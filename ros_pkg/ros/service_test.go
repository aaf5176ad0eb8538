package ros

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_srvs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

const (
	requestType  = "std_srvs::srv::dds_::SetBool_Request_"
	responseType = "std_srvs::srv::dds_::SetBool_Response_"
)

// rawClient speaks as the RMW of a vendor does.
type rawClient struct {
	p       *fakeParticipant
	w       writer
	r       reader
	replies chan rtps.Sample
}

func newRawClient(t *testing.T, net *fakeNet, vendor wire.VendorID, id string) *rawClient {
	t.Helper()
	c := &rawClient{p: net.join(vendor, "enclave=/;"), replies: make(chan rtps.Sample, 10)}
	c.listen(id)
	return c.ask(id)
}

func (c *rawClient) ask(id string) *rawClient {
	c.w, _ = c.p.NewWriter(rtps.WriterConfig{Topic: "rq/sRequest", Type: requestType, QoS: QoSServices.rtps(), UserData: []byte(id)})
	return c
}

func (c *rawClient) listen(id string) {
	c.r, _ = c.p.NewReader(rtps.ReaderConfig{Topic: "rr/sReply", Type: responseType, QoS: QoSServices.rtps(), UserData: []byte(id),
		Deliver: func(s rtps.Sample) { c.replies <- s }})
}

func setBool(v bool) []byte { return cdr.Marshal(&std_srvs.SetBoolRequest{Data: v}) }

func message1(t *testing.T, payload []byte) string {
	t.Helper()
	var m std_srvs.SetBoolResponse
	if err := cdr.Unmarshal(payload, &m); err != nil {
		t.Fatal(err)
	}
	return m.Message
}

func echo(_ context.Context, req *std_srvs.SetBoolRequest, info RequestInfo) (*std_srvs.SetBoolResponse, error) {
	return &std_srvs.SetBoolResponse{Success: true, Message: fmt.Sprint(info.Vendor, " ", req.Data)}, nil
}

func TestServiceBothDialects(t *testing.T) {
	net := new(fakeNet)
	n := net.node(t, "n")
	s, err := NewService(n, "s", echo)
	if err != nil {
		t.Fatal(err)
	}
	fast1, fast2 := newRawClient(t, net, wire.VendorFastDDS, ""), newRawClient(t, net, wire.VendorFastDDS, "")
	cyc1, cyc2 := newRawClient(t, net, wire.VendorCyclone, "clientid=1;"), newRawClient(t, net, wire.VendorCyclone, "")

	seq, _ := fast1.w.Write(setBool(true), rtps.WriteOptions{Related: &rtps.SampleIdentity{Writer: fast1.r.GUID(), Sequence: wire.SequenceUnknown}})
	r := receive(t, fast1.replies)
	if message1(t, r.Payload) != "Fast DDS true" || r.Related == nil || *r.Related != (rtps.SampleIdentity{Writer: fast1.r.GUID(), Sequence: seq}) {
		t.Errorf("%+v", r)
	}
	// Without the reader's GUID the request's writer stands for the client.
	fast2.w.Write(setBool(true), rtps.WriteOptions{})
	seq, _ = fast2.w.Write(setBool(false), rtps.WriteOptions{})
	receive(t, fast2.replies)
	if r = receive(t, fast2.replies); *r.Related != (rtps.SampleIdentity{Writer: fast2.w.GUID(), Sequence: seq}) {
		t.Errorf("%+v", r.Related)
	}
	for i, c := range []*rawClient{cyc1, cyc2} {
		want := header{client: 0x1122334455667788 + uint64(i), sequence: -5}
		c.w.Write(putHeader(want, setBool(true)), rtps.WriteOptions{})
		r := receive(t, c.replies)
		got, payload, err := cutHeader(r.Payload)
		if err != nil || got != want || message1(t, payload) != "Cyclone DDS true" || r.Related != nil {
			t.Errorf("%+v %v %+v", got, err, r)
		}
	}
	for _, c := range []*rawClient{fast1, fast2, cyc1, cyc2} {
		none(t, c.replies)
	}
	cyc1.w.Write(setBool(true), rtps.WriteOptions{}) // no header
	fast1.w.Write([]byte{0, 1, 0, 0}, rtps.WriteOptions{})
	fast1.w.Write([]byte{0, 1, 0, 0, 0}, rtps.WriteOptions{})
	receive(t, fast1.replies)
	if st := s.Stats(); st != (ServiceStats{Requests: 8, Replies: 6, Broken: 2}) {
		t.Errorf("%+v", st)
	}
	none(t, cyc1.replies)
}

// A reply waits for its reader, and for no other.
func TestReplyIsHeld(t *testing.T) {
	for _, vendor := range []wire.VendorID{wire.VendorFastDDS, wire.VendorCyclone} {
		synctest.Test(t, func(t *testing.T) {
			net := new(fakeNet)
			n := net.node(t, "n")
			s, err := NewService(n, "s", echo)
			if err != nil {
				t.Fatal(err)
			}
			c := &rawClient{p: net.join(vendor, ""), replies: make(chan rtps.Sample, 10)}
			c.ask("clientid=1;")
			ask := func() {
				if vendor == wire.VendorCyclone {
					c.w.Write(putHeader(header{1, 1}, setBool(true)), rtps.WriteOptions{})
				} else { // the next endpoint's GUID
					g := wire.GUID{Prefix: c.p.info.Prefix, Entity: wire.MakeEntityID(c.p.keys+1, wire.KindReaderNoKey)}
					c.w.Write(setBool(true), rtps.WriteOptions{Related: &rtps.SampleIdentity{Writer: g}})
				}
			}
			ask()
			synctest.Wait()
			newRawClient(t, net, vendor, "clientid=2;")
			synctest.Wait()
			if st := s.Stats(); st.Replies != 0 {
				t.Fatalf("%+v", st)
			}
			c.listen("clientid=1;")
			receive(t, c.replies)
			// And not for ever.
			c.r.Close()
			for range maxHeldClient + 3 {
				ask()
			}
			synctest.Wait()
			wait(holdFor + 1)
			synctest.Wait()
			if st := s.Stats(); st.Unheard != maxHeldClient+3 || len(s.out.held) != 0 || s.out.bytes != 0 {
				t.Errorf("%+v, %d held", st, len(s.out.held))
			}
			n.Close()
		})
	}
}

// Nobody can direct a reply to somebody else's reader.
func TestForgedReplyReader(t *testing.T) {
	net := new(fakeNet)
	if _, err := NewService(net.node(t, "n"), "s", echo); err != nil {
		t.Fatal(err)
	}
	victim, evil := newRawClient(t, net, wire.VendorFastDDS, ""), newRawClient(t, net, wire.VendorFastDDS, "")
	evil.w.Write(setBool(true), rtps.WriteOptions{Related: &rtps.SampleIdentity{Writer: victim.r.GUID()}})
	if r := receive(t, evil.replies); r.Related.Writer != evil.w.GUID() {
		t.Errorf("%+v", r.Related)
	}
	none(t, victim.replies)
}

// One client's flood leaves room for others.
func TestRequestFlood(t *testing.T) {
	net := new(fakeNet)
	entered, leave := make(chan bool, 1000), make(chan bool)
	s, err := NewService(net.node(t, "n"), "s", func(ctx context.Context, req *std_srvs.SetBoolRequest, info RequestInfo) (*std_srvs.SetBoolResponse, error) {
		entered <- true
		<-leave
		return echo(ctx, req, info)
	})
	if err != nil {
		t.Fatal(err)
	}
	flood, quiet := newRawClient(t, net, wire.VendorFastDDS, ""), newRawClient(t, net, wire.VendorFastDDS, "")
	flood.replies = make(chan rtps.Sample, 1000)
	flood.w.Write(setBool(true), rtps.WriteOptions{})
	receive(t, entered)
	for range 3 * maxRequests {
		flood.w.Write(setBool(true), rtps.WriteOptions{})
	}
	quiet.w.Write(setBool(true), rtps.WriteOptions{})
	close(leave)
	receive(t, quiet.replies)
	if st := s.Stats(); st.Refused != 3*maxRequests-maxRequestsClient {
		t.Errorf("%+v", st)
	}
}

func TestHandlerErrors(t *testing.T) {
	net := new(fakeNet)
	s, err := NewService(net.node(t, "n"), "s", func(_ context.Context, req *std_srvs.SetBoolRequest, _ RequestInfo) (*std_srvs.SetBoolResponse, error) {
		if req.Data {
			return nil, errors.New("no")
		}
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c := newRawClient(t, net, wire.VendorFastDDS, "")
	c.w.Write(setBool(true), rtps.WriteOptions{})
	c.w.Write(setBool(false), rtps.WriteOptions{})
	for deadline := time.Now().Add(patience); s.Stats().Failed < 2; wait(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s.Stats())
		}
	}
	none(t, c.replies)
}

// rawServer answers as the RMW of a vendor does.
func rawServer(net *fakeNet, vendor wire.VendorID, requests chan rtps.Sample, answer func(s rtps.Sample) ([]byte, *rtps.SampleIdentity)) *fakeParticipant {
	p := net.join(vendor, "")
	var w writer
	w, _ = p.NewWriter(rtps.WriterConfig{Topic: "rr/sReply", Type: responseType, QoS: QoSServices.rtps()})
	p.NewReader(rtps.ReaderConfig{Topic: "rq/sRequest", Type: requestType, QoS: QoSServices.rtps(), Deliver: func(s rtps.Sample) {
		requests <- s
		if payload, related := answer(s); payload != nil {
			w.Write(payload, rtps.WriteOptions{Related: related})
		}
	}})
	return p
}

func TestClientBothDialects(t *testing.T) {
	for _, vendors := range [][]wire.VendorID{{wire.VendorFastDDS}, {wire.VendorCyclone}, {wire.VendorFastDDS, wire.VendorCyclone}} {
		net := new(fakeNet)
		requests := make(chan rtps.Sample, 100)
		for _, v := range vendors {
			rawServer(net, v, requests, func(s rtps.Sample) ([]byte, *rtps.SampleIdentity) {
				reply := cdr.Marshal(&std_srvs.SetBoolResponse{Message: v.String()})
				if v == wire.VendorCyclone {
					h, payload, err := cutHeader(s.Payload)
					if err != nil || len(payload) != 5 || h.sequence == 0 {
						t.Errorf("%+v %x %v", h, payload, err)
					}
					return putHeader(h, reply), nil
				}
				if s.Related == nil || !s.Related.Writer.Entity.IsReader() || len(s.Payload) != 5 {
					t.Errorf("%+v", s)
				}
				return reply, &rtps.SampleIdentity{Writer: s.Related.Writer, Sequence: s.Sequence}
			})
		}
		n := net.node(t, "n")
		c, err := NewClient[std_srvs.SetBoolRequest, std_srvs.SetBoolResponse](n, "s")
		if err != nil {
			t.Fatal(err)
		}
		if !c.Available() {
			t.Error("not available")
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				resp, err := c.Call(within(t), &std_srvs.SetBoolRequest{Data: true})
				if err != nil || resp.Message != vendors[0].String() && len(vendors) == 1 {
					t.Errorf("%+v %v", resp, err)
				}
			})
		}
		wg.Wait()
		if got := len(requests); got != 20*len(vendors) {
			t.Errorf("%d requests for %d servers", got, len(vendors))
		}
		c.c.mu.Lock()
		b := &c.c.book
		if len(b.all)+len(b.byHeader)+len(b.bySequence)+len(b.early)+b.writing != 0 {
			t.Errorf("left: %+v", b)
		}
		c.c.mu.Unlock()
	}
}

// A request waits until the server knows where to reply, if that does not take for ever.
func TestCallWaitsForTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := new(fakeNet)
		n := net.node(t, "n")
		requests := make(chan rtps.Sample, 100)
		rawServer(net, wire.VendorCyclone, requests, func(s rtps.Sample) ([]byte, *rtps.SampleIdentity) {
			h, _, _ := cutHeader(s.Payload)
			return putHeader(h, cdr.Marshal(new(std_srvs.SetBoolResponse))), nil
		})
		c, err := NewClient[std_srvs.SetBoolRequest, std_srvs.SetBoolResponse](n, "s")
		if err != nil {
			t.Fatal(err)
		}
		knows := time.Now().Add(settle / 2)
		net.do(func() { net.deaf = func(wire.GUID) bool { return time.Now().Before(knows) } })
		for _, want := range []time.Duration{settle / 2, 0} {
			start := time.Now()
			if _, err := c.Call(within(t), new(std_srvs.SetBoolRequest)); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took < want || took > want+settleStep {
				t.Errorf("%v, want %v", took, want)
			}
		}
		knows = time.Now().Add(time.Hour)
		start := time.Now()
		if _, err := c.Call(within(t), new(std_srvs.SetBoolRequest)); err != nil || time.Since(start) < settle {
			t.Error(err, time.Since(start))
		}
		n.Close()
	})
}

func TestCallFails(t *testing.T) {
	net := new(fakeNet)
	n := net.node(t, "n")
	c, err := NewClient[std_srvs.SetBoolRequest, std_srvs.SetBoolResponse](n, "s")
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Call(ended, new(std_srvs.SetBoolRequest)); !errors.Is(err, context.Canceled) {
		t.Errorf("no server: %v", err)
	}
	requests := make(chan rtps.Sample, 100)
	mute := func(rtps.Sample) ([]byte, *rtps.SampleIdentity) { return nil, nil }
	server := rawServer(net, wire.VendorFastDDS, requests, mute)
	result := make(chan error, 1)
	call := func() {
		_, err := c.Call(within(t), new(std_srvs.SetBoolRequest))
		result <- err
	}
	go call()
	receive(t, requests)
	server.leave()
	if err := receive(t, result); !errors.Is(err, ErrServerGone) {
		t.Errorf("the server left: %v", err)
	}
	rawServer(net, wire.VendorCyclone, requests, mute)
	go call()
	receive(t, requests)
	c.Close()
	if err := receive(t, result); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := c.Call(within(t), new(std_srvs.SetBoolRequest)); err == nil {
		t.Error("a closed client calls")
	}
}

// Replies that are not for the client, or make no sense, are ignored.
func TestStrayReplies(t *testing.T) {
	net := new(fakeNet)
	n := net.node(t, "n")
	requests := make(chan rtps.Sample, 100)
	good := cdr.Marshal(&std_srvs.SetBoolResponse{Message: "good"})
	bad := cdr.Marshal(&std_srvs.SetBoolResponse{Message: "bad"})
	var w writer
	p := net.join(wire.VendorCyclone, "")
	w, _ = p.NewWriter(rtps.WriterConfig{Topic: "rr/sReply", Type: responseType, QoS: QoSServices.rtps()})
	p.NewReader(rtps.ReaderConfig{Topic: "rq/sRequest", Type: requestType, QoS: QoSServices.rtps(), Deliver: func(s rtps.Sample) {
		h, _, _ := cutHeader(s.Payload)
		w.Write(bad, rtps.WriteOptions{})
		w.Write(nil, rtps.WriteOptions{})
		w.Write(putHeader(header{h.client + 1, h.sequence}, bad), rtps.WriteOptions{})
		w.Write(putHeader(header{h.client, h.sequence + 1}, bad), rtps.WriteOptions{})
		w.Write(putHeader(h, good), rtps.WriteOptions{})
		w.Write(putHeader(h, bad), rtps.WriteOptions{})
		requests <- s
	}})
	c, err := NewClient[std_srvs.SetBoolRequest, std_srvs.SetBoolResponse](n, "s")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Call(within(t), new(std_srvs.SetBoolRequest))
	if err != nil || resp.Message != "good" {
		t.Errorf("%+v %v", resp, err)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(putHeader(header{1, 2}, setBool(true)))
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, payload []byte) {
		h, rest, err := cutHeader(append([]byte(nil), payload...))
		if err != nil {
			return
		}
		if payload[1]&1 == 1 && string(putHeader(h, rest)) != string(payload) {
			t.Errorf("%x became %x", payload, putHeader(h, rest))
		}
	})
}
