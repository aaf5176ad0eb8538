package hnet

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/param"
)

// root is the repository, which is itself the ROS package.
const root = "../.."

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// interfaces lists our interface files, and the packages that they take types from.
func interfaces(t *testing.T) (files, packages []string) {
	t.Helper()
	for _, pattern := range []string{"msg/*.msg", "srv/*.srv"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		for _, path := range found {
			name, _ := filepath.Rel(root, path)
			files = append(files, name)
			for _, m := range regexp.MustCompile(`(?m)^(\w+)/\w+`).FindAllStringSubmatch(read(t, name), -1) {
				if !slices.Contains(packages, m[1]) {
					packages = append(packages, m[1])
				}
			}
		}
	}
	return files, packages
}

func TestPackageXML(t *testing.T) {
	var p struct {
		Format      int      `xml:"format,attr"`
		Name        string   `xml:"name"`
		Version     string   `xml:"version"`
		Description string   `xml:"description"`
		Maintainer  string   `xml:"maintainer"`
		License     string   `xml:"license"`
		Buildtool   []string `xml:"buildtool_depend"`
		Depend      []string `xml:"depend"`
		Exec        []string `xml:"exec_depend"`
		Group       []string `xml:"member_of_group"`
		Build       string   `xml:"export>build_type"`
	}
	text := read(t, "package.xml")
	if err := xml.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	if p.Format != 3 || p.Name != "hnet_bridge" || p.Description == "" || p.Maintainer == "" || p.License != "Apache-2.0" || p.Build != "ament_cmake" {
		t.Errorf("got %+v", p)
	}
	_, packages := interfaces(t)
	if len(packages) == 0 {
		t.Fatal("no package is used by the interfaces")
	}
	for _, name := range packages {
		if !slices.Contains(p.Depend, name) {
			t.Errorf("package.xml does not depend on %s, of which the interfaces have types", name)
		}
	}
	for list, names := range map[*[]string][]string{
		&p.Buildtool: {"ament_cmake", "rosidl_default_generators"},
		&p.Exec:      {"rosidl_default_runtime", "launch", "launch_ros", "diagnostic_msgs", "std_srvs", "visualization_msgs", "tf2_msgs"},
		&p.Group:     {"rosidl_interface_packages"},
	} {
		for _, name := range names {
			if !slices.Contains(*list, name) {
				t.Errorf("package.xml does not name %s where it has to", name)
			}
		}
	}
	if cmake := read(t, "CMakeLists.txt"); !strings.Contains(cmake, "project(hnet_bridge VERSION "+p.Version+" ") {
		t.Errorf("package.xml says version %s, CMakeLists.txt another", p.Version)
	}
}

