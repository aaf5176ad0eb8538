// Command talker publishes a greeting once a second on the topic chatter, like that of demo_nodes_cpp.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
)

func main() {
	ros.Main("talker", func(ctx context.Context, node *ros.Node) error {
		pub, err := ros.NewPublisher[std_msgs.String](node, "chatter", ros.QoS{})
		for i := range ros.Every(ctx, time.Second) {
			if err != nil {
				break
			}
			node.Log().Info("Publishing", "number", i)
			err = pub.Publish(&std_msgs.String{Data: fmt.Sprintf("Hello World: %d", i)})
		}
		return err
	})
}
