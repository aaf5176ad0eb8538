package api_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/api/apitest"
)

func TestDoctor(t *testing.T) {
	n := &apitest.Node{Names: []api.HostEntry{{Name: "robot2", Address: robot}}, Diagnosis: api.Diagnosis{
		Checks: []api.Check{{Name: "network", Status: api.CheckOK, Detail: "IPv4"}, {Name: "nat", Status: api.CheckWarn, Detail: "symmetric"}},
		Cause:  "symmetric NAT", Fix: "forward a port",
	}}
	c, socket := serve(t, n)
	want := n.Diagnosis
	got, err := c.Doctor(context.Background(), "")
	check(t, "of the node", want, got, err)
	if got.Failed() {
		t.Error("a warning is called a failure")
	}
	want.Peer, want.Hostname = robot, "robot2"
	got, err = c.Doctor(context.Background(), "robot2")
	check(t, "by name", want, got, err)
	got, err = c.Doctor(context.Background(), robot.String())
	check(t, "by address", want, got, err)
	if _, err = c.Doctor(context.Background(), "nobody"); !api.IsCode(err, api.CodeNotFound) {
		t.Errorf("of nobody: %v", err)
	}
	if _, err = c.Doctor(context.Background(), "2001:db8::1"); !api.IsCode(err, api.CodeBadRequest) {
		t.Errorf("outside the overlay: %v", err)
	}
	n.Do(func(n *apitest.Node) { n.Diagnosis = api.Diagnosis{Peer: netip.Addr{}} })
	if status, got := raw(t, socket, "GET /v1/doctor HTTP/1.1\r\nHost: hnetd\r\n"); status != 200 || got != `{"peer":"","hostname":"","checks":[],"cause":"","fix":""}` {
		t.Errorf("%d %s", status, got)
	}
	if !(api.Diagnosis{Checks: []api.Check{{Status: api.CheckOK}, {Status: api.CheckFail}}}).Failed() {
		t.Error("a failure is not called one")
	}
}
