package skew

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

const arg0 = "hnet-skewed-clock"

// Command returns the arguments, the program first, of this program as one that runs another whose clock is wrong from its first instruction on. It passes
// SIGTERM, streams and exit code through. [Main] must come first in main.
func Command(ahead time.Duration, program string, args ...string) ([]string, error) {
	self, err := os.Executable()
	return append([]string{self, arg0, ahead.String(), program}, args...), err
}

// Main is the life of a process begun by [Command]; in any other it returns.
func Main() {
	if len(os.Args) < 4 || os.Args[1] != arg0 {
		return
	}
	code, err := run(os.Args[2], os.Args[3], os.Args[4:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func run(offset, program string, args []string) (code int, err error) {
	ahead, err := time.ParseDuration(offset)
	if err != nil {
		return 2, err
	}
	runtime.LockOSThread() // who traces is a thread
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 127, err
	}
	pid := cmd.Process.Pid
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || !status.Stopped() {
		return 1, fmt.Errorf("skew: %s does not stop at its beginning: %v", program, err)
	}
	c, err := take(pid, false)
	if err == nil {
		err = c.Set(ahead)
	}
	if err = errors.Join(err, syscall.PtraceDetach(pid)); err != nil {
		_ = cmd.Process.Kill()
		return 1, err
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return 1, err
	}
	return max(cmd.ProcessState.ExitCode(), 0), nil
}
