package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/hostnames"
)

const (
	maxHosts = 8 << 20 // bytes of a hosts file

	// maxHostsRaw leaves room for what an interrupted in-place write appends.
	maxHostsRaw = 4 * maxHosts
)

// errChanged tells that someone else wrote the file after it was read.
var errChanged = errors.New("it keeps being changed by another program")

func (h *host) WriteHosts(path string, names []hostnames.Name) error {
	h.hosts.Lock()
	defer h.hosts.Unlock()
	target, err := resolve(path)
	if err == nil {
		err = errChanged
		for try := 0; try < 5 && errors.Is(err, errChanged); try++ {
			err = h.writeHosts(target, names)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Errorf("cannot write names to %s (%w): make it writable for hnetd, or set `hosts_file: \"\"` to leave names alone", path, err)
	default:
		return fmt.Errorf("cannot write names to %s: %w", path, err)
	}
}

func (h *host) writeHosts(path string, names []hostnames.Name) error {
	old, err := readHosts(path)
	if err != nil {
		return err
	}
	defer old.close()
	content, interrupted := recoverJournal(old.raw)
	wanted := hostnames.Render(content, names)
	if len(content) > maxHosts || len(wanted) > maxHosts {
		return fmt.Errorf("it is larger than %d MiB: shorten it", maxHosts>>20)
	}
	if bytes.Equal(old.raw, wanted) {
		removeLeftovers(old.temporary())
		return nil
	}
	if interrupted {
		h.log.Info("an interrupted change of the hosts file is repaired", "file", path)
	}
	err = old.replace(wanted)
	// A bind-mounted file cannot be replaced, nor one in a folder that is read-only or not ours to write, nor can a file
	// of ours take the place of one whose owner we may not set.
	for _, refused := range []error{unix.EBUSY, unix.EXDEV, unix.EROFS, unix.EACCES, unix.EPERM} {
		if errors.Is(err, refused) && old.file != nil {
			return old.overwrite(wanted)
		}
	}
	return err
}

// hostsFile is a hosts file as it was read.
type hostsFile struct {
	path string
	file *os.File // nil if it did not exist
	info fs.FileInfo
	raw  []byte
}

func readHosts(path string) (*hostsFile, error) {
	f := &hostsFile{path: path}
	// Non-blocking, lest a named pipe stops us here.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	f.file = file
	if f.info, err = file.Stat(); err == nil && !f.info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err == nil {
		f.raw, err = io.ReadAll(io.LimitReader(file, maxHostsRaw+1))
	}
	if err == nil && len(f.raw) > maxHostsRaw {
		err = fmt.Errorf("it is larger than %d MiB: shorten it", maxHosts>>20)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return f, nil
}

func (f *hostsFile) close() {
	if f.file != nil {
		f.file.Close()
	}
}

// unchanged tells whether the path still names what was read.
func (f *hostsFile) unchanged() error {
	now, err := os.Lstat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.file == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return errChanged
	case err != nil:
		return err
	case f.file == nil || !os.SameFile(now, f.info) || changeTime(now) != changeTime(f.info) || now.Size() != f.info.Size():
		return errChanged
	}
	return nil
}

func changeTime(info fs.FileInfo) syscall.Timespec {
	return info.Sys().(*syscall.Stat_t).Ctim
}

// temporary is where new files are written before they take the old one's place, and what their names begin with.
func (f *hostsFile) temporary() (dir, prefix string) {
	dir, base := filepath.Split(f.path)
	if dir == "" {
		dir = "."
	}
	return dir, "." + base + ".hnet-"
}

// replace puts a new file in place of the old: whoever looks sees one or the other, whatever happens.
func (f *hostsFile) replace(wanted []byte) (err error) {
	dir, prefix := f.temporary()
	removeLeftovers(dir, prefix)
	temp, err := os.CreateTemp(dir, prefix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temp.Name())
		}
	}()
	defer temp.Close()
	if _, err := temp.Write(wanted); err != nil {
		return err
	}
	if err := f.copyAttributes(temp); err != nil {
		return err
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := f.unchanged(); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), f.path); err != nil {
		return err
	}
	return syncDir(dir)
}

// copyAttributes gives the new file the owner, the mode and the extended attributes (a security label among them) of the
// old; what a file system has no attributes for is left.
func (f *hostsFile) copyAttributes(to *os.File) error {
	if f.file == nil {
		return to.Chmod(0o644)
	}
	was := f.info.Sys().(*syscall.Stat_t)
	info, err := to.Stat()
	if err != nil {
		return err
	}
	if is := info.Sys().(*syscall.Stat_t); is.Uid != was.Uid || is.Gid != was.Gid {
		if err := to.Chown(int(was.Uid), int(was.Gid)); err != nil {
			return err
		}
	}
	from, names, value := int(f.file.Fd()), make([]byte, 64<<10), make([]byte, 64<<10)
	n, _ := unix.Flistxattr(from, names)
	for name := range strings.SplitSeq(string(names[:max(n, 0)]), "\x00") {
		if size, err := unix.Fgetxattr(from, name, value); name != "" && err == nil {
			_ = unix.Fsetxattr(int(to.Fd()), name, value[:size], 0)
		}
	}
	return to.Chmod(f.info.Mode().Perm())
}

// removeLeftovers removes the temporary files of writers that were killed. One that is still at work finds its file
// gone, and leaves the old file in place.
func removeLeftovers(dir, prefix string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && e.Type().IsRegular() {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// overwrite changes the file in place, by way of a journal at its end: at every moment the lines of the old file or of
// the new are all there.
func (f *hostsFile) overwrite(wanted []byte) error {
	file, err := os.OpenFile(f.path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := f.unchanged(); err != nil {
		return err
	}
	end := int64(len(f.raw))
	if content, _ := recoverJournal(f.raw); bytes.HasPrefix(f.raw, content) {
		// Only the rest of an interrupted write, if anything, follows what the file stands for.
		end = int64(len(content))
		if err := file.Truncate(end); err != nil {
			return err
		}
	}
	_, err = file.WriteAt(journal(f.raw[:end], wanted), end)
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		// No room, most likely. Nothing of the old content is touched yet, and what cannot be cut off now is repaired by
		// the next call.
		_ = file.Truncate(end)
		return err
	}
	if _, err := file.WriteAt(wanted, 0); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Truncate(int64(len(wanted))); err != nil {
		return err
	}
	return file.Sync()
}

// resolve follows symbolic links, also to a file that does not exist yet.
func resolve(path string) (string, error) {
	for range 40 {
		target, err := os.Readlink(path)
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, fs.ErrNotExist):
			return path, nil
		case err != nil:
			return "", err
		case filepath.IsAbs(target):
			path = target
		default:
			// Not cleaned: ".." after a linked folder must mean what it means to the kernel.
			path = filepath.Dir(path) + "/" + target
		}
	}
	return "", unix.ELOOP
}
