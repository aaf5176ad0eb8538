package ros

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
)

func TestEnvironment(t *testing.T) {
	addrs := func(list ...string) (out []netip.Addr) {
		for _, s := range list {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	for _, c := range []struct {
		env   string
		want  rtps.Config
		notes int
	}{
		{"", rtps.Config{Multicast: true}, 0},
		{"ROS_DOMAIN_ID=42", rtps.Config{Domain: 42, Multicast: true}, 0},
		{"ROS_AUTOMATIC_DISCOVERY_RANGE=subnet", rtps.Config{Multicast: true}, 0},
		{"ROS_AUTOMATIC_DISCOVERY_RANGE=SYSTEM_DEFAULT ROS_STATIC_PEERS=10.0.0.1;;fc94::1", rtps.Config{Multicast: true, StaticPeers: addrs("10.0.0.1", "fc94::1")}, 0},
		{"ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST", rtps.Config{Multicast: true, Interfaces: rtps.LocalhostOnly}, 0},
		{"ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_STATIC_PEERS=10.0.0.1", rtps.Config{StaticPeers: addrs("127.0.0.1", "10.0.0.1")}, 0},
		{"ROS_AUTOMATIC_DISCOVERY_RANGE=OFF ROS_STATIC_PEERS=10.0.0.1", rtps.Config{Interfaces: rtps.Off}, 0},
		{"ROS_AUTOMATIC_DISCOVERY_RANGE=WORLD", rtps.Config{Multicast: true}, 1},
		{"ROS_LOCALHOST_ONLY=1 ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET ROS_STATIC_PEERS=10.0.0.1", rtps.Config{Multicast: true, Interfaces: rtps.LocalhostOnly}, 0},
		{"ROS_LOCALHOST_ONLY=0", rtps.Config{Multicast: true}, 0},
		{"ROS_LOCALHOST_ONLY=yes", rtps.Config{Multicast: true}, 1},
	} {
		e, err := parseEnvironment(getenv(c.env))
		if err != nil {
			t.Fatal(err)
		}
		peers, err := resolve(context.Background(), e.staticPeers, nil)
		var got rtps.Config
		e.apply(&got, peers)
		if err != nil || !reflect.DeepEqual(got, c.want) || len(e.notes) != c.notes {
			t.Errorf("%s: %+v %v %v", c.env, got, e.notes, err)
		}
	}
	for _, bad := range []string{"ROS_DOMAIN_ID=233", "ROS_DOMAIN_ID=-1", "ROS_DOMAIN_ID=x", "ROS_STATIC_PEERS=" + strings.Repeat("a;", maxStaticPeers+1)} {
		if _, err := parseEnvironment(getenv(bad)); err == nil {
			t.Errorf("%.40s passes", bad)
		}
	}
}

func getenv(env string) func(string) string {
	return func(name string) string {
		for _, kv := range strings.Fields(env) {
			if k, v, _ := strings.Cut(kv, "="); k == name {
				return v
			}
		}
		return ""
	}
}

type fakeResolver map[string]string

func (r fakeResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if s, ok := r[host]; ok {
		return []netip.Addr{netip.MustParseAddr(s)}, nil
	}
	return nil, errors.New("no such host")
}

func TestResolve(t *testing.T) {
	got, err := resolve(context.Background(), []string{"robot", "10.0.0.1", "gone"}, fakeResolver{"robot": "::ffff:10.0.0.2"})
	if err == nil || !strings.Contains(err.Error(), "gone") || len(got) != 2 || got[0].String() != "10.0.0.2" {
		t.Errorf("%v %v", got, err)
	}
}

func TestSecurityIsNotPretended(t *testing.T) {
	set := func(kv map[string]string) func(string) string { return func(k string) string { return kv[k] } }
	if _, err := parseEnvironment(set(map[string]string{"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce"})); err == nil {
		t.Error("a node without DDS-Security starts where it is enforced")
	}
	if e, err := parseEnvironment(set(map[string]string{"ROS_SECURITY_ENABLE": "true"})); err != nil || len(e.notes) != 1 {
		t.Errorf("%v, %v", e.notes, err)
	}
}
