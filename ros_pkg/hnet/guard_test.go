package hnet

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/hnet/caller"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
)

// fakeHost has one user's socket at each port: that of the user of that number.
type fakeHost struct{ caller.Linux }

func (fakeHost) Sockets() (list []caller.Socket, err error) {
	for _, uid := range []uint32{0, 1000, 1001} {
		list = append(list, caller.Socket{Port: uint16(uid) + 1, UID: uid})
	}
	return list, nil
}

func (fakeHost) User(uid uint32) caller.User {
	if uid == 1000 {
		return caller.User{Name: "ann", Groups: []string{"hnet"}}
	}
	return caller.User{}
}

func request(from string) ros.RequestInfo {
	return ros.RequestInfo{Service: "/hnet/whitelist_add", From: netip.MustParseAddrPort(from), Interface: 1}
}

func TestGuard(t *testing.T) {
	var out bytes.Buffer
	g := &Guard{System: fakeHost{}}
	if err := g.Permit(request("203.0.113.9:1")); err == nil {
		t.Error("before it is configured anyone may")
	}
	g.configure(false, slog.New(slog.NewTextHandler(&out, nil)))
	for from, want := range map[string]bool{"127.0.0.1:1": true, "127.0.0.1:1001": true, "127.0.0.1:1002": false, "203.0.113.9:1": false, "127.0.0.1:9": false} {
		if err := g.Permit(request(from)); (err == nil) != want {
			t.Errorf("%s: %v", from, err)
		}
	}
	if err := g.Permit(ros.RequestInfo{Own: true}); err != nil {
		t.Errorf("its own request: %v", err)
	}
	if err := g.Permit(ros.RequestInfo{}); err == nil {
		t.Error("a request from nowhere")
	}
	for range 1000 {
		g.Permit(request("203.0.113.9:1"))
	}
	if g.Refused() != 1005 || strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), "/hnet/whitelist_add") {
		t.Errorf("%d refused, log:\n%s", g.Refused(), &out)
	}
	g.configure(true, slog.New(slog.DiscardHandler))
	if err := g.Permit(request("203.0.113.9:1")); err != nil || g.Refused() != 1005 {
		t.Errorf("although anyone may: %v", err)
	}
}
