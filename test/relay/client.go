package main

import (
	"bytes"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// end is one end of what is forwarded: a socket on a host of its own.
type end struct {
	lab.Flow // of the datagrams that arrive
	host     *lab.Host
	sock     *underlay.UDP
	control  chan []byte // what else arrives
}

func newEnd(t lab.TB, h *lab.Host) *end {
	e := &end{host: h, control: make(chan []byte, 64)}
	if err := h.Do(func() (err error) {
		e.sock, err = listen(0)
		return err
	}); err != nil {
		t.Fatalf("relay: %v", err)
	}
	go e.receive()
	return e
}

func (e *end) at() netip.AddrPort {
	return netip.AddrPortFrom(e.host.Addr4("lan0"), e.sock.LocalPort())
}

func (e *end) receive() {
	ms := make([]underlay.Message, batch)
	for i := range ms {
		ms[i].Buf = make([]byte, underlay.MaxRead)
	}
	for {
		n, err := e.sock.ReadBatch(ms)
		if err != nil {
			return
		}
		for i := range ms[:n] {
			m := &ms[i]
			if m.N >= payload { // a datagram that is forwarded, or a train of them
				e.Add(m.N)
				continue
			}
			select {
			case e.control <- bytes.Clone(m.Buf[:m.N]):
			default:
			}
		}
	}
}

// client is an end that is registered with a Base.
type client struct {
	*end
	id      *identity.Identity
	session *session.Session
	welcome wire.WelcomePayload
	base    netip.AddrPort
}

func (c *client) say(b []byte) error {
	_, err := c.sock.WriteBatch([]underlay.Message{{Buf: b, Remote: c.base}})
	return err
}

// ask says something until an answer of a type has come.
func (c *client) ask(b []byte, want wire.Type) ([]byte, error) {
	for range 10 {
		if err := c.say(b); err != nil {
			return nil, err
		}
		for timeout := time.After(500 * time.Millisecond); ; {
			select {
			case got := <-c.control:
				if wire.TypeOf(got) == want {
					return got, nil
				}
				continue
			case <-timeout:
			}
			break
		}
	}
	return nil, fmt.Errorf("no %v came from the Base at %v", want, c.base)
}

// register makes an end a client.
func register(e *end, base netip.AddrPort, address netip.Addr) (*client, error) {
	var seed [32]byte
	_, _ = crand.Read(seed[:])
	id := identity.FromSeed(seed)
	c := &client{end: e, id: id, base: base}
	hs, err := session.NewClient(session.ClientConfig{Identity: id, Base: address, Index: rand.Uint32()})
	if err != nil {
		return nil, err
	}
	signed, err := (&record.Record{Sequence: 1, Lifetime: time.Hour, Endpoints: []netip.AddrPort{e.at()}}).Sign(id)
	if err != nil {
		return nil, err
	}
	cookie, err := c.ask(hs.Hello(time.Now()), wire.TypeCookie)
	if err != nil {
		return nil, err
	}
	b, _, err := hs.HandleCookie(time.Now(), cookie, signed)
	if err != nil {
		return nil, err
	}
	welcome, err := c.ask(b, wire.TypeWelcome)
	if err != nil {
		return nil, err
	}
	c.session, c.welcome, err = hs.HandleWelcome(time.Now(), welcome)
	return c, err
}

// channel is the number under which the clients want to reach each other.
const channel = 1

// meet asks for another client, and waits until the Base says how it is reached.
func (c *client) meet(other *client) error {
	body := wire.Interest{Links: []wire.Link{{Channel: channel, Address: other.id.Address()}}}.Append(nil)
	if err := c.session.Queue(wire.KindInterest, body); err != nil {
		return err
	}
	met := false
	for range 50 {
		if b := c.session.Poll(time.Now()); b != nil {
			if err := c.say(b); err != nil {
				return err
			}
		}
		select {
		case b := <-c.control:
			if wire.TypeOf(b) != wire.TypeBaseControl {
				continue
			}
			if _, err := c.session.Receive(time.Now(), b, func(kind wire.Kind, body []byte) { met = met || kind == wire.KindPeer }); err != nil {
				return err
			}
		case <-time.After(100 * time.Millisecond):
		}
		if met {
			return nil
		}
	}
	return fmt.Errorf("the Base at %v does not introduce its clients", c.base)
}

// header is that of what a client has relayed.
func (c *client) header() []byte {
	b := make([]byte, wire.RelayHeaderLen)
	wire.PutRelay(b, c.welcome.Session, c.welcome.Token, channel)
	return b
}
