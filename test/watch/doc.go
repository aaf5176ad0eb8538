// Package watch tests on robots in a lab that hnetd sees the topics it carries as they are: with real Cyclone DDS and Fast DDS programs and with nodes of
// our own. Command watch/cost measures what looking costs.
package watch
