package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// envChild makes the test binary a program that uses the lab, instead of a test.
const envChild = "LAB_TEST_CHILD"

func child(mode string) {
	Enter()
	switch mode {
	case "exit":
		leave(7)
	case "panic":
		panic("as asked")
	case "killed":
		unix.Kill(os.Getpid(), unix.SIGKILL)
	case "echo":
		in, _ := io.ReadAll(os.Stdin)
		fmt.Printf("out %s", in)
		fmt.Fprintf(os.Stderr, "err %s", in)
	case "signal":
		got := make(chan os.Signal, 1)
		signal.Notify(got, unix.SIGTERM)
		fmt.Println("ready")
		<-got
		leave(42)
	case "interrupts":
		got := make(chan os.Signal, 16)
		signal.Notify(got, unix.SIGINT, unix.SIGTERM)
		fmt.Println("ready")
		interrupts := 0
		for s := range got {
			if s == unix.SIGTERM {
				leave(interrupts)
			}
			interrupts++
			fmt.Println("interrupt")
		}
	case "where":
		user, _ := os.Readlink("/proc/self/ns/user")
		fmt.Println(os.Geteuid(), user, Missing())
	case "build":
		leave(Program("build", func(t TB) {
			l := New(t)
			a, b := l.Host("a"), l.Host("b")
			l.LAN(Link{Delay: time.Millisecond}, a, b)
			fmt.Printf("device %s\n", a.Run(t, "ip", "-o", "link", "show", "lan0"))
			a.Start(t, "sleep", "1000")
			p := b.Start(t, "sh", "-c", "setsid sleep 1000 & echo ready; wait")
			p.WaitLine("ready", 10*time.Second)
			fmt.Println("ready")
			<-p.Done()
		}))
	}
	leave(0)
}

// childCommand is this binary as a program outside of the lab that the test itself runs in.
func childCommand(t *testing.T, mode string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, envInside+"=") || strings.HasPrefix(s, envRequired+"=") || strings.HasPrefix(s, "GOCOVERDIR=")
	}), envChild+"="+mode)
	return cmd
}

func TestExitCodes(t *testing.T) {
	New(t)
	for _, test := range []struct {
		mode string
		code int
		err  string
	}{
		{"nothing", 0, ""},
		{"exit", 7, ""},
		{"panic", 2, "panic: as asked"},
		{"killed", 137, ""},
	} {
		cmd := childCommand(t, test.mode)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(stderr.String(), test.err) {
			t.Errorf("%s: exit code %d, want %d; %s", test.mode, code, test.code, stderr.String())
		}
	}
}

func TestStreams(t *testing.T) {
	New(t)
	cmd := childCommand(t, "echo")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("hello"), &stdout, &stderr
	if err := cmd.Run(); err != nil || stdout.String() != "out hello" || stderr.String() != "err hello" {
		t.Errorf("%v, %q, %q", err, stdout.String(), stderr.String())
	}
}

// startChild starts a child and waits until it says that it is ready. It returns what it said before.
func startChild(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "ready" {
			return said.String()
		}
		said.WriteString(lines.Text() + "\n")
	}
	t.Fatalf("the child ended: %v", cmd.Wait())
	return ""
}

