package ros_test

import (
	"context"
	"fmt"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_srvs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
)

// alone keeps the examples off the network.
func alone(name string) string {
	if name == "ROS_AUTOMATIC_DISCOVERY_RANGE" {
		return "OFF"
	}
	return ""
}

func ExampleNewPublisher() {
	node, err := ros.NewNode("example", ros.WithArgs(nil), ros.WithEnvironment(alone))
	if err != nil {
		panic(err)
	}
	defer node.Close()
	heard := make(chan string)
	_, err = ros.NewSubscription(node, "chatter", ros.QoS{}, func(m *std_msgs.String, info ros.MessageInfo) { heard <- m.Data })
	if err != nil {
		panic(err)
	}
	pub, err := ros.NewPublisher[std_msgs.String](node, "chatter", ros.QoS{})
	if err != nil {
		panic(err)
	}
	if err := pub.Publish(&std_msgs.String{Data: "hello"}); err != nil {
		panic(err)
	}
	fmt.Println(pub.Topic(), <-heard)
	// Output: /chatter hello
}

func ExampleNewService() {
	node, err := ros.NewNode("light", ros.WithArgs([]string{"--ros-args", "-r", "__ns:=/kitchen"}), ros.WithEnvironment(alone))
	if err != nil {
		panic(err)
	}
	defer node.Close()
	_, err = ros.NewService(node, "~/switch", func(_ context.Context, req *std_srvs.SetBoolRequest, info ros.RequestInfo) (*std_srvs.SetBoolResponse, error) {
		if !info.Loopback {
			return &std_srvs.SetBoolResponse{Message: "only from this host"}, nil
		}
		return &std_srvs.SetBoolResponse{Success: true, Message: fmt.Sprint("on: ", req.Data)}, nil
	})
	if err != nil {
		panic(err)
	}
	client, err := ros.NewClient[std_srvs.SetBoolRequest, std_srvs.SetBoolResponse](node, "/kitchen/light/switch")
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	resp, err := client.Call(ctx, &std_srvs.SetBoolRequest{Data: true})
	if err != nil {
		panic(err)
	}
	fmt.Println(resp.Success, resp.Message)
	// Output: true on: true
}

func ExampleDeclareParameter() {
	node, err := ros.NewNode("example", ros.WithArgs([]string{"--ros-args", "-p", "rate:=2"}), ros.WithEnvironment(alone))
	if err != nil {
		panic(err)
	}
	defer node.Close()
	rate, err := ros.DeclareParameter(node, "rate", 1.0, ros.Description("Publishing rate in Hz."), ros.RangeFloat(0.1, 100, 0))
	if err != nil {
		panic(err)
	}
	fmt.Println(rate.Get())
	fmt.Println(rate.Set(1000))
	// Output:
	// 2
	// parameter {rate} doesn't comply with floating point range: 1000 is not in 0.1..100
}

func ExampleEvery() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := range ros.Every(ctx, time.Millisecond) {
		fmt.Println(i)
		if i == 2 {
			cancel()
		}
	}
	// Output:
	// 0
	// 1
	// 2
}
