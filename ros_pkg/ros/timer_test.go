package ros

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

func TestTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := new(fakeNet)
		n := net.node(t, "n")
		fast, slow := 0, 0
		if _, err := n.Timer(time.Second, func() { fast++ }); err != nil {
			t.Fatal(err)
		}
		stop, err := n.Timer(time.Second, func() { slow++; time.Sleep(2500 * time.Millisecond) })
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Second + 1)
		synctest.Wait()
		if fast != 10 || slow < 3 || slow > 4 {
			t.Errorf("%d and %d calls", fast, slow)
		}
		stop()
		n.Close()
		time.Sleep(10 * time.Second)
		if fast != 10 {
			t.Errorf("%d calls after the node was closed", fast)
		}
		if _, err := n.Timer(time.Second, func() {}); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

func TestRun(t *testing.T) {
	broken := errors.New("broken")
	for _, want := range []error{nil, broken} {
		net := new(fakeNet)
		err := run("n", func(ctx context.Context, n *Node) error {
			if n.FullName() != "/n" || ctx.Err() != nil {
				t.Error(n.FullName(), ctx.Err())
			}
			return want
		}, WithArgs(nil), WithEnvironment(getenv("")), WithLogHandler(testHandler{t}), func(o *options) { o.dom = net.join(wire.VendorUnknown, "") })
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		if len(net.writers)+len(net.readers) != 0 {
			t.Error("endpoints are left")
		}
	}
	if err := run("n", nil, WithArgs([]string{"--ros-args", "--what"})); err == nil {
		t.Error("unknown arguments pass")
	}
}
