package whitelist

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "whitelist.json")
	address, key := alice.Address().String(), alice.PublicKey().String()
	entry := func(fields string) string {
		return `{"version":1,"entries":[{"address":"` + address + `"` + fields + `}]}`
	}
	for content, good := range map[string]bool{
		entry(``):                          true,
		entry(`,"source":"dashboard"`):     true,
		entry(`,"key":"` + key + `"`):      true,
		`{"version":1,"entries":[]}`:       true,
		`{"version":1,"enabled":false}`:    true,
		``:                                 false,
		`null`:                             false,
		`{}`:                               false,
		`{"version":2,"entries":[]}`:       false,
		`{"version":1,"entries":[{}]}`:     false,
		`{"version":1,"entries":[null]}`:   false,
		`{"version":1,"entries":[],"x":1}`: false,
		`{"version":1,"enabled":0}`:        false,
		entry(`,"unknown":1`):              false,
		entry(`,"source":"config"`):        false,
		entry(`,"source":"x"`):             false,
		entry(`,"hostname":"a b"`):         false,
		entry(`,"endpoint":"x"`):           false,
		entry(`,"psk":"x"`):                false,
		entry(`,"psk":"AAAA"`):             false,
		entry(`,"key":"` + bob.PublicKey().String() + `"`):            false,
		entry(`},{"address":"` + address + `"`):                       false,
		entry(`,"hostname":"a"},{"address":"fc94::1","hostname":"a"`): false,
		entry(`},{"address":"fe80::1"`):                               false,
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path)
		if good {
			if err != nil {
				t.Errorf("%s: %v", content, err)
			}
			continue
		}
		if !errors.Is(err, statefile.ErrDamaged) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", content, err)
		}
		if b, _ := os.ReadFile(path); string(b) != content {
			t.Errorf("%s was changed to %s", content, b)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"version":1,"entries":[{"address":"` + alice.Address().String() + `","key":"` + alice.PublicKey().String() + `","psk":"` + bob.PublicKey().String() + `"}]}`))
	f.Add([]byte(`{"version":1,"enabled":false,"entries":[{"address":"fc94::1","hostname":"Robot1","endpoint":"[::1]:1"},{"address":"fc94::2","source":"dashboard"}]}`))
	f.Add([]byte(`{"version":1,"entries":[{"addr`))
	path := filepath.Join(f.TempDir(), "whitelist.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(path)
		if err != nil {
			if !errors.Is(err, statefile.ErrDamaged) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: %v", b, err)
			}
			return
		}
		for _, e := range l.Entries() {
			if _, err := e.normalize(); err != nil {
				t.Fatalf("%q: accepted %v: %v", b, e, err)
			}
			if got, ok := l.Get(e.Address); !ok || !got.equal(e) {
				t.Fatalf("%q: %v is not found", b, e)
			}
		}
		// What was loaded is stored as it is.
		if err := l.SetEnabled(!l.Enabled()); err != nil {
			t.Fatal(err)
		}
		again := open(t, path)
		if diff := cmp.Diff(l.Entries(), again.Entries(), compare); diff != "" || l.Enabled() != again.Enabled() {
			t.Fatalf("%q: (-loaded +stored)\n%s", b, diff)
		}
	})
}

// childEnv makes the test binary the writer that TestKilledWriter kills.
const childEnv = "HNET_WHITELIST_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		addForever(path)
	}
	os.Exit(m.Run())
}

// addForever adds entry after entry until it is killed, and tells how many there are once they are stored.
func addForever(path string) {
	l, err := Open(path)
	for err == nil {
		fmt.Println(l.Len())
		_, err = l.Add(Entry{Address: numbered(l.Len()), Hostname: fmt.Sprint("robot-", l.Len())})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// What a killed daemon has promised is there after the next start.
func TestKilledWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "whitelist.json")
	for range 50 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), childEnv+"="+path)
		c.Stderr = os.Stderr
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		// The moment of the kill is what the test is about, so it is random and not waited for.
		var timer *time.Timer
		told := -1
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, err := fmt.Sscan(lines.Text(), &told); err != nil {
				t.Fatal(err)
			}
			if timer == nil {
				timer = time.AfterFunc(time.Duration(rand.Int64N(int64(10*time.Millisecond))), func() { _ = c.Process.Kill() })
			}
		}
		_ = c.Wait()
		if found := open(t, path).Len(); told < 0 || found != told && found != told+1 {
			t.Fatalf("found %d entries, the writer told of %d", found, told)
		}
	}
	if open(t, path).Len() == 0 {
		t.Error("nothing was ever stored")
	}
}
