package api_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/api/apitest"
)

// TestMain makes the test binary a client too, to be run as another user: it changes something and looks at
// something, and prints the codes of the errors.
func TestMain(m *testing.M) {
	socket := os.Getenv("HNET_TEST_SOCKET")
	if socket == "" {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := api.NewClient(socket)
	_, read := c.Status(ctx)
	fmt.Print("read ", outcome(read))
	_, addHost := c.HostAdd(ctx, api.HostAdd{Name: "a", Address: robot})
	_, rmHost := c.HostRemove(ctx, "a")
	_, add := c.WhitelistAdd(ctx, api.WhitelistAdd{Address: robot})
	_, rm := c.WhitelistRemove(ctx, robot.String())
	for _, err := range []error{addHost, rmHost, add, rm, c.WhitelistEnable(ctx, true), c.Down(ctx)} {
		fmt.Print(" change ", outcome(err))
	}
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "done"
	case api.IsCode(err, api.CodeDenied):
		return "denied"
	}
	return err.Error()
}

const (
	testGroup = 54321
	otherUser = 54322
)

func haveGroup() (uint32, bool) { return testGroup, true }

// Processes of other users are judged by what the kernel says of them.
func TestAuthorization(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to run processes of other users; TestAuthorizationInjected stands in")
	}
	program := copySelf(t)
	many := make([]uint32, 300)
	for i := range many {
		many[i] = 60000 + uint32(i)
	}
	tests := []struct {
		name  string
		group func() (uint32, bool)
		cred  syscall.Credential
		may   bool
	}{
		{"root", haveGroup, syscall.Credential{}, true},
		{"root without group", noGroup, syscall.Credential{}, true},
		{"member", haveGroup, syscall.Credential{Uid: otherUser, Gid: otherUser, Groups: []uint32{1, testGroup}}, true},
		{"member by first group", haveGroup, syscall.Credential{Uid: otherUser, Gid: testGroup}, true},
		{"member of many groups", haveGroup, syscall.Credential{Uid: otherUser, Gid: otherUser, Groups: append(many, testGroup)}, true},
		{"stranger", haveGroup, syscall.Credential{Uid: otherUser, Gid: otherUser}, false},
		{"stranger of many groups", haveGroup, syscall.Credential{Uid: otherUser, Gid: otherUser, Groups: many}, false},
		{"member of a missing group", noGroup, syscall.Credential{Uid: otherUser, Gid: testGroup, Groups: []uint32{testGroup}}, false},
		{"group 0 of another user", noGroup, syscall.Credential{Uid: otherUser, Gid: 0}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run, _ := apitest.Serve(t, &apitest.Node{}, api.Options{Group: tt.group})
			cmd := exec.Command(program)
			cmd.Env = []string{"HNET_TEST_SOCKET=" + filepath.Join(run, "hnetd.sock"), "GORACE=atexit_sleep_ms=0"}
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &tt.cred}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			checkOutcome(t, string(out), tt.may)
		})
	}
}

func checkOutcome(t *testing.T, out string, may bool) {
	t.Helper()
	want := "read done" + strings.Repeat(" change denied", 6)
	if may {
		want = "read done" + strings.Repeat(" change done", 6)
	}
	if out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

// copySelf puts the test binary where any user may run it.
func copySelf(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "hnet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	in, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	program := filepath.Join(dir, "client")
	out, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}

func TestAuthorizationInjected(t *testing.T) {
	self := uint32(os.Geteuid())
	tests := []struct {
		name  string
		group func() (uint32, bool)
		cred  api.Credentials
		may   bool
	}{
		{"root", noGroup, api.Credentials{}, true},
		{"own user", noGroup, api.Credentials{UID: self, GID: 5}, true},
		{"member", haveGroup, api.Credentials{UID: self + 1, GID: 5, Groups: []uint32{testGroup}}, true},
		{"stranger", haveGroup, api.Credentials{UID: self + 1, GID: 5, Groups: []uint32{6}}, false},
		{"stranger without group", noGroup, api.Credentials{UID: self + 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run, _ := apitest.Serve(t, &apitest.Node{}, api.Options{Group: tt.group, Credentials: func(*net.UnixConn) (api.Credentials, error) { return tt.cred, nil }})
			c := api.NewClient(filepath.Join(run, "hnetd.sock"))
			if _, err := c.Status(t.Context()); err != nil {
				t.Errorf("read: %v", err)
			}
			err := c.WhitelistEnable(t.Context(), true)
			if tt.may != (err == nil) || err != nil && !api.IsCode(err, api.CodeDenied) {
				t.Errorf("change: %v", err)
			}
			if _, ok := tt.group(); err != nil && !ok && !strings.Contains(err.Error(), "no group hnet") {
				t.Errorf("does not name the cause: %v", err)
			}
		})
	}
}

// Without credentials nobody is served.
func TestNoCredentials(t *testing.T) {
	run, _ := apitest.Serve(t, &apitest.Node{}, api.Options{Credentials: func(*net.UnixConn) (api.Credentials, error) {
		return api.Credentials{}, fmt.Errorf("none")
	}})
	if _, err := api.NewClient(filepath.Join(run, "hnetd.sock")).Status(t.Context()); err == nil {
		t.Error("served")
	}
}
