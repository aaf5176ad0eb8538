package host

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// SetNice gives all threads of this process a nice value of -20 to 19, and with them those that they will start; 0 leaves them as they are. A process that
// was started with more than that, in the same direction, keeps it. The error says what right is missing.
//
// A packet that a VPN carries waits for the processor four times on its way there and back. Among programs of the same priority each of those waits is up
// to a time slice of all the others: beside four programs that keep two processors busy a ping took 2.2 ms at the median, 0.5 ms with nice -4 and 0.15 ms
// with -10. But what carries a stream itself keeps others from the processor then, the ping's own programs among them: beside a TCP stream the 99th
// percentile was 1.9, 2.1 and 3.6 ms. The kernel's own network code is before all programs, too.
func SetNice(nice int) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("cannot list the threads of this process: %w", err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		now, err := unix.Getpriority(unix.PRIO_PROCESS, id)
		if now = 20 - now; err == nil && (nice == 0 || nice < 0 && now <= nice || nice > 0 && now >= nice) {
			continue
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, nice); err != nil && err != unix.ESRCH {
			return fmt.Errorf("cannot set the nice value to %d: %w: give the program CAP_SYS_NICE", nice, err)
		}
	}
	return nil
}
