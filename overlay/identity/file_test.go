package identity

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childEnv makes the test binary play the part its value names; the other processes of these tests are such children.
const childEnv = "HNET_IDENTITY_TEST_CHILD"

func TestMain(m *testing.M) {
	switch part := os.Getenv(childEnv); part {
	case "":
		os.Exit(m.Run())
	case "create many":
		createMany(os.Args[1])
	case "create one":
		createOne(os.Args[1])
	default:
		fmt.Fprintln(os.Stderr, "unknown part", part)
		os.Exit(2)
	}
}

func child(t *testing.T, part, arg string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0], arg)
	c.Env = append(os.Environ(), childEnv+"="+part)
	c.Stderr = os.Stderr
	return c
}

func TestLoadOrCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "folder", "identity")
	first, created, err := LoadOrCreate(path)
	if err != nil || !created {
		t.Fatalf("first: created %v, %v", created, err)
	}
	again, created, err := LoadOrCreate(path)
	if err != nil || created {
		t.Fatalf("again: created %v, %v", created, err)
	}
	if first.Address() != again.Address() || first.PrivateKey() != again.PrivateKey() {
		t.Errorf("created %v, loaded %v", first, again)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
	other, _, err := LoadOrCreate(filepath.Join(t.TempDir(), "identity"))
	if err != nil || other.Address() == first.Address() {
		t.Errorf("a second identity: %v, %v", other, err)
	}
}

func TestRefusals(t *testing.T) {
	good := FromSeed([32]byte{1}).marshal()
	write := func(content []byte, mode os.FileMode) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, content, mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	flipped := bytes.Replace(good, []byte("seed: 01"), []byte("seed: 02"), 1)
	tests := []struct {
		name string
		make func(t *testing.T, path string)
		want []string // parts of the error
	}{
		{"empty", write(nil, 0o600), []string{"is empty", "backup", "NEW address"}},
		{"zeros", write(make([]byte, len(good)), 0o600), []string{"is damaged", "backup", "NEW address"}},
		{"truncated", write(good[:len(good)-20], 0o600), []string{"is damaged", "backup", "NEW address"}},
		{"last byte missing", write(good[:len(good)-1], 0o600), []string{"is damaged"}},
		{"appended", write(append(bytes.Clone(good), 'x'), 0o600), []string{"is damaged"}},
		{"one digit of the seed changed", write(flipped, 0o600), []string{"do not belong together"}},
		{"huge", write(bytes.Repeat(good, 1000), 0o600), []string{"is damaged"}},
		{"other version", write(bytes.Replace(good, []byte("v1"), []byte("v2"), 1), 0o600), []string{"is damaged"}},
		{"readable by the group", write(good, 0o640), []string{"mode 0640", "chmod 600"}},
		{"readable by all", write(good, 0o604), []string{"mode 0604", "chmod 600"}},
		{"writable by the group", write(good, 0o620), []string{"mode 0620", "chmod 600"}},
		{"writable by all", write(good, 0o602), []string{"mode 0602", "chmod 600"}},
		{"a folder", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{"is a folder", "move it away"}},
		{"a symbolic link to a good file", func(t *testing.T, path string) {
			write(good, 0o600)(t, path+".real")
			if err := os.Symlink(path+".real", path); err != nil {
				t.Fatal(err)
			}
		}, []string{"is a symbolic link", "put the file itself there"}},
		{"a symbolic link to nothing", func(t *testing.T, path string) {
			if err := os.Symlink(path+".missing", path); err != nil {
				t.Fatal(err)
			}
		}, []string{"is a symbolic link"}},
		{"a named pipe", func(t *testing.T, path string) {
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"is no plain file"}},
		{"another owner", func(t *testing.T, path string) {
			if os.Geteuid() != 0 {
				t.Skip("needs root, to give a file away")
			}
			write(good, 0o600)(t, path)
			if err := os.Chown(path, 4711, -1); err != nil {
				t.Skip("needs a user namespace with more than one user:", err)
			}
		}, []string{"belongs to user 4711", "chown"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "identity")
			tt.make(t, path)
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			content, _ := readPlain(before, path)

			id, created, err := LoadOrCreate(path)
			if err == nil {
				t.Fatalf("accepted: %v, created %v", id, created)
			}
			for _, part := range append(tt.want, path) {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
			if strings.Contains(err.Error(), hex.EncodeToString(make([]byte, 8))) {
				t.Errorf("the error shows the seed: %q", err)
			}
			after, err := os.Lstat(path)
			if err != nil || !os.SameFile(before, after) || before.Mode() != after.Mode() {
				t.Errorf("it was replaced: %v, %v", after, err)
			}
			if now, _ := readPlain(after, path); !bytes.Equal(content, now) {
				t.Error("its content was changed")
			}
		})
	}
}

