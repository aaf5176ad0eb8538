package rtps

import (
	"context"
	"errors"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/machine"
)

type network struct {
	ports   machine.Ports
	index   int
	sending sync.Mutex
}

func openNetwork(config Config) (*network, error)              { return nil, errors.New("not yet") }
func (n *network) run(ctx context.Context, p *Participant) error { return nil }
func (n *network) send(ds []machine.Datagram)                   {}
