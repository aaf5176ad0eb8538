package netwatch

import (
	"context"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/host/sandbox"
)

// inSandbox runs body with a pair of devices, v0 and v1, that are down.
func inSandbox(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	sandbox.Run(t, func(t *testing.T) {
		if _, err := exec.LookPath("ip"); err != nil {
			t.Skip("the ip command is missing: install iproute2:", err)
		}
		ip(t, "link add v0 address 02:00:00:00:00:01 type veth peer name v1")
		body(t)
	})
}

// ip runs the ip command, which plays the administrator.
func ip(t *testing.T, line string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", line, err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T) *Watcher {
	t.Helper()
	w, err := New(slog.New(slog.DiscardHandler))
	must(t, err)
	return w
}

// start runs a watcher for the rest of the test, and sees to it that it ends with its context.
func start(t *testing.T, w *Watcher) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run returns %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Run does not end with its context")
		}
	})
}

// changed waits for a change after which the condition holds.
func changed(t *testing.T, w *Watcher, what string, condition func() bool) {
	t.Helper()
	timeout := time.After(5 * time.Second)
	for {
		select {
		case <-w.Changes():
			if condition() {
				return
			}
		case <-timeout:
			t.Fatalf("no news of %s: %+v", what, w.Snapshot())
		}
	}
}

func named(w *Watcher, name string) (Interface, bool) {
	all := w.Snapshot()
	i := slices.IndexFunc(all, func(i Interface) bool { return i.Name == name })
	if i < 0 {
		return Interface{}, false
	}
	return all[i], true
}

func has(w *Watcher, name, prefix string) func() bool {
	return func() bool {
		i, _ := named(w, name)
		return slices.Contains(i.Addrs, netip.MustParsePrefix(prefix))
	}
}

func TestSnapshot(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		if err := unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK); err == nil {
			ip(t, "tuntap add t0 mode tun")
		} else {
			t.Log("without a point-to-point device, for want of a usable /dev/net/tun:", err)
		}
		ip(t, "link set v0 up mtu 1400")
		ip(t, "link set v1 up")
		ip(t, "address add 10.0.0.2/24 dev v0")
		ip(t, "address add 10.0.0.1/24 dev v0")
		ip(t, "address add 10.1.0.1 peer 10.1.0.2 dev v0")
		ip(t, "-6 address add 2001:db8::1/64 dev v0 nodad")
		ip(t, "-6 address add 2001:db8::2/64 dev v0 nodad preferred_lft 0")
		w := create(t)
		start(t, w)
		up := func(name string) bool { i, _ := named(w, name); return i.Up }
		for !up("v0") || !up("v1") {
			// The carrier comes a moment later.
			changed(t, w, "carrier", func() bool { return true })
		}
		got := slices.Clone(w.Snapshot())
		for i := range got {
			// Appears when duplicate detection is done.
			got[i].Addrs = slices.Clone(got[i].Addrs)
			got[i].Addrs = slices.DeleteFunc(got[i].Addrs, func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() })
		}
		var prefixes []netip.Prefix
		for _, s := range []string{"10.0.0.1/24", "10.0.0.2/24", "10.1.0.1/32", "2001:db8::1/64"} {
			prefixes = append(prefixes, netip.MustParsePrefix(s))
		}
		want := []Interface{
			{Index: 1, Name: "lo", MTU: 65536, Up: true, Loopback: true, Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")}},
			{Name: "v1", MTU: 1500, Up: true, Multicast: true},
			{Name: "v0", MTU: 1400, Up: true, Multicast: true, Addrs: prefixes},
		}
		if _, ok := named(w, "t0"); ok {
			want = append(want, Interface{Name: "t0", MTU: 1500, Multicast: true, PointToPoint: true})
		}
		ignoreIndex := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Index" }, cmp.Ignore())
		if diff := cmp.Diff(want, got, ignoreIndex, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if !slices.IsSortedFunc(got, func(a, b Interface) int { return a.Index - b.Index }) || got[0].Index != 1 {
			t.Errorf("not in order: %+v", got)
		}
	})
}

func TestChanges(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		w := create(t)
		start(t, w)
		v0 := func(f func(Interface) bool) func() bool {
			return func() bool {
				i, ok := named(w, "v0")
				return ok && f(i)
			}
		}
		ip(t, "link set v0 up")
		ip(t, "link set v1 up")
		changed(t, w, "carrier", v0(func(i Interface) bool { return i.Up }))
		ip(t, "address add 10.0.0.1/24 dev v0")
		changed(t, w, "an IPv4 address", has(w, "v0", "10.0.0.1/24"))
		before := w.Snapshot()
		copied := slices.Clone(before)
		// Duplicate detection runs on this one.
		ip(t, "-6 address add 2001:db8::1/64 dev v0")
		changed(t, w, "an IPv6 address", has(w, "v0", "2001:db8::1/64"))
		ip(t, "address del 10.0.0.1/24 dev v0")
		changed(t, w, "an address gone", func() bool { return !has(w, "v0", "10.0.0.1/24")() })
		if !slices.EqualFunc(before, copied, Interface.equal) {
			t.Error("an old snapshot has changed")
		}
		ip(t, "link set v0 mtu 1300")
		changed(t, w, "an MTU", v0(func(i Interface) bool { return i.MTU == 1300 }))
		ip(t, "link set v1 down")
		changed(t, w, "no carrier", v0(func(i Interface) bool { return !i.Up }))
		ip(t, "link set v1 up")
		changed(t, w, "carrier", v0(func(i Interface) bool { return i.Up }))
		ip(t, "link add v2 type veth peer name v3")
		changed(t, w, "a new device", func() bool { _, ok := named(w, "v3"); return ok })
		ip(t, "link set v3 name w3")
		changed(t, w, "a new name", func() bool { _, ok := named(w, "w3"); return ok })
		ip(t, "link del v2")
		changed(t, w, "a device gone", func() bool { _, ok := named(w, "w3"); return !ok })
		settle(t, w)
		ip(t, "-6 route add default via 2001:db8::9 dev v0")
		changed(t, w, "a route", func() bool { return true })
	})
}

