// Package inet4 decides which IPv4 address a node has inside the overlay, and which those of its peers are.
//
// The address of a node is fc94::/16's, by which it is known and trusted. Some programs want an IPv4 address beside it: Cyclone DDS knows one
// address family per domain, and ROS_STATIC_PEERS resolves IPv4 alone with some vendors. Nobody hands these addresses out. Each node derives
// candidates from its overlay address by a hash, takes the first that is free as far as it can see, and tells each connected peer inside the
// tunnel; the peer answers whether it can use it. Of two nodes with one address the younger moves on to its next candidate, of two equally old
// ones that with the higher overlay address; who knows both tells the one that must.
//
// A node's word counts for itself alone. What it may claim is bounded by the ranges (never an address of the Internet), by the networks of the
// host that listens, and by who was there first; how often it may make others move, or move itself, by token buckets. See docs/protocol.md.
//
// Machine is pure: time and events go in, messages and deadlines come out.
package inet4
