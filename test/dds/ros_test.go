package dds

import (
	"fmt"
	"os"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
)

// TestROS2 has the commands of a real ROS 2, which the script named in HNET_ROS_SETUP sets up, see and hear each other between two robots, on
// either RMW and mixed.
func TestROS2(t *testing.T) {
	setup := os.Getenv("HNET_ROS_SETUP")
	if setup == "" {
		t.Skip("HNET_ROS_SETUP does not name the setup script of a ROS 2, as /opt/ros/jazzy/setup.bash")
	}
	robots, _ := fleetOf(t, "", 2)
	shell := func(r *fleet.Robot, rmw, command string) []string {
		return []string{"-c", fmt.Sprintf("source %s >/dev/null 2>&1; export HOME=/run RMW_IMPLEMENTATION=%s; eval \"$(%s dds env)\" && %s", setup, rmw, fleet.Binary(t, "hnet"), command)}
	}
	rmws := []string{"rmw_fastrtps_cpp", "rmw_cyclonedds_cpp"}
	for _, from := range rmws {
		for _, to := range rmws {
			t.Run(from+"_to_"+to, func(t *testing.T) {
				pub := robots[0].Start(t, "bash", shell(robots[0], from, "exec ros2 topic pub -r 10 /from_robot1 std_msgs/msg/String '{data: hello}'")...)
				pub.WaitLine("publishing #1:", patience)
				sub := robots[1].Start(t, "bash", shell(robots[1], to, "ros2 topic list --no-daemon && ros2 topic echo --once /from_robot1 std_msgs/msg/String")...)
				sub.WaitLine("^/from_robot1$", patience)
				sub.WaitLine("^data: hello$", patience)
				want(t, sub, 0)
				pub.Stop()
			})
		}
	}
}
