package statefile

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// childEnv makes the test binary play the part its value names; the other processes of these tests are such children.
const childEnv = "HNET_STATEFILE_TEST_CHILD"

func TestMain(m *testing.M) {
	switch part := os.Getenv(childEnv); part {
	case "":
		os.Exit(m.Run())
	case "write":
		writeForever(os.Args[1])
	case "lock":
		holdLock(os.Args[1])
	default:
		fmt.Fprintln(os.Stderr, "unknown part", part)
		os.Exit(2)
	}
}

func child(part, dir string) *exec.Cmd {
	c := exec.Command(os.Args[0], dir)
	c.Env = append(os.Environ(), childEnv+"="+part, "GOMAXPROCS=1")
	c.Stderr = os.Stderr
	return c
}

// content is a state that shows whether it is whole: each item repeats its number, and there are as many as the number
// tells, up to several pages.
type content struct {
	Number int   `json:"number"`
	Items  []int `json:"items"`
}

func newContent(number int) content {
	c := content{Number: number, Items: make([]int, number*37%3000)}
	for i := range c.Items {
		c.Items[i] = number
	}
	return c
}

func readContent(path string) (int, error) {
	var c content
	if err := ReadJSON(path, &c); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	if want := newContent(c.Number); fmt.Sprint(c) != fmt.Sprint(want) {
		return 0, fmt.Errorf("state %d is not whole: %d of %d items", c.Number, len(c.Items), len(want.Items))
	}
	return c.Number, nil
}

// writeForever counts the state up until it is killed, and tells each number once it is stored.
func writeForever(dir string) {
	die := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	_, err := LockDir(dir)
	die(err)
	path := filepath.Join(dir, "state.json")
	number, err := readContent(path)
	die(err)
	fmt.Println(number)
	for {
		number++
		die(WriteJSON(path, newContent(number), 0o600))
		fmt.Println(number)
	}
}

// TestKilledWriter kills a writer 1,000 times. What is found afterwards is the state it told last, or the one after that;
// unfinished files do not pile up.
func TestKilledWriter(t *testing.T) {
	const (
		kills   = 1000
		writers = 4 // at a time, each with a folder of its own
	)
	var inWrite atomic.Int64
	var wg sync.WaitGroup
	for w := range writers {
		dir := filepath.Join(t.TempDir(), "state")
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range kills / writers {
				unfinished, err := killOnce(dir, random)
				if err != nil {
					t.Errorf("writer %d, kill %d: %v", w, i, err)
					return
				}
				inWrite.Add(int64(unfinished))
			}
		})
	}
	wg.Wait()
	t.Logf("%d of %d kills hit a write under way", inWrite.Load(), kills)
	if inWrite.Load() == 0 {
		t.Error("no kill hit a write under way")
	}
}

// killOnce runs a writer in dir, kills it at a random moment and checks what it leaves.
func killOnce(dir string, random *rand.Rand) (unfinished int, err error) {
	c := child("write", dir)
	out, err := c.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := c.Start(); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return 0, errors.Join(fmt.Errorf("the writer did not begin"), c.Wait())
	}
	// The moment of the kill is what the test is about, so it is random and not waited for.
	timer := time.AfterFunc(time.Duration(random.Int64N(int64(8*time.Millisecond))), func() { _ = c.Process.Kill() })
	defer timer.Stop()
	told := lines.Text()
	for lines.Scan() {
		told = lines.Text()
	}
	_ = c.Wait()

	found, err := readContent(filepath.Join(dir, "state.json"))
	if err != nil {
		return 0, err
	}
	if told != fmt.Sprint(found) && told != fmt.Sprint(found-1) {
		return 0, fmt.Errorf("found state %d, the writer told %s", found, told)
	}
	unfinished, err = countUnfinished(dir)
	if err != nil {
		return 0, err
	}
	if unfinished > 1 {
		return 0, fmt.Errorf("%d unfinished files", unfinished)
	}
	return unfinished, nil
}

func countUnfinished(dir string) (n int, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.Contains(e.Name(), tempMark) {
			n++
		}
	}
	return n, err
}
