package dds

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

const (
	rmwFast    = "rmw_fastrtps_cpp"
	rmwCyclone = "rmw_cyclonedds_cpp"
)

// rosSetup is the setup script of a real ROS 2, which HNET_ROS_SETUP names. Without one the test is skipped, as it is if packages are missing.
func rosSetup(t *testing.T, packages ...string) string {
	t.Helper()
	setup := os.Getenv("HNET_ROS_SETUP")
	if setup == "" {
		t.Skip("HNET_ROS_SETUP does not name the setup script of a ROS 2, as /opt/ros/jazzy/setup.bash")
	}
	for _, p := range append(packages, rmwFast, rmwCyclone) {
		out, err := exec.Command("bash", "-c", `source "$0" >/dev/null 2>&1; ros2 pkg prefix "$1"`, setup, p).CombinedOutput()
		if err != nil {
			t.Skipf("the ROS 2 of %s has no %s (apt install ros-$ROS_DISTRO-%s): %v: %s", setup, p, strings.ReplaceAll(p, "_", "-"), err, out)
		}
	}
	return setup
}

// ros starts a command as a user would, in a shell with ROS and then the profiles in force.
func ros(t *testing.T, r *fleet.Robot, setup, rmw string, command ...string) *lab.Process {
	t.Helper()
	return rosOn(t, r.Host, setup, rmw, `eval "$(`+fleet.Binary(t, "hnet")+` dds env)"`, command...)
}

// rosOn starts a command on a host, in a shell with ROS in which something else has been put in force.
func rosOn(t *testing.T, h *lab.Host, setup, rmw, force string, command ...string) *lab.Process {
	t.Helper()
	script := `source "$0" >/dev/null 2>&1; export HOME=/run RMW_IMPLEMENTATION=$1 PYTHONWARNINGS=always::RuntimeWarning; shift; ` + force + ` && exec "$@"`
	return h.Start(t, "bash", append([]string{"-c", script, setup, rmw}, command...)...)
}

// TestROS2 has the commands of a real ROS 2 see and hear each other between two robots, on either RMW and mixed.
func TestROS2(t *testing.T) {
	setup := rosSetup(t)
	robots, _ := fleetOf(t, "", 2)
	rmws := []string{rmwFast, rmwCyclone}
	for _, from := range rmws {
		for _, to := range rmws {
			t.Run(from+"_to_"+to, func(t *testing.T) {
				pub := ros(t, robots[0], setup, from, "ros2", "topic", "pub", "-r", "10", "/from_robot1", "std_msgs/msg/String", "{data: hello}")
				pub.WaitLine("publishing #1:", patience)
				sub := ros(t, robots[1], setup, to, "sh", "-c", "ros2 topic list --no-daemon && ros2 topic echo --once /from_robot1 std_msgs/msg/String")
				sub.WaitLine("^/from_robot1$", patience)
				sub.WaitLine("^data: hello$", patience)
				want(t, sub, 0)
				pub.Stop()
			})
		}
	}
}

// rosNode is a node of TestROS2Robots, ros/robot.py.
type rosNode struct {
	name, rmw string
	robot     int
	hear      []string // the robots whose topics it subscribes to
	call      string   // the one whose services and action it calls
	process   *lab.Process
}

const (
	rosTopics   = 200
	rosServices = 50
	rosMap      = 1 << 20
	// rosPatience is far more than anything takes: the times are what the test logs.
	rosPatience = 2 * time.Minute
)

