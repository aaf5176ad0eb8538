// Package rtps is a participant of a DDS domain in pure Go: OMG DDSI-RTPS 2.3 over UDP, as far as ROS 2 needs it, spoken
// with Eclipse Cyclone DDS and eProsima Fast DDS.
//
// What decides (discovery, matching, reliability, fragments, histories) is in package machine, which knows no sockets
// and no clock; here are the sockets, the locks and the loops. Payloads are CDR with their encapsulation of 4 bytes;
// names and types are those of DDS ("rt/chatter", "std_msgs::msg::dds_::String_").
//
// Multicast carries announcements only; samples go by unicast, since on a radio link a multicast is sent at the lowest
// rate and never repeated, and most topics have one or two readers elsewhere. Locators of shared memory are passed over:
// a participant with shared memory is reached at its UDP locators beside it.
//
// RTPS authenticates nobody. Whoever can send to a participant's ports can forge discovery, samples and disposals;
// what can be had is done: nothing from the network makes the process crash, hang or grow beyond stated bounds, forged
// farewells from addresses that are not the participant's are ignored, and each sample tells where its datagram came
// from. DDS-Security is not spoken.
package rtps
