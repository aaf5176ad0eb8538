package skew

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const years = 50 * 365 * 24 * time.Hour

func TestMain(m *testing.M) {
	Main()
	if os.Getenv("SKEW_TEST_CLOCK") != "" {
		// A program that tells the time when asked, in seconds since 1970 and as monotonic milliseconds since its start.
		start := time.Now()
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			fmt.Println(time.Now().Unix(), time.Since(start).Milliseconds())
		}
		return
	}
	m.Run()
}

// teller is a program that tells the time.
type teller struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

func start(t *testing.T, name string, args ...string) *teller {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "SKEW_TEST_CLOCK=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &teller{t, cmd, in, bufio.NewScanner(out)}
}

// ahead is how far the program's clock is ahead of ours.
func (x *teller) ahead() time.Duration {
	x.t.Helper()
	if _, err := io.WriteString(x.in, "\n"); err != nil {
		x.t.Fatal(err)
	}
	if !x.out.Scan() {
		x.t.Fatalf("it tells nothing: %v", x.out.Err())
	}
	wall, steady, _ := strings.Cut(x.out.Text(), " ")
	seconds, err := strconv.ParseInt(wall, 10, 64)
	if ms, e := strconv.Atoi(steady); err != nil || e != nil || ms < 0 || ms > 60_000 {
		x.t.Fatalf("it tells %q", x.out.Text())
	}
	return time.Until(time.Unix(seconds, 0)).Round(time.Minute)
}

func TestSet(t *testing.T) {
	if !Supported {
		t.Skip("not on this processor")
	}
	x := start(t, "/proc/self/exe")
	if d := x.ahead(); d != 0 {
		t.Fatalf("%v ahead from the beginning", d)
	}
	c, err := Of(x.cmd.Process.Pid)
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		t.Skip("the kernel does not let it: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []time.Duration{0, -years, years, 0} {
		if err := c.Set(want); err != nil {
			t.Fatal(err)
		}
		if d := x.ahead(); d != want {
			t.Errorf("%v ahead, want %v", d, want)
		}
	}
	if here := time.Now().Year(); here > 2060 || here < 1990 {
		t.Errorf("our own clock is in %d", here)
	}
}

func TestCommand(t *testing.T) {
	if !Supported {
		t.Skip("not on this processor")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args, err := Command(-years, self)
	if err != nil {
		t.Fatal(err)
	}
	if d := start(t, args[0], args[1:]...).ahead(); d != -years {
		t.Errorf("%v ahead, want %v", d, -years)
	}
}
