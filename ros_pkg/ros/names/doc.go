// Package names holds the rules of ROS 2 names: which are valid, how relative and private ones are completed, how remapping rules change
// them, and what topics and types are called in DDS. The rules are those of rcl and rmw; nothing here does I/O.
package names