// TestROS2Robots has a third robot join two, all behind NATs and with what Nav2 has: tf, maps, odometry, plans, images, 200 latched topics, 50
// services and an action each. One robot is on Cyclone DDS, one on Fast DDS, the third has nodes on both. Everything that was published before
// and is published then arrives, and every service and action answers where the RMW is the same. When each came is logged.
func TestROS2Robots(t *testing.T) {
	setup := rosSetup(t, "rclpy", "nav_msgs", "sensor_msgs", "std_srvs", "tf2_msgs")
	robots := robotsBehindNATs(t, lab.New(t))
	fleet.Trust(robots[:2]...)
	nodes := []*rosNode{
		{name: "r1", rmw: rmwFast, robot: 0, hear: []string{"r2", "r3"}, call: "r3"},
		{name: "r2", rmw: rmwCyclone, robot: 1, hear: []string{"r1", "r3"}, call: "r3c"},
		{name: "r3", rmw: rmwFast, robot: 2, hear: []string{"r1", "r2"}, call: "r1"},
		{name: "r3c", rmw: rmwCyclone, robot: 2, call: "r2"},
	}
	for _, n := range nodes {
		n.process = ros(t, robots[n.robot], setup, n.rmw, n.command()...)
	}
	for _, n := range nodes {
		n.process.WaitLine(" ready$", rosPatience)
	}
	for _, n := range nodes[:2] {
		other := nodes[1-n.robot]
		n.process.WaitLine(fmt.Sprintf(` topics %s %d$`, other.name, rosTopics), rosPatience)
	}

	began := time.Now()
	fleet.Trust(robots...)
	for _, n := range nodes {
		for _, line := range n.expected() {
			n.sees(t, began, line)
		}
	}
	for _, n := range nodes {
		if out := n.process.Output(); strings.Contains(out, " wrong ") {
			t.Errorf("%s on %s has got what was not sent:\n%s", n.name, n.rmw, out)
		}
	}

	for i, r := range robots {
		t.Run("list_on_"+r.Name(), func(t *testing.T) {
			list := ros(t, r, setup, nodes[i].rmw, "ros2", "topic", "list", "--no-daemon")
			want(t, list, 0)
			for _, n := range nodes[:3] {
				if found := strings.Count("\n"+list.Output(), "\n/"+n.name+"/"); found < rosTopics+4 {
					t.Errorf("%d topics of %s, it has %d", found, n.name, rosTopics+4)
				}
			}
		})
	}
	for _, rmw := range []string{rmwFast, rmwCyclone} {
		t.Run("late_joiner_on_"+rmw, func(t *testing.T) {
			late := ros(t, robots[0], setup, rmw, nodeCommand("late", "--topics", fmt.Sprint(rosTopics), "--services", "0", "--hear", "r2", "--hear", "r3")...)
			late.WaitLine(" ready$", rosPatience)
			n := &rosNode{name: "late", rmw: rmw, hear: []string{"r2", "r3"}, process: late}
			for began, lines := time.Now(), n.expected(); len(lines) > 0; lines = lines[1:] {
				n.sees(t, began, lines[0])
			}
			late.Stop()
		})
	}
}

// TestROS2FirstCalls has a robot call each of another's services as soon as ROS says that it is there, with rmw_fastrtps, on a busy machine: two robots
// over the overlay and at the same time two on a plain LAN. It logs how many answers servers gave up, since they did not know the client's reader yet,
// which is the RMW's doing and happens in both places. Each service has to answer in the end.
func TestROS2FirstCalls(t *testing.T) {
	setup := rosSetup(t, "rclpy", "nav_msgs", "sensor_msgs", "std_srvs", "tf2_msgs")
	l := lab.New(t)
	robots := robotsBehindNATs(t, l)[:2]
	near, far := l.Host("near"), l.Host("far")
	distinguish(t, near)
	distinguish(t, far)
	lan := l.LAN(lab.Link{}, near, far)
	lan.Cut(far)

	names := []string{"r1", "r2"}
	nodes := map[string][]*rosNode{}
	for i, name := range names {
		n := rosNode{name: name, rmw: rmwFast, hear: []string{names[1-i]}, call: names[1-i]}
		plain, overlay := n, n
		plain.process = rosOn(t, []*lab.Host{near, far}[i], setup, n.rmw, ":", n.command()...)
		overlay.process = ros(t, robots[i], setup, n.rmw, n.command()...)
		nodes["on a LAN"], nodes["over the overlay"] = append(nodes["on a LAN"], &plain), append(nodes["over the overlay"], &overlay)
	}
	for _, pair := range nodes {
		for _, n := range pair {
			n.process.WaitLine(" ready$", rosPatience)
		}
	}
	for range 3 * runtime.NumCPU() {
		near.Start(t, "sh", "-c", "while :; do :; done")
	}
	lan.Restore(far)
	fleet.Trust(robots...)
	for _, pair := range nodes {
		for _, n := range pair {
			n.process.WaitLine(fmt.Sprintf(" services %s %d ", n.call, rosServices), 2*rosPatience)
		}
	}
	for where, pair := range nodes {
		lost := 0
		for _, n := range pair {
			lost += strings.Count(n.process.Output(), "client will not receive response")
		}
		t.Logf("%s servers gave up %d answers; %d services were called", where, lost, 2*rosServices)
	}
}

