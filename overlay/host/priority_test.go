package host

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// All threads have it, those too that start later. To be nicer takes no right, and so it is what is tried, in a process of its own.
func TestSetNice(t *testing.T) {
	for _, helper := range []string{"nice", "as nice"} {
		if got := runHelper(t, helper, nil); got != "all\n" {
			t.Error(helper, got)
		}
	}
}

func TestSetNiceWithoutTheRight(t *testing.T) {
	needRoot(t)
	if got := runHelper(t, "nicer", &syscall.Credential{Uid: 65534, Gid: 65534}); !strings.Contains(got, "CAP_SYS_NICE") {
		t.Error(got)
	}
}

func beNice() {
	if err := SetNice(19); err != nil {
		report(err)
	}
	// Goroutines that keep a thread each until the end.
	var have sync.WaitGroup
	for range 8 {
		have.Add(1)
		go func() {
			var pipe [2]int
			if unix.Pipe(pipe[:]) == nil {
				have.Done()
				_, _ = unix.Read(pipe[0], make([]byte, 1))
			}
		}()
	}
	have.Wait()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		report(err)
	}
	for _, x := range threads {
		id, _ := strconv.Atoi(x.Name())
		// The kernel says 20 - nice.
		if got, err := unix.Getpriority(unix.PRIO_PROCESS, id); err == nil && got != 1 {
			fmt.Printf("thread %d of %d has nice %d\n", id, len(threads), 20-got)
			os.Exit(1)
		}
	}
	fmt.Println("all")
}

// A daemon that was started nicer than it wants to be, or more urgent, is left alone.
func beAsNice() {
	nice := func() int { n, _ := unix.Getpriority(unix.PRIO_PROCESS, 0); return 20 - n }
	for _, step := range []struct{ set, want int }{{5, 5}, {3, 5}, {0, 5}, {7, 7}} {
		if err := SetNice(step.set); err != nil || nice() != step.want {
			fmt.Printf("%d makes it %d, want %d: %v\n", step.set, nice(), step.want, err)
			os.Exit(1)
		}
	}
	fmt.Println("all")
}

func beNicer() { report(SetNice(-10)) }
