package spdp

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Release is a generation of ROS 2 whose nodes must not meet those of the other: GIDs in ros_discovery_info have 24
// bytes up to Humble and 16 from Iron on, and either form makes nodes of the other generation fail. An announcement of
// a participant does not say of which it is, so it is told per host.
type Release byte

// Releases. A participant of an unknown one is passed on to everybody.
const (
	Unknown Release = iota
	Humble          // and before
	Iron            // and after
)

// String is the name in the configuration.
func (r Release) String() string {
	switch r {
	case Humble:
		return "humble"
	case Iron:
		return "iron"
	}
	return "unknown"
}

// ParseRelease reads the name of a ROS distribution, as in ROS_DISTRO. The empty name is Unknown; one that is not known
// here is an error.
func ParseRelease(name string) (Release, error) {
	switch strings.ToLower(name) {
	case "":
		return Unknown, nil
	case "foxy", "galactic", "humble":
		return Humble, nil
	case "iron", "jazzy", "kilted", "lyrical", "rolling":
		return Iron, nil
	}
	return Unknown, fmt.Errorf("%q is no ROS 2 distribution known here: humble, iron, jazzy, kilted, lyrical, rolling", name)
}

// DetectRelease tells the release by the distributions installed: ros is the folder /opt/ros. With none, with ones
// of both kinds, or in containers, it is Unknown.
func DetectRelease(ros fs.FS) Release {
	found := Unknown
	list, err := fs.ReadDir(ros, ".")
	if err != nil {
		return Unknown
	}
	for _, e := range list {
		r, err := ParseRelease(e.Name())
		switch {
		case err != nil || r == Unknown || r == found:
		case found == Unknown:
			found = r
		default:
			return Unknown
		}
	}
	return found
}

// ownVendor is of participants of this project's own stack, which speak to both.
var ownVendor = wire.VendorID{0x01, 0x68}

// releaseOf is what an announcement says of its participant's release, if it says anything for sure.
func releaseOf(d *wire.ParticipantData) (r Release, sure bool) {
	switch {
	case d.Vendor == ownVendor:
		return Unknown, true
	case strings.Contains(string(d.UserData), "typehash="):
		return Iron, true
	}
	return Unknown, false
}

// meet says whether participants of two releases may know each other.
func meet(a, b Release) bool { return a == b || a == Unknown || b == Unknown }
