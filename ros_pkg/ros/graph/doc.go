// Package graph knows the nodes of a domain: how participants tell theirs on the topic ros_discovery_info, in both forms that are in use, and who told
// what.
package graph
