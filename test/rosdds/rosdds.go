// Package rosdds holds small DDS programs that speak the ROS 2 mapping of topics and services, on Eclipse Cyclone DDS, on
// eProsima Fast DDS and on this repository's own ros_pkg/rtps, and the tests that set them upon each other. They have one
// command line and one output, described by any program's usage.
package rosdds

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

//go:embed build.sh peers
var sources embed.FS

// Vendor is whose DDS a program is built on.
type Vendor string

// The vendors. A service of Cyclone's mapping and one of Fast's do not understand each other; Go's programs speak to both.
const (
	Cyclone Vendor = "cyclone"
	FastDDS Vendor = "fastdds"
	Go      Vendor = "go"
)

// ErrMissing says that Debian packages are missing; the error around it names them.
var ErrMissing = errors.New("DDS libraries are not installed")

// Build builds the programs of Cyclone and FastDDS in the user's cache folder, unless they are there already, and
// returns the folder.
func Build(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	folder := filepath.Join(cache, "hnet_bridge", "rosdds")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("build ROS DDS programs: %w", err)
	}
	src, err := os.MkdirTemp("", "hnet-rosdds-")
	if err != nil {
		return "", fmt.Errorf("build ROS DDS programs: %w", err)
	}
	defer os.RemoveAll(src)
	// From what is in this binary, so that it does not matter where it runs.
	if err := os.CopyFS(src, sources); err != nil {
		return "", fmt.Errorf("build ROS DDS programs: %w", err)
	}
	out, err := exec.CommandContext(ctx, "sh", filepath.Join(src, "build.sh"), folder).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		return "", fmt.Errorf("%w: %s", ErrMissing, strings.TrimSpace(string(out)))
	} else if err != nil {
		return "", fmt.Errorf("build ROS DDS programs: %w\n%s", err, out)
	}
	return folder, nil
}

var build = sync.OnceValues(func() (string, error) { return Build(context.Background()) })

// goCommand makes this binary, started again, the program of Go: see Main.
const goCommand = "rosdds-peer"

// Main is what TestMain of a package calls that starts programs of Go, before anything else: in a process that is to be
// one it does not return.
func Main() {
	if len(os.Args) > 1 && os.Args[1] == goCommand {
		os.Exit(Peer(os.Args[2:]))
	}
}

// Messages of all programs are at most 1,400 bytes long, so that a sample of any size meets a link's loss packet by
// packet, and participants announce themselves every second, so that a lost announcement costs no more.
const (
	cycloneProfile = `<CycloneDDS><Domain>
<General><MaxMessageSize>1400B</MaxMessageSize><FragmentSize>1300B</FragmentSize></General>
<Discovery><SPDPInterval>1s</SPDPInterval></Discovery>
</Domain></CycloneDDS>`
	fastProfile = `<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"><profiles>
<transport_descriptors><transport_descriptor>
<transport_id>udp</transport_id><type>UDPv4</type><maxMessageSize>1400</maxMessageSize>
<sendBufferSize>4194304</sendBufferSize><receiveBufferSize>4194304</receiveBufferSize>
</transport_descriptor></transport_descriptors>
<participant profile_name="peer" is_default_profile="true"><rtps>
<builtin><discovery_config><leaseAnnouncement><sec>1</sec></leaseAnnouncement></discovery_config></builtin>
<userTransports><transport_id>udp</transport_id></userTransports>
<useBuiltinTransports>false</useBuiltinTransports>
</rtps></participant>
</profiles></dds>`
)

// Start starts a vendor's program on a host. The test is skipped where the libraries are missing, and fails instead
// with HNET_LAB=required.
func Start(t lab.TB, h *lab.Host, v Vendor, args ...string) *lab.Process {
	t.Helper()
	return start(t, h, v, string(v), args)
}

// StartRaw starts a vendor's program that shows payloads, see peers/raw.c. Go has none.
func StartRaw(t lab.TB, h *lab.Host, v Vendor, args ...string) *lab.Process {
	t.Helper()
	if v == Go {
		t.Fatalf("there is no raw program of Go")
	}
	return start(t, h, v, "raw_"+string(v), args)
}

func start(t lab.TB, h *lab.Host, v Vendor, name string, args []string) *lab.Process {
	t.Helper()
	program, err := os.Executable()
	if v == Go {
		args = append([]string{goCommand}, args...)
	} else {
		var folder string
		folder, err = build()
		if errors.Is(err, ErrMissing) && os.Getenv("HNET_LAB") != "required" {
			t.Skipf("%v", err)
		}
		program = filepath.Join(folder, name)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	// A host's own /run: nobody else sees it.
	profile := h.Path("/run/rosdds.xml")
	if err := replace(profile, fastProfile); err != nil {
		t.Fatalf("%v", err)
	}
	cmd := h.Command(context.Background(), program, args...)
	cmd.Env = append(os.Environ(), "CYCLONEDDS_URI="+cycloneProfile, "FASTRTPS_DEFAULT_PROFILES_FILE=/run/rosdds.xml", "FASTDDS_DEFAULT_PROFILES_FILE=/run/rosdds.xml")
	return h.StartCmd(t, cmd)
}

// replace writes a file whole or not at all: another program may be about to read it, or another test to write it.
func replace(path, content string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "rosdds")
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