// settle takes all news until none has come for a while.
func settle(t *testing.T, w *Watcher) {
	t.Helper()
	for {
		select {
		case <-w.Changes():
		case <-time.After(10 * pause):
			return
		}
	}
}

// TestChangesUnread: who does not listen for a long time finds one piece of news and the present state.
func TestChangesUnread(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		w := create(t)
		start(t, w)
		for i := range 50 {
			ip(t, "address add 10.0.0."+strconv.Itoa(i+1)+"/24 dev v0")
		}
		timeout := time.After(5 * time.Second)
		for !has(w, "v0", "10.0.0.50/24")() {
			select {
			case <-time.After(pause):
			case <-timeout:
				t.Fatal("the last address does not show")
			}
		}
		settled := 0
		for done := false; !done; {
			select {
			case <-w.Changes():
				settled++
			case <-time.After(10 * pause):
				done = true
			}
		}
		if settled < 1 || settled > 5 {
			t.Errorf("%d pieces of news after 50 changes", settled)
		}
	})
}

// TestLostEvents: the events that tell of a change are lost in a flood of others.
func TestLostEvents(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		ip(t, "link set v0 up")
		ip(t, "link set v1 up")
		w := create(t)
		must(t, w.socket.SetReceiveBufferSize(4096, false))
		// The overlay's own routes fill the buffer and are of no interest.
		var batch strings.Builder
		for i := range 200 {
			batch.WriteString("route add fc94::" + strconv.FormatInt(int64(i+1), 16) + "/128 dev v0\n")
		}
		command := exec.Command("ip", "-6", "-batch", "-")
		command.Stdin = strings.NewReader(batch.String())
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("ip -batch: %v: %s", err, out)
		}
		ip(t, "link set lo mtu 12345")
		start(t, w)
		changed(t, w, "the lost change", func() bool { return w.Snapshot()[0].MTU == 12345 })
	})
}

// TestMatters feeds real messages of the kernel.
func TestMatters(t *testing.T) {
	tests := []struct {
		route string
		want  bool
	}{
		{"-6 route add default dev v0", true},
		{"-6 route add 2001:db8:1::/48 dev v0 table 100", true},
		{"-6 route add unreachable 2001:db8:2::/48", true},
		{"-6 route add fc94::/16 dev v0", false},
		{"-6 route add fc94::1/128 dev v0", false},
		{"-6 route add fc95::/16 dev v0", true},
		{"-6 route add multicast ff15::/16 dev v0 table main", false},
		{"-6 route add local fd00::/64 dev v0 table local", false},
		{"route add default dev v0", true},
		{"route add 10.0.0.0/8 dev v0", true},
		{"route del 10.0.0.0/8 dev v0", true},
		{"route add local 10.1.0.0/16 dev v0 table local", false},
	}
	inSandbox(t, func(t *testing.T) {
		ip(t, "link set v0 up")
		socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
		must(t, err)
		defer socket.Close()
		for _, test := range tests {
			ip(t, test.route)
			messages, _, err := socket.Receive()
			must(t, err)
			if len(messages) != 1 {
				t.Fatalf("%s: %d messages", test.route, len(messages))
			}
			if got := matters(messages[0].Data); got != test.want {
				t.Errorf("%s: %v, want %v", test.route, got, test.want)
			}
			for cut := range messages[0].Data {
				matters(messages[0].Data[:cut])
			}
		}
	})
}

func FuzzMatters(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, message []byte) {
		before := slices.Clone(message)
		matters(message)
		if !slices.Equal(before, message) {
			t.Error("the message was changed")
		}
	})
}

func TestRunEnds(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		w := create(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.Run(ctx); err != nil {
			t.Errorf("ended by its context: %v", err)
		}
		w = create(t)
		w.socket.Close()
		if err := w.Run(t.Context()); err == nil {
			t.Error("a broken socket is no error")
		}
	})
}

func BenchmarkSnapshot(b *testing.B) {
	w, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer w.socket.Close()
	b.ReportAllocs()
	for b.Loop() {
		w.Snapshot()
	}
}

func BenchmarkList(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := list(); err != nil {
			b.Fatal(err)
		}
	}
}
