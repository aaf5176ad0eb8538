// Package rosnode tests the ROS 2 side as robots meet it: the program hnet_bridge beside a running hnetd, and nodes of ros_pkg/ros, with programs of
// Cyclone DDS and Fast DDS around them (package rosdds), on the hosts of a lab.
package rosnode
