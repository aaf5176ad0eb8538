// Package measure has what the programs that measure need: medians that can be trusted on a noisy machine, and processor time.
package measure

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Median is the middle one of a list, the upper of the two where their number is even. The list must not be empty.
func Median[T cmp.Ordered](list []T) T {
	return slices.Sorted(slices.Values(list))[len(list)/2]
}

// Interval is that in which the median lies of which the list is a sample, with a confidence of 95 %, whatever the distribution (sign test). With
// fewer than 6 values it is all there are.
func Interval(list []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(list))
	n := len(sorted)
	// So few values, or fewer, lie below the median in 2.5 % of all cases at most.
	k, sum := 0, 0.0
	for i := range n {
		logChoose := func(n, k int) float64 {
			a, _ := math.Lgamma(float64(n + 1))
			b, _ := math.Lgamma(float64(k + 1))
			c, _ := math.Lgamma(float64(n - k + 1))
			return a - b - c
		}
		if sum += math.Exp(logChoose(n, i) - float64(n)*math.Ln2); sum > 0.025 {
			break
		}
		k = i
	}
	return sorted[k], sorted[n-1-k]
}

// Ratios divides each of a by that of b.
func Ratios(a, b []float64) []float64 {
	list := make([]float64, len(a))
	for i := range a {
		list[i] = a[i] / b[i]
	}
	return list
}

// CPU is the processor time that a process has used, of all its threads; 0 if there is no such process.
func CPU(pid int) time.Duration {
	var t unix.Timespec
	const scheduler = 2 // CPUCLOCK_SCHED: what the scheduler counted up to this moment, to the nanosecond (clock_getcpuclockid(3))
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// Benchmark runs a command of 'go test' in a folder, and returns the figures with these units.
func Benchmark(dir, command string, units ...string) (figures []float64, err error) {
	c := exec.Command("sh", "-c", command)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	for _, unit := range units {
		found := regexp.MustCompile(`([0-9.e+]+) ` + regexp.QuoteMeta(unit)).FindSubmatch(out)
		if found == nil {
			return nil, fmt.Errorf("%s: no %s in\n%s", command, unit, out)
		}
		v, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", command, err)
		}
		figures = append(figures, v)
	}
	return figures, nil
}

// Block puts a text between the lines <!-- name --> and <!-- /name --> of a file; on standard output if path is empty.
func Block(path, name, text string) error {
	if path == "" {
		_, err := fmt.Print(text)
		return err
	}
	from, to := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(b), from)
	_, after, closed := strings.Cut(rest, to)
	if !ok || !closed {
		return fmt.Errorf("%s has no lines %s and %s", path, strings.TrimSpace(from), to)
	}
	return os.WriteFile(path, []byte(before+from+text+to+after), 0o644)
}