func TestSignalsArePassedOn(t *testing.T) {
	New(t)
	cmd := childCommand(t, "signal")
	startChild(t, cmd)
	cmd.Process.Signal(unix.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 42 {
		t.Errorf("exit code %d, want 42", code)
	}
}

// Ctrl-C in a terminal reaches the program once, and an interrupt from elsewhere does too.
func TestInterrupts(t *testing.T) {
	New(t)
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pty.Close()
	if err := unix.IoctlSetPointerInt(int(pty.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(pty.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for _, test := range []struct {
		name      string
		interrupt func(outer *os.Process)
		attr      *syscall.SysProcAttr
	}{
		{"terminal", func(*os.Process) { pty.Write([]byte{3}) }, &syscall.SysProcAttr{Setsid: true, Setctty: true}},
		{"kill", func(p *os.Process) { p.Signal(unix.SIGINT) }, &syscall.SysProcAttr{Setsid: true}},
	} {
		cmd := childCommand(t, "interrupts")
		cmd.SysProcAttr = test.attr
		cmd.Stdin = terminal
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() && lines.Text() != "ready" {
		}
		test.interrupt(cmd.Process)
		lines.Scan()
		cmd.Process.Signal(unix.SIGTERM)
		cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); lines.Text() != "interrupt" || got != 1 {
			t.Errorf("%s: %d interrupts, want 1", test.name, got)
		}
	}
}

// elsewhere returns the processes in other PID namespaces than this one's: those of a child's lab, the
// oldest first.
func elsewhere(t *testing.T) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	own := pidNamespace()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ns, err := os.Readlink(filepath.Join("/proc", e.Name(), "ns/pid")); err == nil && ns != own {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func processName(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(b))
}

// Whatever is killed: no process, namespace or mount of the lab survives.
func TestCrash(t *testing.T) {
	New(t)
	for _, victim := range []string{"outer", "init", "inner"} {
		t.Run(victim, func(t *testing.T) {
			mounts, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil {
				t.Fatal(err)
			}
			cmd := childCommand(t, "build")
			if said := startChild(t, cmd); !strings.Contains(said, "lan0") {
				t.Errorf("the child has no network: %s", said)
			}
			var sleeps, own []int
			Eventually(t, 10*time.Second, "two programs sleep", func() error {
				sleeps, own = nil, nil
				for _, pid := range elsewhere(t) {
					switch processName(pid) {
					case "sleep":
						sleeps = append(sleeps, pid)
					case processName(os.Getpid()):
						own = append(own, pid)
					}
				}
				if len(sleeps) != 2 || len(own) != 2 {
					return fmt.Errorf("%d sleep, %d are the lab's own", len(sleeps), len(own))
				}
				return nil
			})
			for i, pid := range sleeps {
				// A veth of which one end is in the host's network ends with that network.
				probe(t, fmt.Sprintf("probe%d", i), pid)
			}
			victims := map[string]int{"outer": cmd.Process.Pid, "init": own[0], "inner": own[1]}
			unix.Kill(victims[victim], unix.SIGKILL)
			if err := cmd.Wait(); err == nil {
				t.Error("a killed child ended well")
			}
			Eventually(t, 10*time.Second, "nothing is left", func() error {
				if left := elsewhere(t); len(left) > 0 {
					return fmt.Errorf("processes %v", left)
				}
				for i := range sleeps {
					if _, err := netlink.LinkByName(fmt.Sprintf("probe%d", i)); err == nil {
						return fmt.Errorf("network namespace %d", i)
					}
				}
				return nil
			})
			if after, err := os.ReadFile("/proc/self/mountinfo"); err != nil || !bytes.Equal(after, mounts) {
				t.Errorf("mounts have changed: %v\n%s", err, after)
			}
		})
	}
}

// probe makes a veth between this network and that of a process.
func probe(t *testing.T, name string, pid int) {
	t.Helper()
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	v := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "probe", PeerNamespace: netlink.NsFd(ns)}
	v.Name = name
	if err := netlink.LinkAdd(v); err != nil {
		t.Fatal(err)
	}
}

// asNobody makes a command run without any rights.
func asNobody(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if b, err := os.ReadFile("/proc/self/uid_map"); err != nil || len(strings.Fields(string(b))) != 3 || strings.Fields(string(b))[2] == "1" {
		t.Skip("needs real root, to become somebody else: the lab is rootless already")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Env = append(cmd.Env, "HOME=/nonexistent", "TMPDIR=/tmp")
	cmd.Dir = "/"
}

// tunMode makes /dev/net/tun accessible to all, as it is on Debian with udev, or to root alone, or to nobody (mode 0): in this
// lab only.
func tunMode(t *testing.T, mode uint32) {
	t.Helper()
	if err := unix.Mount("tmpfs", "/dev/net", "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount("/dev/net", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if mode == 0 {
		return
	}
	if err := unix.Mknod("/dev/net/tun", unix.S_IFCHR, int(unix.Mkdev(10, 200))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("/dev/net/tun", os.FileMode(mode)); err != nil {
		t.Fatal(err)
	}
}

func TestRootless(t *testing.T) {
	New(t)
	cmd := childCommand(t, "where")
	asNobody(t, cmd)
	tunMode(t, 0o666)
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) != 2 || fields[0] != "0" || fields[1] == own {
		t.Errorf("the rootless lab is at %q, %v; want root, another user namespace than %s, and nothing missing", out, err, own)
	}
	tests := childCommand(t, "")
	asNobody(t, tests)
	tests.Args = append(tests.Args, "-test.v", "-test.run=^(TestPing|TestFolders|TestRouter|TestCapture|TestLoss|TestCutAndRestore)$")
	tests.Env = append(tests.Env, envRequired+"=required")
	if out, err := tests.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestLoss") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestMissingIsSaid(t *testing.T) {
	New(t)
	for _, test := range []struct {
		name   string
		mode   uint32
		nobody bool
		want   string
	}{
		{"no device", 0, false, "no /dev/net/tun"},
		{"no access", 0o600, true, "no access to /dev/net/tun: run as root, or chmod 0666 /dev/net/tun"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tunMode(t, test.mode)
			for _, required := range []bool{false, true} {
				cmd := childCommand(t, "")
				cmd.Args = append(cmd.Args, "-test.v", "-test.run=^TestNames$")
				if test.nobody {
					asNobody(t, cmd)
				}
				verdict := "--- SKIP: TestNames"
				if required {
					verdict = "--- FAIL: TestNames"
					cmd.Env = append(cmd.Env, envRequired+"=required")
				}
				out, err := cmd.CombinedOutput()
				if (err != nil) != required || !strings.Contains(string(out), verdict) || !strings.Contains(string(out), test.want) {
					t.Errorf("required %v: %v, want %s and %q\n%s", required, err, verdict, test.want, out)
				}
			}
		})
	}
}

// The kernel may forbid namespaces altogether.
func TestNoNamespaces(t *testing.T) {
	New(t)
	child := childCommand(t, "where")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The limit holds for the user namespace it is set in, and ends with it.
	cmd := exec.CommandContext(t.Context(), "unshare", "--user", "--map-root-user", "sh", "-ec",
		`echo 0 >/proc/sys/user/max_net_namespaces; exec "$0"`, self)
	cmd.Env = child.Env
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "no rights to make namespaces") || strings.Count(string(out), "\n") != 1 {
		t.Errorf("%v, %q", err, out)
	}
}
