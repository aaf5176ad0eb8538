package measure

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestInterval(t *testing.T) {
	list := make([]float64, 20)
	for i := range list {
		list[i] = float64(20 - i)
	}
	if low, high := Interval(list); low != 6 || high != 15 { // tables of the sign test: ranks 6 and 15 of 20
		t.Errorf("%v to %v", low, high)
	}
	if low, high := Interval([]float64{3, 1, 2}); low != 1 || high != 3 {
		t.Errorf("of three: %v to %v", low, high)
	}
	// It holds what it should as often as it says.
	random := rand.New(rand.NewPCG(1, 1))
	const times = 2000
	held := 0
	for range times {
		for i := range list {
			list[i] = random.ExpFloat64()
		}
		if low, high := Interval(list); low <= 0.693 && 0.693 <= high {
			held++
		}
	}
	if held < times*94/100 {
		t.Errorf("the median lay in %d of %d intervals", held, times)
	}
}

func TestCPU(t *testing.T) {
	begun := CPU(os.Getpid())
	for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
	}
	if CPU(os.Getpid()) <= begun {
		t.Error("this process has used no processor time")
	}
	if CPU(1<<22+1) != 0 {
		t.Error("a process that is not there has used some")
	}
}

func TestBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.md")
	if err := os.WriteFile(path, []byte("a\n<!-- x -->\nold\n<!-- /x -->\nb\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Block(path, "x", "new\n"); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n" {
		t.Errorf("%q", b)
	}
	if Block(path, "y", "new\n") == nil {
		t.Error("a block that is not there was written")
	}
}
