// Command hnet_bridge is the ROS 2 node /hnet: it tells ROS of the overlay network, and changes whitelist and names for those who may.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/hnet-robotics/hnet_bridge/dds/daemon"
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/node"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/hnet"
)

const exitUsage = 2

const usage = `hnet_bridge is the ROS 2 node /hnet of the overlay network; it needs no ROS to run.

  hnet_bridge [--version] [--help] [--ros-args -r FROM:=TO -p NAME:=VALUE --params-file FILE --log-level LEVEL …]

Its parameters: config/ros/params.yaml, or 'ros2 param describe /hnet NAME'. HNET_RUN, HNET_CONFIG, HNET_STATE change their defaults.
`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	for _, a := range ownArguments(args) {
		switch a {
		case "-version", "--version":
			fmt.Println("hnet_bridge", api.Version())
			return 0
		case "-h", "-help", "--help":
			fmt.Print(usage)
			return 0
		default:
			fmt.Fprintf(os.Stderr, "hnet_bridge: unexpected argument %q: try 'hnet_bridge --help'\n", a)
			return exitUsage
		}
	}
	hnet.Main(config.FindPaths(os.Getenv), func(ctx context.Context, o node.Options) error { return daemon.Serve(ctx, o, nil) })
	return 0
}

// ownArguments are those that are not between --ros-args and --.
func ownArguments(args []string) (own []string) {
	for len(args) > 0 {
		i := slices.Index(args, "--ros-args")
		if i < 0 {
			break
		}
		own, args = append(own, args[:i]...), args[i:]
		if i = slices.Index(args, "--"); i < 0 {
			return own
		}
		args = args[i+1:]
	}
	return append(own, args...)
}
