package node

import (
	"context"
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/server"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/portmap"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// relay is the Base that this node is for its peers, on its main sockets.
type relay struct{ server *server.Server }

// openRelay makes the relay if the configuration wants one; nil if not.
func (n *Node) openRelay() (*relay, error) {
	if !n.cfg.Relay {
		return nil, nil
	}
	s, err := server.New(server.Config{
		Identity: n.identity, Log: n.log,
		Admit: func(a netip.Addr) bool { _, listed := n.whitelist.Get(a); return listed },
	})
	if err != nil {
		return nil, err
	}
	return &relay{s}, nil
}

// train takes a train of nothing but what clients send to a Base, whole. A client may be a peer too, and its datagrams for both be in one train.
func (r *relay) train(now time.Time, m *underlay.Message, s underlay.Socket) (taken bool) {
	segment := m.Segment
	if segment <= 0 {
		segment = m.N
	}
	for b := m.Buf[:m.N]; len(b) > 0; b = b[min(segment, len(b)):] {
		if !forRelay(b[:min(segment, len(b))]) {
			return false
		}
	}
	r.server.Handle(now, m, m.Buf[:m.N], s)
	return true
}

// forRelay reports whether a datagram is what clients send to a Base.
func forRelay(b []byte) bool {
	switch wire.TypeOf(b) {
	case wire.TypeHello, wire.TypeRegister, wire.TypeControl, wire.TypeRelay:
		return true
	}
	_, request := stun.ParseRequest(b)
	return request
}

func (r *relay) run(ctx context.Context) error { return r.server.Run(ctx) }

// mapped takes over what routers map to this node's port.
func (n *Node) mapped(mappings []portmap.Mapping) {
	if n.where.setMapped(mappings) {
		n.announceSelf()
	}
}
