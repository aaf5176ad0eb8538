package main

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// crowd are many peers in one process: the real data path of hnetd, each with a UDP socket of its own, on a device that sends every packet back.
type crowd struct {
	engines []*engine.Engine
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// newCrowd makes peers of the daemon at hub on a host; they do nothing before contact.
func newCrowd(t lab.TB, h *lab.Host, hub *identity.Identity, at netip.AddrPort, ids []*identity.Identity) *crowd {
	ctx, stop := context.WithCancel(context.Background())
	c := &crowd{stop: stop}
	for _, id := range ids {
		var socket *underlay.UDP
		if err := h.Do(func() (err error) {
			socket, err = underlay.Listen("udp4", 0, underlay.Options{})
			return err
		}); err != nil {
			t.Fatalf("manypeers: %v", err)
		}
		var stamp atomic.Int64
		e, err := engine.New(engine.Config{
			Identity: id, Device: newMirror(), IPv4: socket, OffersAES: true,
			Directory: single{Address: hub.Address(), Key: hub.PublicKey(), Candidates: []netip.AddrPort{at}, Native: true, Listed: true},
			Stamp: func() time.Time { // strictly increasing, 1<<24 ns apart
				for {
					last := stamp.Load()
					if next := max(time.Now().UnixNano(), last+1<<24); stamp.CompareAndSwap(last, next) {
						return time.Unix(0, next)
					}
				}
			},
		})
		if err != nil {
			t.Fatalf("manypeers: %v", err)
		}
		c.engines = append(c.engines, e)
		c.done.Go(func() { _ = e.Run(ctx) })
	}
	return c
}

func (c *crowd) end() { c.stop(); c.done.Wait() }

// single is a Directory that knows one peer.
type single engine.Contact

func (s single) ByAddress(a netip.Addr) (engine.Contact, bool) {
	return engine.Contact(s), a == s.Address
}
func (s single) ByKey(k identity.PublicKey) (engine.Contact, bool) {
	return engine.Contact(s), k == s.Key
}

// mirror is a device that returns every UDP packet to its sender.
type mirror struct {
	packets chan []byte
	closed  chan struct{}
	once    sync.Once
}

func newMirror() *mirror { return &mirror{packets: make(chan []byte, 16), closed: make(chan struct{})} }

func (m *mirror) ReadBatch(b []byte, ends []int) (int, error) {
	select {
	case p := <-m.packets:
		ends[0] = copy(b, p)
		return 1, nil
	case <-m.closed:
		return 0, os.ErrClosed
	}
}

// Write turns addresses and ports round, which leaves the checksum as it is.
func (m *mirror) Write(parts [][]byte) error {
	var p []byte
	for _, part := range parts {
		p = append(p, part...)
	}
	clear(p[:tun.HeaderLen])
	ip := p[tun.HeaderLen:]
	if len(ip) < 48 || ip[0]>>4 != 6 || ip[6] != 17 {
		return nil
	}
	var a [16]byte
	copy(a[:], ip[8:24])
	copy(ip[8:24], ip[24:40])
	copy(ip[24:40], a[:])
	from, to := binary.BigEndian.Uint16(ip[40:]), binary.BigEndian.Uint16(ip[42:])
	binary.BigEndian.PutUint16(ip[40:], to)
	binary.BigEndian.PutUint16(ip[42:], from)
	select {
	case m.packets <- p:
	default:
	}
	return nil
}

func (m *mirror) USO() bool    { return true }
func (m *mirror) Close() error { m.once.Do(func() { close(m.closed) }); return nil }

// talker sends each peer of a crowd a packet a second and counts what comes back.
type talker struct {
	c          *net.UDPConn
	sent, back atomic.Uint64
	done       chan struct{}
	ended      sync.WaitGroup
}

// talk begins to send from a host, evenly spread over the second.
func talk(t lab.TB, h *lab.Host, own netip.Addr, peers []netip.Addr) *talker {
	w := &talker{done: make(chan struct{})}
	if err := h.Do(func() (err error) {
		w.c, err = net.ListenUDP("udp6", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, 0)))
		return err
	}); err != nil {
		t.Fatalf("manypeers: %v", err)
	}
	w.ended.Go(func() {
		b := make([]byte, 2048)
		for {
			if _, _, err := w.c.ReadFromUDPAddrPort(b); err != nil {
				return
			}
			w.back.Add(1)
		}
	})
	w.ended.Go(func() {
		const step = 10 * time.Millisecond
		tick := time.NewTicker(step)
		defer tick.Stop()
		payload := make([]byte, 64)
		begin, next := time.Now(), 0
		for {
			select {
			case <-w.done:
				return
			case <-tick.C:
			}
			for due := int(time.Since(begin).Seconds() * float64(len(peers))); next < due; next++ {
				if _, err := w.c.WriteToUDPAddrPort(payload, netip.AddrPortFrom(peers[next%len(peers)], 9)); err == nil {
					w.sent.Add(1)
				}
			}
		}
	})
	return w
}

func (w *talker) end() {
	close(w.done)
	time.Sleep(200 * time.Millisecond) // what is under way
	w.c.Close()
	w.ended.Wait()
}
