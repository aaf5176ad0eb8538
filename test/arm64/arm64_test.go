package arm64

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// emulator returns the program that runs those of arm64.
func emulator(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"qemu-aarch64-static", "qemu-aarch64"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const why = "programs for arm64 cannot be run: qemu-aarch64-static is missing (Debian and Ubuntu have it in qemu-user-static)"
	if os.Getenv("HNET_LAB") == "required" {
		t.Fatal(why)
	}
	t.Skip(why)
	return ""
}

// build runs the go command for arm64; the result is the file out, or with an empty out a folder of as many files as there are packages.
func build(t *testing.T, out string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), out)
	cmd := exec.CommandContext(t.Context(), "go", append(args[:1:1], append([]string{"-o", path}, args[1:]...)...)...)
	cmd.Dir = fleet.Root()
	cmd.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, b)
	}
	return path
}

// unitLimit is how long one package's tests may take, on a loaded machine.
const unitLimit = 3 * time.Minute

// TestUnits runs the packages' own tests. skip is what qemu does not know or what takes it long and another test covers.
func TestUnits(t *testing.T) {
	qemu := emulator(t)
	units := []struct{ dir, skip string }{
		{"overlay/wireguard", "^TestAnyHistoryHeals$"},    // long: FuzzHistory runs the same model over its corpus
		{"overlay/tun", "^TestKernelTCP$/destination"},    // qemu 7.2 refuses IPV6_DSTOPTS
		{"overlay/underlay", "^Test(Age|FullBuffer|DF)$"}, // qemu 7.2 does not pass on the time of arrival, netlink in a namespace, the way datagrams are kept whole
		{"overlay/fragment", ""},
		{"overlay/lane", "^TestUrgentBesideBulk$"},                                                // long: TestUrgentShare has the same queues
		{"overlay/pace", "^Test(Saturated|Bursts.*|BesideTCP|CapacityChanges|NotLimited|Radio)$"}, // long: other simulations of the same controller stay
		{"ros_pkg/cdr", ""},
		{"ros_pkg/rtps/wire", ""},
		{"ros_pkg/rtps/machine", "^TestMany$"}, // long: the others do the same with fewer
	}
	command := []string{"test", "-c"}
	for _, unit := range units {
		command = append(command, "./"+unit.dir)
	}
	programs := build(t, "", command...) // all at once: that keeps both processors busy
	for _, unit := range units {
		t.Run(unit.dir, func(t *testing.T) {
			args := []string{filepath.Join(programs, filepath.Base(unit.dir)+".test"), "-test.short", "-test.timeout", unitLimit.String()}
			if unit.skip != "" {
				args = append(args, "-test.skip", unit.skip)
			}
			cmd := exec.CommandContext(t.Context(), qemu, args...)
			cmd.Dir = filepath.Join(fleet.Root(), unit.dir)
			cmd.Env = append(os.Environ(), "HNET_LAB=")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestTalksToAMD64: a daemon built for arm64 and one for this machine find each other on a LAN and carry TCP both ways unharmed.
func TestTalksToAMD64(t *testing.T) {
	qemu := emulator(t)
	l := lab.New(t)
	here, there := l.Host("here"), l.Host("there")
	l.LAN(lab.Link{}, here, there)
	native := fleet.Start(t, here, "")
	there.Start(t, qemu, build(t, "hnetd", "build", "./cmd/hnetd"))
	hnet := fleet.Binary(t, "hnet")
	there.Run(t, hnet, "wait", "daemon", "--timeout", "60s")
	var id api.ID
	if err := json.Unmarshal([]byte(there.Run(t, hnet, "--json", "id")), &id); err != nil {
		t.Fatal(err)
	}
	// qemu passes no multicast options on, so the arm64 daemon is not found on the LAN: it gets told.
	there.Run(t, hnet, "whitelist", "add", key(t, native), "--endpoint", endpoint(here))
	native.Hnet("whitelist", "add", id.WireGuard, "--endpoint", endpoint(there))
	native.Hnet("wait", "peer", id.Address.String(), "--timeout", "60s")
	if out, err := native.Command(context.Background(), hnet, "ping", id.Address.String(), "-c", "3").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	carry(t, here, there, id.Address)
	carry(t, there, here, native.Address)
}

func endpoint(h *lab.Host) string { return fmt.Sprintf("%s:5582", h.Addr4("lan0")) }

func key(t *testing.T, r *fleet.Robot) string {
	t.Helper()
	var id api.ID
	r.JSON(&id, "id")
	return id.WireGuard
}

// carried is how many bytes go each way, enough for superpackets of the largest kind.
const carried = 4 << 20

// carry sends bytes over TCP to a host's overlay address and compares what arrives.
func carry(t *testing.T, from, to *lab.Host, address netip.Addr) {
	t.Helper()
	sent := make([]byte, carried)
	random := rand.NewChaCha8([32]byte{7})
	_, _ = random.Read(sent)
	var listener net.Listener
	lab.Eventually(t, 20*time.Second, "a socket on the overlay address", func() error {
		return to.Do(func() (err error) {
			listener, err = net.Listen("tcp", netip.AddrPortFrom(address, 0).String())
			return err
		})
	})
	defer listener.Close()
	sums := make(chan [32]byte, 1)
	go func() {
		var received bytes.Buffer
		if c, err := listener.Accept(); err == nil {
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_, _ = io.Copy(&received, c)
			c.Close()
		}
		sums <- sha256.Sum256(received.Bytes())
	}()
	var c net.Conn
	if err := from.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", listener.Addr().String(), 30*time.Second)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write(sent); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if got := <-sums; got != sha256.Sum256(sent) {
		t.Errorf("what arrived at %s is not what was sent from %s", to.Name(), from.Name())
	}
}
