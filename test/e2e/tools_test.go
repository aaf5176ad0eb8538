package e2e

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// stateDir is where hnetd keeps its state unless told otherwise.
const stateDir = "/var/lib/hnet"

// endTimeout bounds a program that should end by itself; none takes a tenth of it.
const endTimeout = 10 * time.Second

// finish runs a command to its end and returns what it wrote and its exit code.
func finish(t *testing.T, h *lab.Host, name string, args ...string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	cmd := h.Command(ctx, name, args...)
	cmd.WaitDelay = endTimeout
	out, err := cmd.CombinedOutput()
	exit := (*exec.ExitError)(nil)
	switch {
	case ctx.Err() != nil:
		t.Fatalf("%s %s did not end by itself:\n%s", filepath.Base(name), strings.Join(args, " "), out)
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		t.Fatalf("%s: %v", name, err)
	}
	return string(out), code
}

// refuses starts hnetd, which must not run but say why in one line that holds all of the words, and leave the state as it was.
func refuses(t *testing.T, h *lab.Host, words []string, args ...string) {
	t.Helper()
	state := func() map[string]string {
		files := snapshot(t, h.Path(stateDir))
		delete(files, "/contacts.json") // which a daemon that runs beside keeps up to date
		return files
	}
	before := state()
	out, code := finish(t, h, fleet.Binary(t, "hnetd"), args...)
	checkRefusal(t, out, code, words)
	if diff := cmp.Diff(before, state()); diff != "" && before != nil {
		t.Errorf("a failed start changed the state folder:\n%s", diff)
	}
}

// checkRefusal checks that a daemon ended with code 1 and one line with all of the words; structured logs may stand before it.
func checkRefusal(t *testing.T, out string, code int, words []string) {
	t.Helper()
	var plain []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "time=") {
			plain = append(plain, line)
		}
	}
	if code != 1 || len(plain) != 1 || !strings.HasPrefix(plain[0], "hnetd: ") {
		t.Errorf("want exit code 1 and one line, got %d and:\n%s", code, out)
		return
	}
	t.Log(strings.TrimSpace(plain[0]))
	for _, word := range words {
		if !strings.Contains(plain[0], word) {
			t.Errorf("the line does not say %q:\n%s", word, plain[0])
		}
	}
}

// snapshot reads all files of a state folder; nil if there is none.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if d.Name() == "lock" {
			return nil // holds only who came last
		}
		b, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// anyoneMayRun lets users other than root run the programs under test.
func anyoneMayRun(t *testing.T) {
	t.Helper()
	if err := os.Chmod(filepath.Dir(fleet.Binary(t, "hnet")), 0o755); err != nil {
		t.Fatal(err)
	}
}

// asNobody returns the command that runs another as a user without rights. It skips the test where there is no such user.
func asNobody(t *testing.T, h *lab.Host, args ...string) []string {
	t.Helper()
	anyoneMayRun(t)
	nobody := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
	if out, code := finish(t, h, nobody[0], append(nobody[1:], "true")...); code != 0 {
		t.Skipf("no other user can be had here (a user namespace with more than one user, and setpriv, are needed): %s", out)
	}
	return append(nobody, args...)
}

// warnings returns the codes that 'hnet status' shows.
func warnings(r *fleet.Robot) map[string]bool {
	var status struct{ Warnings []struct{ Code string } }
	r.JSON(&status, "status")
	codes := make(map[string]bool)
	for _, w := range status.Warnings {
		codes[w.Code] = true
	}
	return codes
}

// occupy binds UDP ports on a host until the end of the test.
func occupy(t *testing.T, h *lab.Host, ports []int) {
	t.Helper()
	for _, port := range ports {
		listenUDP(t, h, netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port)))
	}
}

// memory returns a field of /proc/PID/status in kB.
func memory(t *testing.T, p *lab.Process, field string) (kB int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "status"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no %s in %s", field, b)
	}
	for _, c := range m[1] {
		kB = 10*kB + int(c-'0')
	}
	return kB
}
