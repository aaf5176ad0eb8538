// Package skew gives one running program another wall clock than the machine has, as if someone had set it: a time namespace has no wall clock, and a
// static program has no libc to put something in front of. It writes into the program's own copy of the vDSO, where the Go runtime reads the time.
// The machine's clock, and everybody else's, stays as it is.
package skew

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Supported tells whether this machine's kind of processor is known.
const Supported = runtime.GOARCH == "amd64"

// code replaces the vDSO's clock_gettime: it asks the kernel, and adds to the seconds of the wall clock.
var code = []byte{
	0xb8, 0xe4, 0, 0, 0, // mov eax, SYS_clock_gettime
	0x0f, 0x05, // syscall
	0x85, 0xff, // test edi, edi: CLOCK_REALTIME?
	0x75, 0x0a, // jnz to ret
	0x48, 0x8b, 0x0d, 6, 0, 0, 0, // mov rcx, [offset]
	0x48, 0x01, 0x0e, // add [rsi], rcx
	0xc3, // ret
	0, 0, // padding
	0, 0, 0, 0, 0, 0, 0, 0, // offset, seconds
}

const offsetAt = 24

// Clock is the wall clock of one process.
type Clock struct {
	pid int
	at  int64 // of the function, in the process
}

// Of takes over the clock of a process, which shows the right time until it is set. The process is stopped meanwhile.
func Of(pid int) (*Clock, error) {
	const tries = 50
	for range tries {
		_ = unix.Kill(pid, unix.SIGSTOP)
		c, err := take(pid, true)
		_ = unix.Kill(pid, unix.SIGCONT)
		if !errors.Is(err, errBusy) {
			return c, err
		}
		time.Sleep(time.Millisecond)
	}
	return nil, fmt.Errorf("skew: process %d is never anywhere but in clock_gettime", pid)
}

var errBusy = errors.New("skew: the process is about to read the clock")

func take(pid int, running bool) (*Clock, error) {
	if !Supported {
		return nil, errors.New("skew: not on " + runtime.GOARCH)
	}
	from, to, err := vdso(pid)
	if err != nil {
		return nil, err
	}
	if running {
		if err := outside(pid, from, to); err != nil {
			return nil, err
		}
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("skew: %w", err)
	}
	defer mem.Close()
	image := make([]byte, to-from)
	if _, err := mem.ReadAt(image, from); err != nil {
		return nil, fmt.Errorf("skew: the vDSO of %d: %w", pid, err)
	}
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, fmt.Errorf("skew: the vDSO of %d: %w", pid, err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return nil, fmt.Errorf("skew: the vDSO of %d: %w", pid, err)
	}
	for _, s := range symbols {
		if s.Name != "__vdso_clock_gettime" {
			continue
		}
		if s.Value%8 != 0 || s.Value+uint64(len(code)) > uint64(len(image)) {
			return nil, errors.New("skew: the vDSO is not as expected")
		}
		c := &Clock{pid, from + int64(s.Value)}
		if _, err := mem.WriteAt(code, c.at); err != nil {
			return nil, fmt.Errorf("skew: the vDSO of %d: %w", pid, err)
		}
		return c, nil
	}
	return nil, errors.New("skew: the vDSO has no clock_gettime")
}

// Set makes the clock show the machine's time and so much more, or less; whole seconds.
func (c *Clock) Set(ahead time.Duration) error {
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", c.pid), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("skew: %w", err)
	}
	defer mem.Close()
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(int64(ahead/time.Second)))
	if _, err := mem.WriteAt(b[:], c.at+offsetAt); err != nil {
		return fmt.Errorf("skew: the clock of %d: %w", c.pid, err)
	}
	return nil
}

// vdso returns where the vDSO is in a process.
func vdso(pid int) (from, to int64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("skew: %w", err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			if _, err := fmt.Sscanf(line, "%x-%x ", &from, &to); err != nil {
				return 0, 0, fmt.Errorf("skew: %q: %w", line, err)
			}
			return from, to, nil
		}
	}
	return 0, 0, fmt.Errorf("skew: process %d has no vDSO", pid)
}

// outside waits until all threads have stopped, none of them in the vDSO.
func outside(pid int, from, to int64) error {
	const patience = 2 * time.Second
	deadline := time.Now().Add(patience)
	for {
		moving, err := inside(pid, from, to)
		switch {
		case err != nil:
			return err
		case !moving:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("skew: process %d does not stop", pid)
		}
		time.Sleep(time.Millisecond)
	}
}

func inside(pid int, from, to int64) (moving bool, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return false, err
	}
	for _, task := range tasks {
		// "running", or the system call or -1, its arguments, the stack pointer and the program counter.
		b, err := os.ReadFile(filepath.Join(task, "syscall"))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return false, fmt.Errorf("skew: %w", err)
		}
		fields := strings.Fields(string(b))
		if len(fields) < 3 {
			return true, nil
		}
		pc, err := strconv.ParseUint(fields[len(fields)-1], 0, 64)
		if err != nil {
			return false, fmt.Errorf("skew: %q: %w", b, err)
		}
		if int64(pc) >= from && int64(pc) < to {
			return false, errBusy
		}
	}
	return false, nil
}
