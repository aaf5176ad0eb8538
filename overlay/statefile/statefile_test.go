package statefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustRead(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	for _, want := range []string{"first", "", "a longer one\x00\n"} {
		if err := Write(path, []byte(want), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path, 100)
		if err != nil || string(got) != want {
			t.Errorf("Read: %q, %v, want %q", got, err, want)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o640 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	if diff := cmp.Diff([]string{"state"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestWriteReplacesASymbolicLink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(target, []byte("theirs"), 0o600), os.Symlink(target, link)); err != nil {
		t.Fatal(err)
	}
	if err := Write(link, []byte("ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	if mustRead(t, target) != "theirs" || mustRead(t, link) != "ours" {
		t.Error("the link was followed")
	}
}

func TestWriteInTheWorkingFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := Write("state", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := mustRead(t, "state"); got != "x" {
		t.Errorf("%q", got)
	}
}

func TestCreateNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	if err := Create(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, []byte("second"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second: %v", err)
	}
	if got := mustRead(t, path); got != "first" {
		t.Errorf("content %q", got)
	}
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	if err := Create(dangling, nil, 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a dangling link: %v", err)
	}

	race := filepath.Join(dir, "race")
	var wg sync.WaitGroup
	var mu sync.Mutex
	var winners []string
	for i := range 16 {
		wg.Go(func() {
			data := fmt.Sprint("writer ", i)
			err := Create(race, []byte(data), 0o600)
			if err == nil {
				mu.Lock()
				winners = append(winners, data)
				mu.Unlock()
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(winners, []string{mustRead(t, race)}); diff != "" {
		t.Errorf("winners and content:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"dangling", "race", "state"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestConcurrentWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if err := Write(path, []byte(strings.Repeat(string(rune('a'+i)), 10_000)), 0o600); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := mustRead(t, path)
	if len(got) != 10_000 || strings.Trim(got, got[:1]) != "" {
		t.Error("the content is of more than one writer")
	}
}

// oneLine checks that an error says what it is about and what to do, in one line.
func oneLine(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q lacks %q", err, p)
		}
	}
	if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), tempMark) {
		t.Errorf("error %q", err)
	}
}

func TestUnusableFolders(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	missing, below := filepath.Join(dir, "missing", "state"), filepath.Join(file, "state")
	oneLine(t, Write(missing, nil, 0o600), missing, "no such file", "create "+filepath.Dir(missing))
	oneLine(t, Write(below, nil, 0o600), below, "another state folder")
	oneLine(t, Write(dir, nil, 0o600), dir, "move away what is in its place")
	_, err := LockDir(below)
	oneLine(t, err, below, "another state folder")
	_, err = Read(below, 10)
	oneLine(t, err, below, "another state folder")
}

// TestUnwritableFolder plays a user without rights to the folder: root has all of them, so as root one thread becomes
// somebody else.
func TestUnwritableFolder(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o555)); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o755)
	if os.Geteuid() == 0 {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
		defer syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0)
		if now, _, _ := syscall.RawSyscall(syscall.SYS_SETFSUID, ^uintptr(0), 0, 0); int(now) != 65534 {
			t.Skip("needs the user 65534, which this user namespace does not have")
		}
	}
	path := filepath.Join(dir, "state")
	oneLine(t, Write(path, nil, 0o600), path, "permission denied", "owner of "+dir)
	oneLine(t, Create(path, nil, 0o600), path, "permission denied", "owner of "+dir)
	_, err := LockDir(dir)
	oneLine(t, err, dir, "permission denied", "owner of "+dir)
	_, err = LockDir(filepath.Join(dir, "new"))
	oneLine(t, err, dir, "permission denied", "owner of "+dir)
}

// A limit on the size of files stands for a full disk: the write begins and cannot go on.
func TestFailedWriteKeepsTheOldContent(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	if err := Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var unlimited syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &unlimited); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 8192, Max: unlimited.Max}); err != nil {
		t.Fatal(err)
	}
	err := Write(path, make([]byte, 100_000), 0o600)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &unlimited); err != nil {
		t.Fatal(err)
	}
	oneLine(t, err, path, "file too large")
	if got := mustRead(t, path); got != "old" {
		t.Errorf("content %q", got)
	}
	if diff := cmp.Diff([]string{"state"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestFullDiskIsExplained(t *testing.T) {
	err := explain("write", "/x/state", &fs.PathError{Op: "write", Path: "/x/.state" + tempMark + "1", Err: syscall.ENOSPC})
	oneLine(t, err, "/x/state", "no space left", "free some space")
	if !errors.Is(err, syscall.ENOSPC) {
		t.Error("the cause is lost")
	}
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if _, err := Read(path, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := Read(path, 10); err != nil || len(b) != 10 {
		t.Errorf("as long as may be: %q, %v", b, err)
	}
	_, err := Read(path, 9)
	oneLine(t, err, path, "more than 9 bytes", "backup")
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("too long: %v", err)
	}
}

func TestReadJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	type value struct{ A, B int }
	if err := ReadJSON(path, new(value)); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
		t.Errorf("no file: %v", err)
	}
	want := value{A: 1, B: 2}
	if err := WriteJSON(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	var got value
	if err := ReadJSON(path, &got); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	whole := mustRead(t, path)
	for _, bad := range []string{
		"", "\x00\x00\x00\x00", whole[:1], whole[:len(whole)/2], strings.TrimRight(whole, "}\n"), whole + whole, whole + "x",
		`{"A":1,"C":2}`, `{"A":"1"}`, `[]`, strings.Repeat("[", 1<<20), `{"A":1}` + strings.Repeat(" ", MaxJSON),
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		err := ReadJSON(path, new(value))
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%.40q: %v", bad, err)
		}
		oneLine(t, err, path, "backup", "move it away")
		if mustRead(t, path) != bad {
			t.Errorf("%.40q was changed", bad)
		}
	}
	if err := WriteJSON(path, func() {}, 0o600); err == nil {
		t.Error("a function was written")
	}
	if err := WriteJSON(path, strings.Repeat("x", MaxJSON), 0o600); err == nil {
		t.Error("a file was written that cannot be read again")
	}
}

func FuzzReadJSON(f *testing.F) {
	type value struct {
		Number int
		Text   string
		Items  []struct{ A, B *int }
	}
	f.Add([]byte(`{"Number":1,"Text":"x","Items":[{"A":1},{}]}`))
	f.Add([]byte(`{"Number":1`))
	f.Add([]byte{})
	path := filepath.Join(f.TempDir(), "state.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var v, again value
		if err := ReadJSON(path, &v); err != nil {
			if !errors.Is(err, ErrDamaged) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: %v", b, err)
			}
			return
		}
		if err := errors.Join(WriteJSON(path, v, 0o600), ReadJSON(path, &again)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(v, again); diff != "" {
			t.Fatal(diff)
		}
	})
}