// robotsBehindNATs starts hnetd on three robots in three sites, with a Base.
func robotsBehindNATs(t *testing.T, l *lab.Lab) (robots []*fleet.Robot) {
	t.Helper()
	world := internet.New(t, l)
	base := fleet.StartBase(t, world.Base("base1").Host)
	for i, kind := range []internet.Kind{internet.LinuxNATFiltered, internet.PortRestricted, internet.DoubleNAT} {
		name := fmt.Sprintf("robot%d", i+1)
		h := world.Site("site"+name, kind).Host(name).Host
		distinguish(t, h)
		r := fleet.Start(t, h, "bases:\n"+base.Entry("base1"))
		r.Hnet("wait", "base", "--timeout", "20s")
		written(t, r, "environment", "CYCLONEDDS_URI")
		robots = append(robots, r)
	}
	return robots
}

func nodeCommand(name string, args ...string) []string {
	return append([]string{"python3", filepath.Join(fleet.Root(), "test/dds/ros/robot.py"), name}, args...)
}

func (n *rosNode) command() []string {
	args := []string{"--topics", fmt.Sprint(rosTopics), "--services", fmt.Sprint(rosServices), "--map", fmt.Sprint(rosMap)}
	for _, other := range n.hear {
		args = append(args, "--hear", other)
	}
	if n.call != "" {
		args = append(args, "--call", n.call)
	}
	return nodeCommand(n.name, args...)
}

// expected are the lines that the node prints once all has come.
func (n *rosNode) expected() (lines []string) {
	for _, r := range n.hear {
		for _, kind := range []string{"node %s", "graph %s", "tf_static %s", "tf %s", "odom %s", "plan %s 200", "image %s 100000"} {
			lines = append(lines, fmt.Sprintf(kind, r))
		}
		lines = append(lines, fmt.Sprintf("map %s %d", r, rosMap), fmt.Sprintf("topics %s %d", r, rosTopics))
	}
	if n.call != "" {
		lines = append(lines, fmt.Sprintf("services %s %d", n.call, rosServices))
		for _, stage := range []string{"accepted", "feedback", "result", "canceled"} {
			lines = append(lines, "action "+n.call+" "+stage)
		}
	}
	return lines
}

// sees waits for a line, in whatever order they come, and logs how long after began it came.
func (n *rosNode) sees(t *testing.T, began time.Time, line string) {
	t.Helper()
	lab.Eventually(t, rosPatience, n.name+" on "+n.rmw+": "+line, func() error {
		for l := range strings.Lines(n.process.Output()) {
			stamp, rest, _ := strings.Cut(strings.TrimSpace(l), " ")
			if rest == line || strings.HasPrefix(rest, line+" ") {
				var at float64
				if _, err := fmt.Sscan(stamp, &at); err == nil {
					t.Logf("%4s %+6.2f s  %s", n.name, at-float64(began.UnixMilli())/1000, rest)
					return nil
				}
			}
		}
		select {
		case <-n.process.Done():
			t.Fatalf("%s has ended:\n%s", n.name, n.process.Output())
		default:
		}
		return fmt.Errorf("it has not come")
	})
}
