// Package idl reads ROS 2 interface files (.msg and .srv), computes their type descriptions and RIHS01 type hashes, and is the ground of the Go
// generator in idl/gen.
//
// The language is the one rosidl reads: a comment begins at '#' wherever it stands, a line with '=' behind its type is a constant, a request
// and a response are separated by a line "---". What rosidl's rules refuse is refused here, so that files made with this package build in a ROS workspace too.
package idl
