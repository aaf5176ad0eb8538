package host

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/host/sandbox"
	"github.com/hnet-robotics/hnet_bridge/overlay/hostnames"
)

const system = "127.0.0.1 localhost\n# the robot's own\n10.0.0.1 lidar\n"

// robots returns n names.
func robots(n int) []hostnames.Name {
	var names []hostnames.Name
	for i := range n {
		names = append(names, hostnames.Name{Name: fmt.Sprintf("robot%d", i), Address: netip.MustParseAddr(fmt.Sprintf("fc94::%x", i+1)), Source: "local"})
	}
	return names
}

func write(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func rendered(existing string, n int) string {
	return string(hostnames.Render([]byte(existing), robots(n)))
}

// files names what is in the folder of path.
func files(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestWriteHosts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	write(t, path, system)
	h := quiet()
	for _, n := range []int{1, 3, 3, 2, 500, 0, 0, 1} {
		must(t, h.WriteHosts(path, robots(n)))
		if diff := cmp.Diff(rendered(system, n), read(t, path)); diff != "" {
			t.Fatalf("%d names (-want +got):\n%s", n, diff)
		}
		if diff := cmp.Diff([]string{"hosts"}, files(t, path)); diff != "" {
			t.Fatalf("files (-want +got):\n%s", diff)
		}
	}
	// Others' lines after the block stay.
	after := read(t, path) + "10.0.0.2 camera\n"
	write(t, path, after)
	must(t, h.WriteHosts(path, robots(20)))
	if diff := cmp.Diff(rendered(after, 20), read(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteHostsUnchanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	write(t, path, rendered(system, 3))
	before, err := os.Stat(path)
	must(t, err)
	must(t, quiet().WriteHosts(path, robots(3)))
	after, err := os.Stat(path)
	must(t, err)
	if !os.SameFile(before, after) || changeTime(before) != changeTime(after) {
		t.Error("the file was written though nothing changed")
	}
}

func TestWriteHostsMissing(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	path := filepath.Join(t.TempDir(), "hosts")
	must(t, quiet().WriteHosts(path, nil))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no names, yet a file: %v", err)
	}
	must(t, quiet().WriteHosts(path, robots(2)))
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != 0o644 || read(t, path) != rendered("", 2) {
		t.Errorf("mode %v, content %q", info.Mode(), read(t, path))
	}
}

func TestWriteHostsKeepsAttributes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	write(t, path, system)
	must(t, os.Chmod(path, 0o640))
	owner := os.Geteuid() == 0
	if owner {
		must(t, os.Chown(path, 1234, 2345))
	}
	marked := unix.Setxattr(path, "user.hnet", []byte("label"), 0) == nil
	must(t, quiet().WriteHosts(path, robots(2)))
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
	if stat := info.Sys().(*syscall.Stat_t); owner && (stat.Uid != 1234 || stat.Gid != 2345) {
		t.Errorf("owner %d:%d", stat.Uid, stat.Gid)
	}
	b := make([]byte, 20)
	if n, err := unix.Getxattr(path, "user.hnet", b); marked && (err != nil || string(b[:n]) != "label") {
		t.Errorf("attribute %q, %v", b[:max(n, 0)], err)
	}
	if !owner {
		t.Skip("the owner was not tested: run as root")
	}
	if !marked {
		t.Skip("the attributes were not tested: the file system has none")
	}
}

func TestWriteHostsLinks(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/deep"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "b"), 0o755))
	must(t, os.Symlink("a/deep", filepath.Join(dir, "folder")))
	target := filepath.Join(dir, "a/real")
	write(t, target, system)
	// "folder/../real" is a/real to the kernel.
	must(t, os.Symlink("../folder/../real", filepath.Join(dir, "b/hosts")))
	must(t, os.Symlink(filepath.Join(dir, "b/hosts"), filepath.Join(dir, "hosts")))
	must(t, quiet().WriteHosts(filepath.Join(dir, "hosts"), robots(2)))
	if read(t, target) != rendered(system, 2) {
		t.Errorf("target: %q", read(t, target))
	}
	for _, link := range []string{"hosts", "b/hosts"} {
		if info, err := os.Lstat(filepath.Join(dir, link)); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("%s is no link any more: %v", link, err)
		}
	}
	// A link to nothing yet.
	must(t, os.Symlink("new", filepath.Join(dir, "dangling")))
	must(t, quiet().WriteHosts(filepath.Join(dir, "dangling"), robots(1)))
	if read(t, filepath.Join(dir, "new")) != rendered("", 1) {
		t.Error("the target of a dangling link was not made")
	}
	must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	if err := quiet().WriteHosts(filepath.Join(dir, "loop"), robots(1)); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop: %v", err)
	}
}

func TestWriteHostsRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe, large, tall := filepath.Join(dir, "pipe"), filepath.Join(dir, "large"), filepath.Join(dir, "tall")
	must(t, unix.Mkfifo(pipe, 0o644))
	write(t, large, strings.Repeat("#", maxHosts+1))
	write(t, tall, "")
	must(t, os.Truncate(tall, maxHostsRaw+1))
	for name, path := range map[string]string{
		"folder": dir, "pipe": pipe, "large": large, "very large": tall,
		"no folder": filepath.Join(dir, "none/hosts"), "file as folder": filepath.Join(large, "hosts"),
	} {
		err := quiet().WriteHosts(path, robots(1))
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff([]string{"large", "pipe", "tall"}, files(t, pipe)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	// Growing past the bound is refused as well, or the next call could not shrink it again.
	full := strings.Repeat("#", maxHosts-1) + "\n"
	write(t, large, full)
	if err := quiet().WriteHosts(large, robots(1)); err == nil || read(t, large) != full {
		t.Errorf("growing past the bound: %v", err)
	}
}

// TestWriteHostsChangedMeanwhile: the loser of a race notices, and the other's change stays.
func TestWriteHostsChangedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	write(t, path, system)
	old, err := readHosts(path)
	must(t, err)
	defer old.close()
	other := system + "10.0.0.2 camera\n"
	write(t, path, other)
	if err := old.replace([]byte("lost\n")); !errors.Is(err, errChanged) {
		t.Errorf("replace: %v", err)
	}
	if err := old.overwrite([]byte("lost\n")); !errors.Is(err, errChanged) {
		t.Errorf("overwrite: %v", err)
	}
	if read(t, path) != other || len(files(t, path)) != 1 {
		t.Errorf("%q, files %v", read(t, path), files(t, path))
	}
}

func TestWriteHostsReadOnly(t *testing.T) {
	sandbox.Run(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "hosts")
		write(t, path, system)
		must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
		if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Skip("a folder cannot be made read-only here: run as root:", err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		err := quiet().WriteHosts(path, robots(1))
		if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "hosts_file") || strings.Contains(err.Error(), "\n") {
			t.Errorf("err = %v", err)
		}
	})
}

// bound bind-mounts a file over another, as container engines do with /etc/hosts.
func bound(t *testing.T, content string) (path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "etc/hosts")
	must(t, os.Mkdir(filepath.Dir(path), 0o755))
	write(t, filepath.Join(dir, "outside"), content)
	write(t, path, "")
	must(t, unix.Mount(filepath.Join(dir, "outside"), path, "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	if err := os.Rename(path, path+"2"); !errors.Is(err, unix.EBUSY) {
		t.Fatalf("renaming a mounted file: %v", err)
	}
	return path
}

func TestWriteHostsBindMount(t *testing.T) {
	sandbox.Run(t, func(t *testing.T) {
		path := bound(t, system)
		h := quiet()
		before, err := os.Stat(path)
		must(t, err)
		content := system
		for _, n := range []int{1, 300, 2, 2, 0, 5} {
			must(t, h.WriteHosts(path, robots(n)))
			content = rendered(content, n)
			if diff := cmp.Diff(content, read(t, path)); diff != "" {
				t.Fatalf("%d names (-want +got):\n%s", n, diff)
			}
			// Lines after the block move with it.
			content += fmt.Sprintf("10.0.1.%d camera\n", n)
			write(t, path, content)
		}
		after, err := os.Stat(path)
		must(t, err)
		if !os.SameFile(before, after) {
			t.Error("the file was replaced, the mount is gone")
		}
		if diff := cmp.Diff([]string{"hosts"}, files(t, path)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	})
}

// TestWriteHostsFullDisk: without room for the journal the old content stays as it was.
func TestWriteHostsFullDisk(t *testing.T) {
	sandbox.Run(t, func(t *testing.T) {
		dir := t.TempDir()
		must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		path := filepath.Join(dir, "hosts")
		write(t, path, system)
		if err := quiet().WriteHosts(path, robots(5000)); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("replacing: %v", err)
		}
		if diff := cmp.Diff([]string{"hosts"}, files(t, path)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
		must(t, unix.Mount(path, path, "", unix.MS_BIND, ""))
		t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
		if err := quiet().WriteHosts(path, robots(5000)); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("in place: %v", err)
		}
		if read(t, path) != system {
			t.Errorf("content: %q", read(t, path))
		}
		must(t, quiet().WriteHosts(path, robots(3)))
		if read(t, path) != rendered(system, 3) {
			t.Errorf("content: %q", read(t, path))
		}
	})
}

