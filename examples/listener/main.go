// Command listener logs what is said on the topic chatter, like that of demo_nodes_cpp.
package main

import (
	"context"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
)

func main() {
	ros.Main("listener", func(ctx context.Context, node *ros.Node) error {
		_, err := ros.NewSubscription(node, "chatter", ros.QoS{}, func(m *std_msgs.String, info ros.MessageInfo) {
			node.Log().Info("I heard: " + m.Data)
		})
		if err == nil {
			<-ctx.Done()
		}
		return err
	})
}
