// Command client switches on the light of the example service.
package main

import (
	"context"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_srvs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
)

func main() {
	ros.Main("switch", func(ctx context.Context, node *ros.Node) error {
		client, err := ros.NewClient[std_srvs.SetBoolRequest, std_srvs.SetBoolResponse](node, "set_light")
		if err != nil {
			return err
		}
		resp, err := client.Call(ctx, &std_srvs.SetBoolRequest{Data: true})
		if err == nil {
			node.Log().Info(resp.Message, "success", resp.Success)
		}
		return err
	})
}
