// Package config holds the files that an installation puts on a host.
package config

import _ "embed"

// Unit is the systemd unit of hnetd. @HNETD@ in it stands for the absolute path of the program.
//
//go:embed hnetd.service
var Unit string

// Sample is a configuration in which every key is explained and commented out.
//
//go:embed hnet.yaml
var Sample string
