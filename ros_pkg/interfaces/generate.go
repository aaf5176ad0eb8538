// Package interfaces holds, below it, Go types for ROS 2 interfaces: this project's own (hnet_bridge, from msg/ and srv/ at the top of the
// repository) and those of the standard packages that a ROS 2 node needs, from share/.
//
// share/ has interface files in our own layout with the fields and constants as ROS 2 defines them, since the fields are what a type hash is made
// of; each names its origin. Comments are upstream's and stayed there.
//
// Distributions differ little in them: visualization_msgs/msg/Marker has had its present fields since Humble, rcl_interfaces has logger levels
// since Iron, and rmw_dds_common/msg/Gid is 24 bytes in Humble and 16 from Iron on (package rmw_dds_common_humble has the former).
//
// Types for further packages are written by rosgen in the same way, with -ref for the packages here.
package interfaces

//go:generate go run ../idl/rosgen -out . -import github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces -share share hnet_bridge=../..
