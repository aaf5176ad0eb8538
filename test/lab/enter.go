package lab

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	envRequired = "HNET_LAB"         // "required": a lab that cannot be had fails the test
	envStage    = "HNET_LAB_STAGE"   // set only in the environment of the process that becomes init of the lab
	envInside   = "HNET_LAB_INSIDE"  // the PID namespace of the lab that this process runs in
	envMissing  = "HNET_LAB_MISSING" // what is wrong with it; empty if nothing is

	runDir = "/run/hnet-lab" // on the lab's own tmpfs
)

// namespaces are those that every lab runs in.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// world is what Enter found; it is written once, before any test runs.
var world struct {
	entered bool
	missing string // why there is no lab here; empty if there is one
}

// SideBySide lets n tests that call t.Parallel run at once, whatever the number of processors, unless -parallel says otherwise: in a lab tests wait more
// than they work. TestMain calls it before [Main]. What has a limit in time or fills the processor does not call t.Parallel.
func SideBySide(n int) {
	if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil { // the command line is read later
		panic(err)
	}
}

// Main runs the tests of a package inside a lab; TestMain calls it. It does not return.
func Main(m *testing.M) {
	Enter()
	os.Exit(m.Run())
}

// Enter moves the program into a lab: it runs the program again in fresh namespaces, passes signals, standard
// streams and the exit code through, and returns only in the program inside. It must come first in main. Where
// the system does not allow that, it returns outside, and [Missing] says why.
func Enter() {
	if os.Args[0] == hostArg0 {
		enterHost()
	}
	world.entered = true
	switch {
	case os.Getenv(envInside) != "" && os.Getenv(envInside) == pidNamespace():
		world.missing = os.Getenv(envMissing)
	case os.Getenv(envStage) != "" && os.Getpid() == 1:
		leave(beInit())
	default:
		code, err := enterNamespaces()
		if err == nil {
			leave(code)
		}
		world.missing = describe(err)
	}
}

// leave ends a process that only stands around the real one, without what the runtime does at the exit of a
// program: it has no coverage to write.
func leave(code int) { syscall.Exit(code) }

// Missing says in one line why there is no lab here. It is empty if there is one.
func Missing() string { return world.missing }

// enterNamespaces runs this program again inside new namespaces and returns its exit code. An error means
// that it did not start.
func enterNamespaces() (int, error) {
	// The kernel sends the death signal when the thread that started the child ends.
	runtime.LockOSThread()
	signals := catchSignals()
	var cmd *exec.Cmd
	var err error
	if os.Geteuid() == 0 {
		cmd, err = startInit(false)
	}
	if os.Geteuid() != 0 || errors.Is(err, unix.EPERM) {
		cmd, err = startInit(true)
	}
	if err != nil {
		signal.Stop(signals)
		return 0, fmt.Errorf("no rights to make namespaces (%w): run as root, or allow user namespaces (sysctl user.max_user_namespaces, user.max_net_namespaces, kernel.unprivileged_userns_clone)", err)
	}
	go passSignals(signals, cmd.Process)
	return waitFor(cmd.Process.Pid), nil
}

// beInit is the life of the first process in new namespaces: it furnishes them, runs this program once more,
// and buries the orphans until that one ends. The kernel then kills whatever is left.
func beInit() int {
	err := furnish()
	signals := catchSignals()
	os.Unsetenv(envStage)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), envInside+"="+pidNamespace(), envMissing+"="+describe(err))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "lab: cannot start inside: %v\n", err)
		return 1
	}
	go passSignals(signals, cmd.Process)
	return waitFor(cmd.Process.Pid)
}

func catchSignals() chan os.Signal {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	return signals
}

func passSignals(signals <-chan os.Signal, to *os.Process) {
	for s := range signals {
		if (s == unix.SIGINT || s == unix.SIGQUIT) && inForeground() {
			continue // the terminal has sent it to the whole process group, which to is part of
		}
		to.Signal(s)
	}
}

// waitFor reaps children until the one given has ended, and returns its exit code.
func waitFor(pid int) int {
	for {
		var status unix.WaitStatus
		ended, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR || err == nil && ended != pid:
		case err != nil:
			fmt.Fprintf(os.Stderr, "lab: cannot wait: %v\n", err)
			return 1
		case status.Signaled():
			return 128 + int(status.Signal())
		default:
			return status.ExitStatus()
		}
	}
}

// startInit starts this program again as init of new namespaces, with a user namespace on demand.
func startInit(user bool) (*exec.Cmd, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	defer w.Close()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), envStage+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{r}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: unix.SIGKILL}
	if user {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// The child waits for this byte: were this process killed before the death signal was armed, it would read
	// the end of the file instead.
	if _, err := w.Write([]byte{1}); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return nil, err
	}
	return cmd, nil
}

// inForeground reports whether this process is in the foreground process group of its terminal.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// furnish makes the new namespaces habitable. It runs as their init.
func furnish() error {
	started := os.NewFile(3, "start")
	defer started.Close()
	if _, err := started.Read(make([]byte, 1)); err != nil {
		os.Exit(1) // whoever started this is gone
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"none", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("no rights to mount on %s in new namespaces (%w): run as root, or lift what restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns=0, no container masks on /proc)", m.target, err)
		}
	}
	if err := os.Mkdir(runDir, 0o755); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("lab")); err != nil {
		return fmt.Errorf("cannot set the host name in new namespaces: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("cannot bring up loopback in a new network namespace: %w", err)
	}
	return checkTUN()
}

// checkTUN reports whether TUN devices can be made.
func checkTUN() error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no access to /dev/net/tun: run as root, or chmod 0666 /dev/net/tun")
	case err != nil:
		return fmt.Errorf("no /dev/net/tun (%w): modprobe tun, or start the container with --device /dev/net/tun", err)
	}
	return f.Close()
}

// pidNamespace names the PID namespace of this process; it is empty if /proc is not there.
func pidNamespace() string {
	name, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return name
}

// describe returns err in one line, and nothing for nil.
func describe(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}
