package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// up starts hnetd and returns when it serves, without the help of hnet, which looks only every 100 ms.
func up(t *testing.T, r *fleet.Robot) {
	t.Helper()
	r.Daemon = r.Start(t, fleet.Binary(t, "hnetd"))
	r.Daemon.WaitLine("node is up", fleet.ReadyTimeout)
}

// clientOf is a client of a host's daemon. The path of the host's socket, seen from here, may be too long for an address.
func clientOf(t *testing.T, h *lab.Host) *api.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "hnet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Symlink(h.Path("/run/hnet"), filepath.Join(dir, "run")); err != nil {
		t.Fatal(err)
	}
	c := api.NewClient(filepath.Join(dir, "run", "hnetd.sock"))
	t.Cleanup(c.Close)
	return c
}

// listOf returns the addresses on a whitelist, in order.
func listOf(w api.Whitelist) string {
	var all []string
	for _, e := range w.Entries {
		all = append(all, e.Address.String())
	}
	return strings.Join(all, " ")
}

// TestPowerLoss kills the daemon at any moment while its whitelist changes. What was acknowledged is there afterwards; what was under way
// is there or not, and nothing else.
func TestPowerLoss(t *testing.T) {
	const kills = 50
	l := lab.New(t)
	h := l.Host("robot1")
	r := fleet.Start(t, h, "")
	client := clientOf(t, h)
	ctx := t.Context()
	random := rand.New(rand.NewPCG(3, 4))
	standing := netip.MustParseAddr("fc94::1") // never removed
	if _, err := client.WhitelistAdd(ctx, api.WhitelistAdd{Address: standing, Hostname: "standing"}); err != nil {
		t.Fatal(err)
	}
	state := standing.String()
	changes, both := 0, [2]int{}
	address := r.Address
	for kill := range kills {
		time.AfterFunc(time.Duration(random.IntN(20_000))*time.Microsecond, func() { r.Daemon.Signal(9) })
		next := state
		for n := 0; ; n++ {
			// One entry comes and goes, with a name of its own each time, so that /etc/hosts changes as well.
			var err error
			if state == standing.String() {
				other := netip.MustParseAddr(fmt.Sprintf("fc94::2:%x", changes+1))
				next = state + " " + other.String()
				_, err = client.WhitelistAdd(ctx, api.WhitelistAdd{Address: other, Hostname: fmt.Sprintf("robot%d", changes)})
			} else {
				next = standing.String()
				_, err = client.WhitelistRemove(ctx, strings.Fields(state)[1])
			}
			if err != nil {
				break
			}
			changes++
			state = next
		}
		<-r.Daemon.Done()
		if out, code := finish(t, h, "ip", "-6", "addr", "show", "dev", "hnet0"); code != 0 || !strings.Contains(out, address.String()) {
			t.Fatalf("kill %d: hnet0 is gone, or its address:\n%s", kill, out)
		}
		up(t, r)
		w, err := client.Whitelist(ctx)
		if err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		switch got := listOf(w); got {
		case state:
			both[0]++
		case next:
			both[1]++
			state = next
		default:
			t.Fatalf("kill %d: the whitelist is %q, neither the old %q nor the new %q", kill, got, state, next)
		}
		if id, err := client.ID(ctx); err != nil || id.Address != address {
			t.Fatalf("kill %d: the address is %s (%v), was %s", kill, id.Address, err, address)
		}
		hosts, err := os.ReadFile(h.Path("/etc/hosts"))
		if err != nil || !strings.HasPrefix(string(hosts), "127.0.0.1\tlocalhost\n") {
			t.Fatalf("kill %d: /etc/hosts is damaged (%v):\n%s", kill, err, hosts)
		}
	}
	t.Logf("%d kills, %d changes acknowledged; the change under way was lost %d times and there %d times", kills, changes, both[0], both[1])
	if changes < kills {
		t.Errorf("only %d changes in %d runs: this tests nothing", changes, kills)
	}
	// The last start brought /etc/hosts in step with the list.
	lab.Eventually(t, 2*time.Second, "/etc/hosts in step", func() error {
		hosts, err := os.ReadFile(h.Path("/etc/hosts"))
		if n := strings.Count(string(hosts), "fc94::"); err != nil || n != len(strings.Fields(state)) {
			return fmt.Errorf("%v, %d names for %q:\n%s", err, n, state, hosts)
		}
		return nil
	})
	var left []string
	err := filepath.WalkDir(h.Path(stateDir), func(path string, d fs.DirEntry, err error) error {
		left = append(left, d.Name())
		return err
	})
	if most := 8 + 8; err != nil || len(left) > most { // its own files and those of DDS profiles
		t.Errorf("the state folder fills up: %q, %v", left, err)
	}
}

