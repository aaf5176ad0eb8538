// Package param holds the parameters of a node: their values, descriptions and ranges, the YAML they are given in, and the rules by which they
// are declared and set. The rules are those of rclcpp; nothing here does I/O.
package param