// rewriteForever writes few names and many in turn until it is killed.
func rewriteForever() {
	path, h := os.Getenv("HOST_TEST_PATH"), quiet()
	for n := 0; ; n++ {
		if err := h.WriteHosts(path, robots(killNames[n%len(killNames)])); err != nil {
			report(err)
		}
		if n == 0 {
			os.Stdout.WriteString("ready\n")
		}
	}
}

// killNames never comes to none, which would move the block to the end of the file.
var killNames = []int{2, 900, 1, 300}

// killWriters starts a writer and kills it, many times, and calls check after each.
func killWriters(t *testing.T, path string, rounds int, check func(round int)) {
	t.Helper()
	began := time.Now()
	for _, n := range killNames {
		must(t, quiet().WriteHosts(path, robots(n)))
	}
	cycle := time.Since(began)
	for round := range rounds {
		writer := helper("rewrite")
		writer.Env = append(writer.Env, "HOST_TEST_PATH="+path)
		out, err := writer.StdoutPipe()
		must(t, err)
		must(t, writer.Start())
		line := make([]byte, 500)
		if n, _ := out.Read(line); string(line[:n]) != "ready\n" {
			t.Fatalf("round %d: the writer says %q", round, line[:n])
		}
		// A moment that differs from round to round, spread over the writes.
		sum := sha256.Sum256([]byte{byte(round), byte(round >> 8)})
		<-time.After(cycle * time.Duration(sum[0]) / 256)
		must(t, writer.Process.Kill())
		writer.Wait()
		check(round)
	}
}

func rounds() int {
	if testing.Short() {
		return 20
	}
	return 100
}

func TestWriteHostsKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	write(t, path, system)
	possible := map[string]bool{system: true}
	for _, n := range killNames {
		possible[rendered(system, n)] = true
	}
	killWriters(t, path, rounds(), func(round int) {
		if got := read(t, path); !possible[got] {
			t.Fatalf("round %d: neither old nor new, %d bytes", round, len(got))
		}
		// The next start removes what the killed one left.
		if left := files(t, path); len(left) > 2 {
			t.Fatalf("round %d: files pile up: %v", round, left)
		}
	})
	for range 2 { // with something to write and without
		write(t, filepath.Join(filepath.Dir(path), ".hosts.hnet-left"), "by one that was killed")
		must(t, quiet().WriteHosts(path, robots(1)))
		if diff := cmp.Diff([]string{"hosts"}, files(t, path)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	}
}

func TestWriteHostsBindMountKill(t *testing.T) {
	sandbox.Run(t, func(t *testing.T) {
		// Many lines on both sides of the block, so that a write takes many pages and moves many lines.
		var lines strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&lines, "10.1.%d.%d machine%d\n", i/250, i%250, i)
		}
		start := rendered(system, 1) + lines.String()
		path := bound(t, start)
		possible := map[string]bool{start: true}
		for _, n := range killNames {
			possible[rendered(start, n)] = true
		}
		interrupted := 0
		killWriters(t, path, rounds(), func(round int) {
			raw := read(t, path)
			for line := range strings.Lines(system + lines.String()) {
				if !strings.Contains(raw, line) {
					t.Fatalf("round %d: lost %q", round, line)
				}
			}
			content, pending := recoverJournal([]byte(raw))
			if pending {
				interrupted++
			}
			if !possible[string(content)] {
				t.Fatalf("round %d: neither old nor new, %d of %d bytes, journal %v", round, len(content), len(raw), pending)
			}
		})
		if interrupted == 0 && !testing.Short() {
			t.Error("no write was interrupted: the test shows nothing")
		}
		t.Logf("%d of %d kills hit a write", interrupted, rounds())
		must(t, quiet().WriteHosts(path, robots(7)))
		if bytes.Contains([]byte(read(t, path)), []byte(journalMark)) {
			t.Error("a journal is left")
		}
	})
}
