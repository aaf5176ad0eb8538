package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/host/sandbox"
)

// TestSystemd runs the daemon as systemd does: it says when it is ready, that it lives, and when it stops; one SIGTERM ends it well.
func TestSystemd(t *testing.T) {
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		t.Skipf("no TUN devices here: %v", err)
	} else {
		f.Close()
	}
	sandbox.Run(t, func(t *testing.T) {
		dir := t.TempDir()
		configuration := filepath.Join(dir, "hnet.yaml")
		if err := os.WriteFile(configuration, []byte("hosts_file: \"\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		notified, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer notified.Close()
		next := func() string {
			t.Helper()
			b := make([]byte, 100)
			notified.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := notified.Read(b)
			if err != nil {
				t.Fatalf("nothing told: %v", err)
			}
			return string(b[:n])
		}

		cmd := exec.CommandContext(t.Context(), os.Args[0], "--config", configuration, "--state", filepath.Join(dir, "state"), "--run", filepath.Join(dir, "run"))
		cmd.Env = []string{asDaemon + "=1", "NOTIFY_SOCKET=" + notified.LocalAddr().String(), "WATCHDOG_USEC=100000"}
		var log strings.Builder
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		told := map[string]int{}
		for told["READY=1"] == 0 || told["WATCHDOG=1"] < 5 {
			told[next()]++
		}
		if _, err := net.InterfaceByName("hnet0"); err != nil {
			t.Errorf("it was ready without its device: %v", err)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		for told["STOPPING=1"] == 0 {
			told[next()]++
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("it ended badly (%v):\n%s", err, &log)
		}
		if told["READY=1"] != 1 || len(told) != 3 {
			t.Errorf("systemd was told %v", told)
		}
		if _, err := net.InterfaceByName("hnet0"); err != nil {
			t.Errorf("the device did not outlive it: %v", err)
		}
	})
}

// TestSecondSignal: whoever waits for the end in vain can have it at once.
func TestSecondSignal(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = []string{asDaemon + "=stuck"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 16)
	for _, want := range []string{"running\n", "stopping\n"} {
		if n, err := out.Read(line); err != nil || string(line[:n]) != want {
			t.Fatalf("it says %q (%v), want %q", line[:n], err, want)
		}
		cmd.Process.Signal(syscall.SIGTERM)
	}
	// The second may come a moment too early to be one; whoever presses Ctrl-C presses on.
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for err == nil {
		select {
		case err = <-ended:
		case <-again.C:
			cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("after a second SIGTERM: %v", cmd.ProcessState)
	}
}
