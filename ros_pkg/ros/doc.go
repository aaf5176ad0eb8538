// Package ros is a ROS 2 client library in pure Go: nodes, publishers, subscriptions, services, clients, parameters, logs and the graph. One static
// binary works beside nodes of Humble, Jazzy, Kilted and Lyrical, with rmw_fastrtps_cpp and rmw_cyclonedds_cpp, whether or not ROS is installed.
//
// A program makes a [Node] and gives it endpoints, whose types are generated (package idl/gen, command rosgen):
//
//	node, err := ros.NewNode("talker")
//	pub, err := ros.NewPublisher[std_msgs.String](node, "chatter", ros.QoS{})
//	sub, err := ros.NewSubscription(node, "news", ros.QoS{}, func(m *std_msgs.String, info ros.MessageInfo) { … })
//	srv, err := ros.NewService(node, "enable", func(ctx context.Context, req *std_srvs.SetBoolRequest, info ros.RequestInfo) (*std_srvs.SetBoolResponse, error) { … })
//
// [Main] does what a main function does around that. Arguments behind --ros-args, as ros2 run and ros2 launch pass them, and the environment
// variables ROS_DOMAIN_ID, ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS and ROS_LOCALHOST_ONLY mean what they mean to other nodes.
//
// # Callbacks
//
// The callbacks of one subscription come one at a time and in order, and those of one service too; different ones run at the same time, each in a
// goroutine that lives while there is something to do. What waits is bounded by the QoS depth: a subscription that is too slow loses its oldest messages, as any
// ROS node's does. A callback may use the node, and may close what it belongs to.
//
// # Services
//
// Fast DDS and Cyclone DDS carry requests and replies in different forms, so that their nodes cannot call one another. A service of this package
// answers both, each in its own form, and a client of this package calls servers of both.
//
// # Security
//
// DDS authenticates nobody here: DDS-Security (SROS 2) is not implemented, and an enclave's name is only passed on. Whoever reaches the node's ports can
// read, write and call. A service that changes something can judge a request by its datagram: [RequestInfo].
package ros
