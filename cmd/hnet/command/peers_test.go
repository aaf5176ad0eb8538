package command

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/api/apitest"
)

// roaming is a node whose peers are reached by several ways.
func roaming() *apitest.Node {
	n := node()
	n.PeerList[0].Path, n.PeerList[0].Endpoint = api.PathDirect, netip.MustParseAddrPort("203.0.113.9:5582")
	n.PeerList[0].Paths = []api.PeerPath{
		{Path: api.PathLAN, Endpoint: netip.MustParseAddrPort("192.168.1.12:5582"), State: api.PathDead, RTT: api.Known(0.4), Jitter: api.Known(0.05), Loss: api.Known(1), MTU: 1500},
		{Path: api.PathDirect, Endpoint: netip.MustParseAddrPort("203.0.113.9:5582"), State: api.PathAlive, Selected: true, RTT: api.Known(12.3), Jitter: api.Known(1.25), Loss: api.Known(0.03), MTU: 1492},
		{Path: api.PathDirect, Endpoint: netip.MustParseAddrPort("[2001:db8:1:2::33]:5582"), State: api.PathUntried},
		{Path: api.PathRelayUDP, Endpoint: netip.MustParseAddrPort("198.51.100.7:5582"), State: api.PathDoubtful, RTT: api.Known(45.6), Jitter: api.Known(2), Loss: api.Known(0), MTU: 1420},
	}
	n.PeerList[1].Paths = []api.PeerPath{{Path: api.PathRelayTCP, State: api.PathAlive, Selected: true, RTT: api.Known(1234), Jitter: api.Known(20)}}
	return n
}

func TestPeerPaths(t *testing.T) {
	run, _ := apitest.Serve(t, roaming(), api.Options{Credentials: asRoot})
	plainRun, _ := apitest.Serve(t, node(), api.Options{Credentials: asRoot})
	tests := []struct {
		name, run, line string
		width           int
	}{
		{"peers-paths", run, "peers --paths", 0},
		{"peers-paths-json", run, "peers -p --json", 0},
		{"peers-paths-200", run, "peers --paths", 200},
		{"peers-paths-60", run, "peers --paths", 60},
		{"peers", plainRun, "peers --paths", 0}, // no paths, nothing more to show
	}
	for _, tt := range tests {
		w := newWorld(tt.run)
		if tt.width > 0 {
			w.terminal(tt.width, 24)
		}
		if code := Run(t.Context(), w.Env, strings.Fields(tt.line)); code != 0 {
			t.Fatalf("%s: exit code %d: %s", tt.line, code, w.err.String())
		}
		golden(t, tt.name, strings.ReplaceAll(w.out.String(), "\x1b", "^"))
	}
}

func TestPeerPathsUsage(t *testing.T) {
	w := newWorld(t.TempDir())
	const want = "hnet: --watch and --paths do not go together: see 'hnet peers --help'\n"
	if code := Run(t.Context(), w.Env, []string{"peers", "--watch", "--paths"}); code != 2 || w.err.String() != want {
		t.Errorf("exit code %d, stderr %q, want 2, %q", code, w.err.String(), want)
	}
}
