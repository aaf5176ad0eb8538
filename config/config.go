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

// ProfileScript is a script of /etc/profile.d that puts the DDS profiles in force. @HNET@ in it stands for the quoted path of hnet.
//
//go:embed profile.d/hnet.sh
var ProfileScript string

// DropIn is a drop-in for systemd units that start DDS programs. @ENVIRONMENT@ in it stands for the path of the file with the variables.
//
//go:embed systemd/hnet.conf
var DropIn string
