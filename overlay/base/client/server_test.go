package client

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/server"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// The client and the Base of package server understand each other: both transports, relaying between them, the Base's orderly end.
func TestWithServer(t *testing.T) {
	t.Parallel()
	id := testIdentity(1)
	base, err := server.New(server.Config{Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	udp, err := underlay.Listen("udp4", 0, underlay.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = base.Serve(ctx, server.ListenConfig{UDP: server.Sockets{IPv4: udp}, TLS: []net.Listener{tcp}})
	})
	t.Cleanup(func() { cancel(); wg.Wait() })

	a, b := newLiveNode(t, 1, nil), newLiveNode(t, 2, nil)
	b.noUDP.Store(true)
	for _, d := range []*liveNode{a, b} {
		d.c.SetServers([]Server{{Address: id.Address(), Host: "127.0.0.1", UDP: udp.LocalPort(), TCP: uint16(tcp.Addr().(*net.TCPAddr).Port)}})
		d.c.SetInterests([]netip.Addr{a.id.Address(), b.id.Address()})
	}
	if e := b.wait(Registered); e.Transport != TCP {
		t.Errorf("%+v", e)
	}
	ab, ba := a.wait(PeerHere).Relay, b.wait(PeerHere).Relay
	a.send(ab, "one", "two", "x")
	b.expect("one", "two", "x")
	b.send(ba, "three", "x")
	a.expect("three", "x")

	b.noUDP.Store(false)
	b.c.LinksChanged()
	if e := b.wait(Registered); e.Transport != UDP {
		t.Errorf("%+v", e)
	}
	b.until("one live relay over UDP", func() bool {
		all := b.c.Relays(a.id.Address())
		return len(all) == 1 && !all[0].TCP() && !ba.Live()
	})
	b.reach(a, "four")
	if !ab.Live() {
		t.Error("the other side lost its relay")
	}

	drained, end := context.WithTimeout(ctx, 10*time.Second)
	defer end()
	base.Drain(drained)
	a.wait(Lost)
	b.wait(Lost)
}
