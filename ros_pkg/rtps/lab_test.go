package rtps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/dds"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == peerCommand {
		os.Exit(peerMain(os.Args[2:]))
	}
	lab.Main(m)
}

const patience = 15 * time.Second

var build = sync.OnceValues(func() (dds.Programs, error) { return dds.Build(context.Background()) })

// peerOn starts a peer of a vendor, or ours, on a host.
func peerOn(t *testing.T, h *lab.Host, vendor string, args ...string) *lab.Process {
	t.Helper()
	args = append(args, "--name", h.Name())
	if vendor == "go" {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		return h.Start(t, exe, append([]string{peerCommand}, args...)...)
	}
	programs, err := build()
	if errors.Is(err, dds.ErrMissing) && os.Getenv("HNET_LAB") != "required" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	program := programs.Cyclone
	if vendor == "fastdds" {
		program = programs.FastDDS
	}
	return h.Start(t, program, args...)
}

func TestPeers(t *testing.T) {
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	l.LAN(lab.Link{}, a, b)
	for _, pair := range [][2]string{{"go", "go"}, {"go", "cyclone"}, {"cyclone", "go"}, {"go", "fastdds"}, {"fastdds", "go"}} {
		for _, place := range []struct {
			name string
			to   *lab.Host
		}{{"across", b}, {"same_host", a}} {
			for _, qos := range []string{"reliable", "best-effort"} {
				for _, size := range []int{64, 100_000} {
					t.Run(fmt.Sprintf("%s_to_%s/%s/%s/%d", pair[0], pair[1], place.name, qos, size), func(t *testing.T) {
						exchange(t, a, place.to, pair[0], pair[1], qos, size)
					})
				}
			}
		}
	}
}

func exchange(t *testing.T, from, to *lab.Host, fromVendor, toVendor, qos string, size int) {
	t.Helper()
	const count = 15
	flags := []string{"--" + qos, "--size", fmt.Sprint(size), "--rate", "100"}
	sub := peerOn(t, to, toVendor, append([]string{"sub", "--count", fmt.Sprint(count)}, flags...)...)
	pubCount := count
	if qos == "best-effort" {
		pubCount = 0 // what is lost before both know each other stays lost
	}
	pub := peerOn(t, from, fromVendor, append([]string{"pub", "--count", fmt.Sprint(pubCount)}, flags...)...)
	if code := sub.Wait(patience); code != 0 {
		t.Fatalf("%s sub exits %d:\n%s\n%s pub:\n%s", toVendor, code, sub.Output(), fromVendor, pub.Output())
	}
	if pubCount == 0 {
		pub.Signal(unix.SIGTERM)
	}
	if code := pub.Wait(patience); code != 0 {
		t.Fatalf("%s pub exits %d:\n%s", fromVendor, code, pub.Output())
	}
}
