package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asDaemon makes this test binary the program itself.
const asDaemon = "HNETD_TEST_AS_DAEMON"

func TestMain(m *testing.M) {
	switch os.Getenv(asDaemon) {
	case "1":
		os.Exit(run())
	case "stuck": // a daemon whose end does not come
		ctx := untilSignal()
		fmt.Println("running")
		<-ctx.Done()
		fmt.Println("stopping")
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

// hnetd runs the program to its end.
func hnetd(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append([]string{asDaemon + "=1"}, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestExitCodes: 0 done, 1 failed, 2 usage; what is wrong is told in one line.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	typo, wrong, file := write("typo.yaml", "prot: 5582\n"), write("wrong.yaml", "mtu: 1\n"), write("file", "")
	for name, test := range map[string]struct {
		env, args []string
		code      int
		words     []string // of standard output if the code is 0, else of the one line on standard error
	}{
		"version":           {nil, []string{"-version"}, 0, []string{"hnetd "}},
		"help":              {nil, []string{"--help"}, 0, []string{"-config", "-state", "-run", "/var/lib/hnet"}},
		"help, as told":     {[]string{"HNET_STATE=/somewhere"}, []string{"-h"}, 0, []string{"/somewhere"}},
		"unknown flag":      {nil, []string{"--colour"}, 2, []string{"colour", "hnetd -help"}},
		"flag without":      {nil, []string{"--state"}, 2, []string{"state", "hnetd -help"}},
		"argument":          {nil, []string{"start"}, 2, []string{`"start"`, "hnetd -help"}},
		"unknown key":       {nil, []string{"--config", typo}, 1, []string{typo + ":1:", "prot", "port"}},
		"value":             {[]string{"HNET_CONFIG=" + wrong}, nil, 1, []string{wrong + ":1:", "mtu"}},
		"state is a file":   {nil, []string{"--config", filepath.Join(dir, "none.yaml"), "--state", file, "--run", dir}, 1, []string{file, "not a directory"}},
		"run is a file":     {nil, []string{"--config", filepath.Join(dir, "none.yaml"), "--state", filepath.Join(dir, "state"), "--run", file}, 1, []string{file, "--run"}},
		"flag before env":   {[]string{"HNET_CONFIG=" + wrong}, []string{"--config", typo}, 1, []string{typo}},
		"config is no file": {nil, []string{"--config", dir}, 1, []string{dir}},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := hnetd(t, test.env, test.args...)
			if code != test.code {
				t.Errorf("exit code %d, want %d:\n%s%s", code, test.code, stdout, stderr)
			}
			told := stdout
			if test.code != 0 {
				told = ""
				for line := range strings.Lines(stderr) {
					if !strings.HasPrefix(line, "time=") {
						told += line
					}
				}
				if strings.Count(told, "\n") != 1 || !strings.HasPrefix(told, "hnetd: ") || stdout != "" {
					t.Errorf("want one line on standard error, got %q and %q", stdout, stderr)
				}
			} else if stderr != "" {
				t.Errorf("standard error: %q", stderr)
			}
			for _, word := range test.words {
				if !strings.Contains(told, word) {
					t.Errorf("it does not say %q: %s", word, told)
				}
			}
		})
	}
}

// TestFailedStartTellsSystemdNothing: neither that it is ready nor that it stops.
func TestFailedStartTellsSystemdNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := hnetd(t, []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=1000000"}, "--config", file+".none", "--state", file, "--run", file)
	if code != 1 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Read(func(fd uintptr) bool {
		b := make([]byte, 100)
		if n, _, err := syscall.Recvfrom(int(fd), b, syscall.MSG_DONTWAIT); err == nil {
			t.Errorf("systemd was told %q", b[:n])
		}
		return true
	})
}
