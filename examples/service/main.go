// Command service answers "ros2 service call /set_light std_srvs/srv/SetBool '{data: true}'", from Fast DDS and Cyclone DDS.
package main

import (
	"context"
	"fmt"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_srvs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
)

func main() {
	ros.Main("light", func(ctx context.Context, node *ros.Node) error {
		_, err := ros.NewService(node, "set_light", func(_ context.Context, req *std_srvs.SetBoolRequest, info ros.RequestInfo) (*std_srvs.SetBoolResponse, error) {
			return &std_srvs.SetBoolResponse{Success: true, Message: fmt.Sprintf("the light is %v, by %v", req.Data, info.From)}, nil
		})
		if err == nil {
			<-ctx.Done()
		}
		return err
	})
}
