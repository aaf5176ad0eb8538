package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// TestMemory: what was announced to one run of the daemon is known to the next, in the same run of the system.
func TestMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topics.json")
	s := newSim(t)
	s.announce(writerID, "rt/cmd_vel", "geometry_msgs::msg::dds_::Twist_")
	s.in(robotA, message(prefix(2), sedp(prefix(2), writerID, "rr/addReply", "a::srv::dds_::Add_Response_")))
	if err := s.w.Store(path, "boot 1"); err != nil {
		t.Fatal(err)
	}
	again := newSim(t)
	if err := again.w.Restore(path, "boot 1"); err != nil {
		t.Fatal(err)
	}
	if got := again.out(robotA, message(prefix(1), data(1, 100))); got.Lane != engine.Urgent {
		t.Errorf("/cmd_vel is treated as %+v", got)
	}
	again.in(robotA, message(prefix(2), data(1, 100)))
	if got := again.topic(robotA, "/add"); got.Kind != Service || got.Type != "a/srv/Add" || got.Rx.Samples != 1 {
		t.Errorf("%+v", got)
	}
	// A GUID may come again for something else, which is announced before it is used.
	again.announce(writerID, "rt/camera", "sensor_msgs::msg::dds_::Image_")
	if got := again.out(robotA, message(prefix(1), data(2, 100))); got.Lane != engine.Bulk {
		t.Errorf("/camera is treated as %+v", got)
	}
	if a, b := again.topic(robotA, "/cmd_vel").Tx.Samples, again.topic(robotA, "/camera").Tx.Samples; a != 1 || b != 1 {
		t.Errorf("%d samples of /cmd_vel, %d of /camera", a, b)
	}
	other := newSim(t)
	if err := other.w.Restore(path, "boot 2"); err != nil || len(other.w.table.own.names) > 0 {
		t.Errorf("after the system started again: %v, %v", err, other.w.table.own.names)
	}
	if err := other.w.Restore(path+".none", "boot 1"); err != nil {
		t.Error(err)
	}
}

// TestDamagedMemory: what cannot be right is left out, and a file that cannot be read is an error and no more.
func TestDamagedMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topics.json")
	for text, damaged := range map[string]bool{
		"": true, "{": true, `{"boot": "b", "names": [{"kind": 999}]}`: true, `{"boot": "b", "names": [{"guid": "zz", "kind": 1, "name": "/a"}]}`: false,
		`{"boot": "b", "names": [{"guid": "00", "kind": 1, "name": "/a"}]}`: false,
		fmt.Sprintf(`{"boot": "b", "names": [{"guid": "%032x", "kind": 5, "name": "TCP"}, {"guid": "%032x", "kind": 200, "name": "x"}, {"guid": "%032x", "kind": 1}]}`, 1, 2, 3): false,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w := New(Config{})
		if err := w.Restore(path, "b"); errors.Is(err, statefile.ErrDamaged) != damaged || (err != nil) != damaged || len(w.table.own.names) != 0 {
			t.Errorf("%s: %v, %v", text, err, w.table.own.names)
		}
	}
}

func TestKeep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topics.json")
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.w.Keep(ctx, path, "b", slog.New(slog.DiscardHandler)); close(done) }()
		written := func() bool {
			synctest.Wait()
			_, err := os.Stat(path)
			return err == nil
		}
		time.Sleep(10 * keepPause)
		if written() {
			t.Error("written without news")
		}
		s.announce(writerID, "rt/a", "T")
		if written() {
			t.Error("written at once")
		}
		time.Sleep(keepPause)
		if !written() {
			t.Error("not written")
		}
		os.Remove(path)
		time.Sleep(2 * keepPause)
		if written() {
			t.Error("written again without news")
		}
		s.announce(0x203, "rt/b", "T")
		cancel()
		<-done
		w := New(Config{})
		if err := w.Restore(path, "b"); err != nil || len(w.table.own.names) != 2 {
			t.Errorf("at the end: %v, %v", err, w.table.own.names)
		}
	})
}

// TestMemoryBound: what is stored is bounded, whatever peers announce.
func TestMemoryBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topics.json")
	w := New(Config{})
	for _, a := range addresses(8) {
		b := &w.table.peer(0, a).book
		for n := range maxNames + 10 {
			b.add(wire.GUID{Prefix: prefix(byte(n >> 16)), Entity: wire.EntityID(n)}, name{Topic, fmt.Sprint("/t", n), "T"})
		}
	}
	w.table.own.add(wire.GUID{Prefix: prefix(1), Entity: writerID}, name{Topic, "/mine", "T"})
	if err := w.Store(path, "b"); err != nil {
		t.Fatal(err)
	}
	again := New(Config{})
	if err := again.Restore(path, "b"); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range again.table.peers {
		n += len(p.book.names)
	}
	if len(again.table.own.names) != 1 || n != maxKept-1 {
		t.Errorf("%d own names and %d of peers", len(again.table.own.names), n)
	}
}
