// Package fleet runs hnetd on the hosts of a lab, as robots would: default paths, default configuration, the programs built from this tree.
package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// ReadyTimeout is how long a daemon may take to be ready before a test gives up; it takes some 20 ms.
const ReadyTimeout = 20 * time.Second

var (
	buildOnce sync.Once
	buildDir  string
	buildErr  error
)

// Binary returns the path of a program of this tree (hnetd, hnet, hnet_base, hnet_bridge) or of the reference implementation (wireguard), brought up to date once per process.
func Binary(t lab.TB, name string) string {
	t.Helper()
	buildOnce.Do(build)
	if buildErr != nil {
		t.Fatalf("%v", buildErr)
	}
	return filepath.Join(buildDir, name)
}

// Root is the folder of this repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// build brings the programs up to date in a folder that belongs to this tree: tests of another one may run at the same time. One process at a time, since
// several packages ask and none may run a program that is half written.
func build() {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	buildDir = filepath.Join(cache, "hnet_bridge", fmt.Sprintf("fleet-%08x", crc32.ChecksumIEEE([]byte(Root()))))
	if buildErr = os.MkdirAll(buildDir, 0o755); buildErr != nil {
		return
	}
	lock, err := os.OpenFile(filepath.Join(buildDir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err == nil {
		defer lock.Close()
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		buildErr = fmt.Errorf("the programs could not be built one at a time: %w", err)
		return
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", buildDir+"/", "./cmd/hnetd", "./cmd/hnet", "./cmd/hnet_base", "./cmd/hnet_bridge", "golang.zx2c4.com/wireguard")
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		buildErr = fmt.Errorf("the programs could not be built: %w\n%s", err, out)
	}
}

// Robot is a host that runs hnetd.
type Robot struct {
	*lab.Host
	Daemon  *lab.Process
	Address netip.Addr
	t       lab.TB
}

// Start starts hnetd with its default paths on the host and returns when it is ready. The configuration may be empty.
func Start(t lab.TB, h *lab.Host, configuration string) *Robot {
	t.Helper()
	r := &Robot{Host: h, t: t}
	r.Configure(configuration)
	r.Restart()
	var id api.ID
	r.JSON(&id, "id")
	r.Address = id.Address
	return r
}

// likeAnyProgram is of each robot that is not told otherwise. The lab's links are this process's work: a daemon that goes before it would see queues on
// them that are waits for the processor.
const likeAnyProgram = "nice: 0\n"

// Configure writes the configuration file that the next start reads.
func (r *Robot) Configure(configuration string) {
	r.t.Helper()
	if !strings.Contains(configuration, "nice:") {
		configuration = strings.TrimSuffix(configuration, "\n") + "\n" + likeAnyProgram
	}
	r.Write("/etc/hnet/hnet.yaml", configuration)
}

// Write writes a file of the host.
func (r *Robot) Write(path, content string) {
	r.t.Helper()
	path = r.Path(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatalf("%v", err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.t.Fatalf("%v", err)
	}
}

// Restart starts hnetd, which must not be running, and returns when it is ready.
func (r *Robot) Restart() {
	r.t.Helper()
	r.Daemon = r.Start(r.t, Binary(r.t, "hnetd"))
	r.Hnet("wait", "daemon", "--timeout", ReadyTimeout.String())
}

// Hnet runs the command line on the host; the test fails if it does.
func (r *Robot) Hnet(args ...string) string {
	r.t.Helper()
	return r.Run(r.t, Binary(r.t, "hnet"), args...)
}

// TryHnet runs the command line on the host and returns its output and exit code.
func (r *Robot) TryHnet(args ...string) (output string, code int) {
	r.t.Helper()
	out, err := r.Command(context.Background(), Binary(r.t, "hnet"), args...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !asExit(err, &exit) {
		r.t.Fatalf("hnet %s: %v", strings.Join(args, " "), err)
	} else if exit != nil {
		code = exit.ExitCode()
	}
	return string(out), code
}

func asExit(err error, exit **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*exit = e
	return ok
}

// JSON runs the command line with --json and decodes what it says.
func (r *Robot) JSON(v any, args ...string) {
	r.t.Helper()
	out := r.Hnet(append([]string{"--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		r.t.Fatalf("hnet --json %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Peer returns what the robot knows of another.
func (r *Robot) Peer(other netip.Addr) (p api.Peer, ok bool) {
	r.t.Helper()
	var peers []api.Peer
	r.JSON(&peers, "peers")
	for _, p := range peers {
		if p.Address == other {
			return p, true
		}
	}
	return p, false
}

// Trust puts every robot on every other's whitelist, by the other's host name.
func Trust(robots ...*Robot) {
	for _, r := range robots {
		r.t.Helper()
		for _, other := range robots {
			if other != r {
				r.Hnet("whitelist", "add", other.Address.String(), "--hostname", other.Name())
			}
		}
	}
}