func TestCMakeLists(t *testing.T) {
	cmake := read(t, "CMakeLists.txt")
	files, packages := interfaces(t)
	for _, name := range files {
		if !strings.Contains(cmake, `"`+name+`"`) {
			t.Errorf("CMakeLists.txt does not list %s", name)
		}
	}
	for _, m := range regexp.MustCompile(`"((?:msg|srv)/[^"]+)"`).FindAllStringSubmatch(cmake, -1) {
		if !slices.Contains(files, m[1]) {
			t.Errorf("CMakeLists.txt lists %s, which is not there", m[1])
		}
	}
	depends := regexp.MustCompile(`DEPENDENCIES ([^\n]*)`).FindStringSubmatch(cmake)
	if depends == nil {
		t.Fatal("CMakeLists.txt names no dependencies of the interfaces")
	}
	for _, name := range packages {
		if !slices.Contains(strings.Fields(depends[1]), name) || !strings.Contains(cmake, "find_package("+name+" REQUIRED)") {
			t.Errorf("CMakeLists.txt does not find %s for the interfaces", name)
		}
	}
	programs, err := os.ReadDir(filepath.Join(root, "cmd"))
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`set\(programs ([^)]*)\)`).FindStringSubmatch(cmake)
	for _, p := range programs {
		if list == nil || !slices.Contains(strings.Fields(list[1]), p.Name()) {
			t.Errorf("CMakeLists.txt does not install %s", p.Name())
		}
	}
	// What is installed is there, and nothing is installed over something else.
	installed := map[string]string{}
	for _, m := range regexp.MustCompile(`install\((FILES|DIRECTORY) ([^\n]*?) DESTINATION ([^ )]+)`).FindAllStringSubmatch(cmake, -1) {
		for _, path := range strings.Fields(m[2]) {
			err := filepath.WalkDir(filepath.Join(root, path), func(found string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				base := filepath.Join(root, path)
				if !strings.HasSuffix(path, "/") { // then the folder itself is a part of it
					base = filepath.Dir(base)
				}
				name, err := filepath.Rel(base, found)
				to := filepath.Join(m[3], name)
				if other := installed[to]; other != "" {
					t.Errorf("%s is installed over %s as %s", found, other, to)
				}
				installed[to] = found
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
	}
	for _, path := range []string{"launch/hnet.launch.py", "config/params.yaml", "config/diagnostic_aggregator.yaml", "hnetd/hnet.yaml"} {
		if installed["share/${PROJECT_NAME}/"+path] == "" {
			t.Errorf("%s is not installed: %v", path, installed)
		}
	}
}

func TestLaunchFile(t *testing.T) {
	text := read(t, "launch/hnet.launch.py")
	for _, words := range []string{"executable='hnet_bridge'", "package=PACKAGE", "PACKAGE = 'hnet_bridge'", "'hnetd'", "'params.yaml'"} {
		if !strings.Contains(text, words) {
			t.Errorf("the launch file does not say %s", words)
		}
	}
	// Every argument that is used is declared, with a description.
	declared := map[string]bool{}
	for _, m := range regexp.MustCompile(`declare\('(\w+)', .*, (?:'|")([^'"]{10,})`).FindAllStringSubmatch(text, -1) {
		declared[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`get\('(\w+)'\)`).FindAllStringSubmatch(text, -1) {
		if !declared[m[1]] {
			t.Errorf("the launch file uses the argument %s and does not declare it", m[1])
		}
	}
	for _, name := range []string{"namespace", "name", "params_file", "start_daemon", "log_level"} {
		if !declared[name] {
			t.Errorf("the launch file does not declare %s", name)
		}
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("the launch file is not compiled: there is no python3")
	}
	out, err := exec.Command(python, "-c", "import sys; compile(open(sys.argv[1]).read(), sys.argv[1], 'exec')", filepath.Join(root, "launch/hnet.launch.py")).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestParameterFile: what it says are the defaults, and it names every parameter.
func TestParameterFile(t *testing.T) {
	text := read(t, "config/ros/params.yaml")
	var o param.Overrides
	if err := o.File([]byte(text)); err != nil {
		t.Fatal(err)
	}
	n := testNode(t, nil)
	if _, err := declareParameters(n, config.FindPaths(func(string) string { return "" })); err != nil {
		t.Fatal(err)
	}
	file := o.For("/hnet")
	names, _ := n.Parameters().List(nil, 0)
	for _, name := range names {
		v, _ := n.Parameters().Get(name)
		d, _ := n.Parameters().Describe(name)
		switch given, ok := file[name]; {
		case strings.HasPrefix(name, "use_sim_time"), strings.HasPrefix(name, "start_type_description"), strings.HasPrefix(name, "qos_overrides."): // every node has them
		case !ok && !strings.Contains(text, "#"+name+":"):
			t.Errorf("the file does not name %s", name)
		case ok && !given.Equal(v):
			t.Errorf("%s is %v in the file, %v by default", name, given, v)
		case d.Description == "":
			t.Errorf("%s has no description", name)
		case d.Type == param.Double && d.Doubles == nil:
			t.Errorf("%s has no range", name)
		case d.ReadOnly != readOnly(text, name):
			t.Errorf("%s is read-only: %v, and the file says otherwise", name, d.ReadOnly)
		}
		delete(file, name)
	}
	for name := range file {
		t.Errorf("there is no parameter %s", name)
	}
}

// readOnly tells whether the comment on a parameter, above it or behind it, says so.
func readOnly(text, name string) bool {
	lines := strings.Split(text, "\n")
	i := slices.IndexFunc(lines, func(l string) bool {
		return strings.HasPrefix(strings.TrimLeft(l, " #"), name[strings.LastIndex(name, ".")+1:]+":")
	})
	return i > 0 && (strings.Contains(lines[i], "(read-only)") || strings.Contains(lines[i-1], "# ") && strings.Contains(lines[i-1], "(read-only)"))
}

// TestOtherFiles: YAML files can be read.
func TestOtherFiles(t *testing.T) {
	for _, name := range []string{"config/ros/diagnostic_aggregator.yaml", "config/ros/hnet.rviz"} {
		var v map[string]any
		if err := yaml.Unmarshal([]byte(read(t, name)), &v); err != nil || len(v) == 0 {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
	// The aggregator finds what Diagnostics says.
	text := read(t, "config/ros/diagnostic_aggregator.yaml")
	v := testView()
	for _, d := range Diagnostics(noon, Name, v, testSettings()) {
		if !strings.Contains(text, `"`+d.Name+`"`) {
			t.Errorf("the aggregator does not know %q", d.Name)
		}
	}
}
