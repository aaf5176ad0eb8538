package node

import (
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/nat"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// own gives what is not WireGuard's to whom it concerns: the relay that this node is, the client of the Bases, the measuring of the NAT.
type own struct{ n *Node }

var _ engine.Own = own{}

func (o own) Train(now time.Time, m *underlay.Message, s underlay.Socket) bool {
	return o.n.relay != nil && o.n.relay.train(now, m, s)
}

func (o own) Relayed(b []byte, from netip.AddrPort) (engine.Relay, []byte) {
	r, inner := o.n.bases.Relayed(b, from)
	if r == nil {
		return nil, nil
	}
	return r, inner
}

func (o own) Control(now time.Time, b []byte, from netip.AddrPort, local underlay.Source) {
	if o.n.relay != nil && forRelay(b) {
		o.n.relay.server.Handle(now, &underlay.Message{Buf: b, N: len(b), Remote: from, Local: local}, b, o.n.sockets.of(from.Addr()))
		return
	}
	if stun.IsMessage(b) {
		if o.n.spares.handle(b) {
			return
		}
		o.n.nat.do(func(m *nat.Machine) { m.Handle(now, b, from, local.Addr) })
		return
	}
	o.n.bases.Control(now, b, from, local)
}
