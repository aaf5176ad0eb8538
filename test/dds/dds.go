// Package dds holds two small DDS programs, cyclone_peer on Eclipse Cyclone DDS and fastdds_peer on eProsima Fast DDS,
// and the tests that run them over an overlay address. They have one command line and one output, described by
// `cyclone_peer --help`, and exchange std_msgs/String on the ROS 2 topic /hnet_demo, with each other and with ROS 2.
// TestROS2... have a real ROS 2 in place of them, the one that HNET_ROS_SETUP names, and ros/robot.py.
package dds

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed build.sh peers
var sources embed.FS

// Programs are the paths of the built programs.
type Programs struct {
	Cyclone, FastDDS string
}

// ErrMissing says that Debian packages are missing; the error around it names them.
var ErrMissing = errors.New("DDS libraries are not installed")

// Build builds the programs in the user's cache folder, unless they are there already: with Debian's libraries, or with those below the
// folders in the environment variables HNET_CYCLONE_PREFIX and HNET_FASTDDS_PREFIX.
func Build(ctx context.Context) (Programs, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	folder := filepath.Join(cache, "hnet_bridge", "dds")
	if other := os.Getenv("HNET_CYCLONE_PREFIX") + os.Getenv("HNET_FASTDDS_PREFIX"); other != "" {
		folder += fmt.Sprintf("-%08x", crc32.ChecksumIEEE([]byte(other)))
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return Programs{}, fmt.Errorf("build DDS programs: %w", err)
	}
	src, err := os.MkdirTemp("", "hnet-dds-")
	if err != nil {
		return Programs{}, fmt.Errorf("build DDS programs: %w", err)
	}
	defer os.RemoveAll(src)
	// From what is in this binary, so that it does not matter where it runs.
	if err := os.CopyFS(src, sources); err != nil {
		return Programs{}, fmt.Errorf("build DDS programs: %w", err)
	}

	out, err := exec.CommandContext(ctx, "sh", filepath.Join(src, "build.sh"), folder).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		return Programs{}, fmt.Errorf("%w: %s", ErrMissing, strings.TrimSpace(string(out)))
	} else if err != nil {
		return Programs{}, fmt.Errorf("build DDS programs: %w\n%s", err, out)
	}
	return Programs{
		Cyclone: filepath.Join(folder, "cyclone_peer"),
		FastDDS: filepath.Join(folder, "fastdds_peer"),
	}, nil
}