func readPlain(info os.FileInfo, path string) ([]byte, error) {
	if !info.Mode().IsRegular() {
		return nil, nil
	}
	return os.ReadFile(path)
}

func TestEveryTruncationIsRefused(t *testing.T) {
	good := FromSeed([32]byte{1}).marshal()
	for n := range len(good) {
		if _, err := parse(good[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are accepted", n, len(good))
		}
	}
	if _, err := parse(good); err != nil {
		t.Error(err)
	}
}

func TestUnusableFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := LoadOrCreate(filepath.Join(file, "identity"))
	if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "another state folder") {
		t.Errorf("a file in the place of the folder: %v", err)
	}
}

// createMany creates identities in ever new folders until it is killed.
func createMany(dir string) {
	fmt.Println("begin")
	for i := 0; ; i++ {
		if _, _, err := LoadOrCreate(filepath.Join(dir, fmt.Sprint(i), "identity")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func TestKilledCreatorLeavesAllOrNothing(t *testing.T) {
	const kills = 100
	whole, missing := 0, 0
	for i := range kills {
		dir := t.TempDir()
		c := child(t, "create many", dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		// The moment of the kill is what the test is about, so it is random and not waited for.
		time.Sleep(time.Duration(rand.Int64N(int64(4 * time.Millisecond))))
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait()
		folders, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range folders {
			path := filepath.Join(dir, f.Name(), "identity")
			if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
				missing++
			} else {
				whole++
			}
			if _, _, err := LoadOrCreate(path); err != nil {
				t.Fatalf("kill %d: %v", i, err)
			}
		}
	}
	t.Logf("%d kills: %d identities were whole, %d not there yet", kills, whole, missing)
	if whole == 0 || missing == 0 {
		t.Error("the kills did not hit both sides of the creation")
	}
}

// createOne waits for its input to end, so that several begin together, and prints the secret it got.
func createOne(path string) {
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	id, created, err := LoadOrCreate(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%v %x\n", created, id.PrivateKey())
}

func TestTwoProcessesCreateOneIdentity(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "identity")
		var children [2]*exec.Cmd
		var inputs [2]io.WriteCloser
		var outputs [2]io.Reader
		for i := range children {
			c := child(t, "create one", path)
			in, errIn := c.StdinPipe()
			out, errOut := c.StdoutPipe()
			if err := errors.Join(errIn, errOut, c.Start()); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
				t.Fatal(err)
			}
			children[i], inputs[i], outputs[i] = c, in, out
		}
		for _, in := range inputs {
			in.Close()
		}
		var created [2]bool
		var secrets [2]string
		for i, c := range children {
			if _, err := fmt.Fscan(outputs[i], &created[i], &secrets[i]); err != nil {
				t.Fatal(err)
			}
			if err := c.Wait(); err != nil {
				t.Fatal(err)
			}
		}
		if secrets[0] != secrets[1] || created[0] == created[1] {
			t.Fatalf("created %v, same %v", created, secrets[0] == secrets[1])
		}
	}
}

func FuzzParseFile(f *testing.F) {
	good := FromSeed([32]byte{1}).marshal()
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(bytes.ToUpper(good))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := parse(b)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		if !bytes.Equal(id.marshal(), b) {
			t.Errorf("accepted %q, which is not what is written for it", b)
		}
	})
}
