package ros

import (
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rosgraph_msgs"
)

// clock is a node's: the system's or the simulation's.
type clock struct {
	mu  sync.Mutex
	sim bool
	at  time.Time // of the simulation
	sub *Subscription
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sim {
		return c.at
	}
	return time.Now()
}

// simulate follows /clock, or no longer does.
func (n *Node) simulate(on bool) error {
	c := &n.clock
	c.mu.Lock()
	if c.sim == on {
		c.mu.Unlock()
		return nil
	}
	c.sim, c.at = on, time.Time{}
	sub := c.sub
	c.sub = nil
	c.mu.Unlock()
	if sub != nil {
		sub.Close()
	}
	if !on {
		return nil
	}
	sub, err := NewSubscription(n, "/clock", QoSClock, func(m *rosgraph_msgs.Clock, _ MessageInfo) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.at = m.Clock.AsTime()
	})
	c.mu.Lock()
	late := c.sub != nil || !c.sim
	if err == nil && !late {
		c.sub = sub
	}
	c.mu.Unlock()
	if err == nil && late {
		sub.Close()
	}
	return err
}
