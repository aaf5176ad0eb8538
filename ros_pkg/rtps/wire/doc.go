// Package wire is RTPS on the wire: messages and submessages, parameter lists, discovery data and QoS policies, to and
// from bytes. It knows no sockets, no clock and no state of a participant.
//
// Sections named in comments are those of OMG DDSI-RTPS 2.3 (formal/2019-04-03) unless they say otherwise; what it
// leaves open follows Eclipse Cyclone DDS and eProsima Fast DDS, the two that ROS 2 uses.
//
// Everything read is hostile. A reader returns slices of the datagram and keeps nothing of it; it allocates nothing in
// the path of data, and elsewhere never more than a small multiple of the bytes it was given. What an application must
// bound itself (the size of a fragmented sample, a count of endpoints) is said where it arises.
package wire
