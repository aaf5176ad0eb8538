package clock

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

// retryAfter is how long after a failed write the next is tried.
const retryAfter = 10 * time.Second

// maxFileLen is room for the longest file, in bytes.
const maxFileLen = 64

const fileHeader = "hnet clock v1 "

// Clock is a Reserve with the machine's clock and a file. It is safe for concurrent use.
type Clock struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	reserve *Reserve
	writing bool      // a goroutine stores a bound; whoever needs the result waits on written
	written sync.Cond // signalled with mu held
	failed  time.Time // when storing last failed; zero if it has not since it last succeeded
}

// Open continues the timestamps of earlier runs as the file path tells, or begins if there is none, and stores a first
// bound. A damaged file is a statefile.ErrDamaged. That the bound cannot be stored is no error but a warning in log: the
// timestamps never go back within this run, and may after it.
func Open(path string, log *slog.Logger) (*Clock, error) {
	stored, err := load(path)
	if err != nil {
		return nil, err
	}
	c := &Clock{path: path, log: log, reserve: New(stored)}
	c.written.L = &c.mu
	c.Now()
	return c, nil
}

// Now returns the time, or a later one so that it is at least Step after the last one and after all of earlier runs. As long as the
// machine's clock does not leap it never waits for the disk: the bound is stored in the background, long before it is reached.
func (c *Clock) Now() time.Time {
	wall := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp := c.reserve.Now(wall)
	for {
		bound, need := c.reserve.Persist()
		if need == Nothing || !c.failed.IsZero() && time.Since(c.failed) < retryAfter {
			return stamp
		}
		if !c.writing {
			c.writing = true
			go c.store(bound)
		}
		if need == Soon {
			return stamp
		}
		c.written.Wait()
	}
}

// Sequence is Now in nanoseconds since 1970, as the sequence number of a contact record.
func (c *Clock) Sequence() uint64 { return nanoseconds(c.Now()) }

// Close waits for a write that is under way and stores that the rest of the reserve was not used. Timestamps may still be taken afterwards.
func (c *Clock) Close() error {
	c.settle()
	c.mu.Lock()
	defer c.mu.Unlock()
	return statefile.Write(c.path, marshal(c.reserve.Release()), 0o600)
}

// settle waits for a write that is under way.
func (c *Clock) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing {
		c.written.Wait()
	}
}

func (c *Clock) store(bound uint64) {
	err := statefile.Write(c.path, marshal(bound), 0o600)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = false
	c.written.Broadcast()
	if err == nil {
		c.reserve.Persisted(bound)
		c.failed = time.Time{}
		return
	}
	if c.failed.IsZero() {
		c.log.Warn("the clock reserve is not stored: if this machine's clock is set back, peers refuse contact after the next start",
			"err", err, "fix", "make "+c.path+" writable")
	}
	c.failed = time.Now()
}

func marshal(bound uint64) []byte {
	return fmt.Appendf(nil, "%s%d\n", fileHeader, bound)
}

// load returns the bound stored in path, 0 if there is no file.
func load(path string) (uint64, error) {
	b, err := statefile.Read(path, maxFileLen)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	bound, err := parse(b)
	if err != nil {
		return 0, statefile.Damaged(path, err.Error())
	}
	return bound, nil
}

// parse accepts exactly what marshal makes of a bound that can be.
func parse(b []byte) (uint64, error) {
	digits := strings.TrimSuffix(strings.TrimPrefix(string(b), fileHeader), "\n")
	bound, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || string(marshal(bound)) != string(b) || bound > maxBound {
		return 0, errors.New("is not a time that was stored")
	}
	return bound, nil
}
