package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// hostArg0 makes a process of this program the one that enters a host and becomes another program there.
const hostArg0 = "hnet-lab-host"

var nsFlags = [len(nsFiles)]int{unix.CLONE_NEWNET, unix.CLONE_NEWUTS, unix.CLONE_NEWIPC, unix.CLONE_NEWNS}

// Command returns a command that runs on the host: in its namespaces, in the working directory of this process
// or cmd.Dir. It is an ordinary exec.Cmd otherwise; its PID is the program's own. A name without a slash is
// looked up in PATH on the host; one that cannot be run exits with 127 and a line on standard error.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	where := []string{strconv.Itoa(os.Getpid())}
	for _, f := range h.files {
		where = append(where, strconv.Itoa(int(f.Fd())))
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{strings.Join(where, ":"), h.name, name}, args...)...)
	cmd.Args[0] = hostArg0
	return cmd
}

// enterHost is the life of a process begun by Command: it joins the host's namespaces and becomes the program.
func enterHost() {
	err := becomeOnHost(os.Args)
	name := "?"
	if len(os.Args) > 3 {
		name = os.Args[3] + " on " + os.Args[2]
	}
	fmt.Fprintf(os.Stderr, "lab: cannot run %s: %v\n", name, err)
	leave(127)
}

func becomeOnHost(args []string) error {
	runtime.LockOSThread()
	if len(args) < 4 {
		return fmt.Errorf("not enough arguments")
	}
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	where := strings.Split(args[1], ":")
	if len(where) != 1+len(nsFiles) {
		return fmt.Errorf("bad argument %q", args[1])
	}
	var files [len(nsFiles)]*os.File
	for i, fd := range where[1:] {
		if files[i], err = os.Open("/proc/" + where[0] + "/fd/" + fd); err != nil {
			return err
		}
	}
	// A thread that shares its root and working directory with others may not change mount namespaces.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for i, f := range files {
		if err := unix.Setns(int(f.Fd()), nsFlags[i]); err != nil {
			return fmt.Errorf("cannot enter the %s namespace: %w", nsFiles[i], err)
		}
	}
	if err := os.Chdir(cwd); err != nil {
		return err
	}
	path, err := exec.LookPath(args[3])
	if err != nil {
		return err
	}
	return syscall.Exec(path, args[3:], os.Environ())
}
