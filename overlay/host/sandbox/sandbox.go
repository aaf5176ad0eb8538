// Package sandbox runs a test in a process of its own, in network and mount namespaces of its own, so that whatever it
// does to devices, routes, settings and files is gone with it.
package sandbox

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const variable = "HNET_SANDBOX"

// Run runs body in a sandbox and returns when it has ended; its outcome, failed or skipped, is that of t. It must be all
// that a top-level test does: the test binary is started again to run this one test.
//
// In the sandbox the loopback device is up, no other device exists, mounts are private and the caller is root, if only
// in a user namespace.
func Run(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if os.Getenv(variable) == t.Name() {
		settle(t)
		body(t)
		return
	}
	command := exec.Command("/proc/self/exe", "-test.run", "^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.count", "1")
	if testing.Short() {
		command.Args = append(command.Args, "-test.short")
	}
	command.Env = append(os.Environ(), variable+"="+t.Name())
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		command.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	output, err := command.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Skipf("cannot make namespaces (%v): run as root, or allow user namespaces", err)
	}
	switch text := strings.TrimSpace(string(output)); {
	case err != nil:
		t.Fatalf("in the sandbox (%v):\n%s", err, text)
	case strings.Contains(text, "--- SKIP: "+t.Name()+" "):
		t.Skip(text)
	case !strings.Contains(text, "--- PASS: "+t.Name()+" "):
		t.Fatalf("the test did not run in the sandbox:\n%s", text)
	default:
		t.Log(text)
	}
}

func settle(t *testing.T) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal("make mounts private:", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal("bring up lo:", err)
	}
}
