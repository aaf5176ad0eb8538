// Package hnet is the ROS 2 node /hnet: a client of hnetd that tells ROS of the overlay network and takes its orders from ROS.
//
// What it says is worked out by functions without I/O: messages ([PeerMessage] and the like), events ([Tracker]), diagnostics ([Diagnostics]),
// markers ([Links]). [Follower] keeps a view of the daemon across its restarts, and [Node] puts both together on package ros.
package hnet