// TestDiskFull fills the disk under the state folder.
func TestDiskFull(t *testing.T) {
	h := lab.New(t).Host("robot1")
	h.Run(t, "sh", "-ec", "mkdir -p "+stateDir+"; mount -t tmpfs -o size=64k,mode=700 none "+stateDir)
	r := fleet.Start(t, h, "")
	r.Hnet("whitelist", "add", "fc94::1", "--hostname", "robot2")
	before := r.Run(t, "cat", stateDir+"/whitelist.json")
	finish(t, h, "dd", "if=/dev/zero", "of="+stateDir+"/filler", "bs=512")

	out, code := r.TryHnet("whitelist", "add", "fc94::2", "--hostname", "robot3")
	checkLine(t, out, code, 1, "whitelist.json", "no space left", "free")
	t.Log(out)
	for _, command := range []string{"whitelist rm robot2", "whitelist disable", "host add x fc94::1"} {
		out, code := r.TryHnet(strings.Fields(command)...)
		checkLine(t, out, code, 1, "no space left")
	}
	check := func(when string) {
		t.Helper()
		var w api.Whitelist
		r.JSON(&w, "whitelist", "ls")
		if got := listOf(w); got != "fc94::1" || !w.Enabled {
			t.Errorf("%s the whitelist is %q (enabled %v)", when, got, w.Enabled)
		}
		if after := r.Run(t, "cat", stateDir+"/whitelist.json"); after != before {
			t.Errorf("%s whitelist.json changed:\n%s", when, after)
		}
		if hosts := r.Run(t, "cat", "/etc/hosts"); strings.Contains(hosts, "robot3") || !strings.Contains(hosts, "robot2") {
			t.Errorf("%s /etc/hosts is\n%s", when, hosts)
		}
	}
	check("with a full disk")
	r.Daemon.Kill9()
	r.Restart()
	check("after a restart with a full disk")
	r.Run(t, "rm", stateDir+"/filler")
	r.Hnet("whitelist", "add", "fc94::2", "--hostname", "robot3")
	if got := strings.TrimSpace(r.Hnet("ip", "robot3")); got != "fc94::2" {
		t.Errorf("with room again, robot3 is %q", got)
	}
}

// TestFirstStartWithFullDisk: no half identity is left that would stop the next start.
func TestFirstStartWithFullDisk(t *testing.T) {
	h := lab.New(t).Host("robot1")
	h.Run(t, "sh", "-c", "mkdir -p "+stateDir+"; mount -t tmpfs -o size=16k,mode=700 none "+stateDir+"; dd if=/dev/zero of="+stateDir+"/filler bs=512; true")
	out, code := finish(t, h, fleet.Binary(t, "hnetd"))
	checkRefusal(t, out, code, []string{"identity", "no space left"})
	h.Run(t, "rm", stateDir+"/filler")
	r := fleet.Start(t, h, "")
	r.Hnet("status")
}

// TestStateFolderTakenAway removes the state folder under the running daemon, as an eager administrator might.
func TestStateFolderTakenAway(t *testing.T) {
	_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
	fleet.Trust(a, b)
	a.Run(t, "mv", stateDir, stateDir+".away")
	out, code := a.TryHnet("whitelist", "add", "fc94::2")
	checkLine(t, out, code, 1, stateDir)
	mustPing(t, a, b.Address)
	a.Run(t, "mv", stateDir+".away", stateDir)
	a.Hnet("whitelist", "add", "fc94::2")
	if _, err := os.Stat(a.Path(stateDir + "/identity")); errors.Is(err, fs.ErrNotExist) {
		t.Error("the identity is gone")
	}
}
