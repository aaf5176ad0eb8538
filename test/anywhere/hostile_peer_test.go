package anywhere

import (
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
)

// mallory is a node played by the test: it has keys, and no manners.
type mallory struct {
	id      *identity.Identity
	machine *wireguard.Peer
	keypair *wireguard.Keypair
	next    uint32
}

func newMallory(t testing.TB, to *fleet.Robot, id *identity.Identity) *mallory {
	t.Helper()
	var robot struct{ WireGuard string }
	to.JSON(&robot, "id")
	remote, err := identity.ParsePublicKey(robot.WireGuard)
	if err != nil {
		t.Fatal(err)
	}
	m := &mallory{id: id}
	stamp := time.Now()
	m.machine = wireguard.NewPeer(wireguard.PeerConfig{
		Local: wireguard.NewLocal(id.PrivateKey(), id.PublicKey(), false), Remote: remote, Indices: m, Native: true,
		Stamp: func() time.Time { stamp = stamp.Add(50 * time.Millisecond); return stamp },
	})
	return m
}

// New, Bind and Free are the indices of a node with one peer.
func (m *mallory) New() (uint32, bool)                 { m.next++; return m.next, true }
func (m *mallory) Bind(_ uint32, k *wireguard.Keypair) { m.keypair = k }
func (m *mallory) Free(uint32)                         {}
