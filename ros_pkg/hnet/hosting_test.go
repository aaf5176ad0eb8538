package hnet

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/host/sandbox"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/diagnostic_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
)

// TestHosting runs the node with the overlay inside: a request lets a peer in, the peer is told of, and 'hnet down' is no reason to end.
func TestHosting(t *testing.T) {
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		t.Skipf("no TUN devices here: %v", err)
	} else {
		f.Close()
	}
	sandbox.Run(t, func(t *testing.T) {
		dir, err := os.MkdirTemp("", "hnet") // t.TempDir may be too long for a socket's path
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		in := func(name string) string { return filepath.Join(dir, name) }
		if err := os.WriteFile(in("hnet.yaml"), []byte("hosts_file: \"\"\nlan_discovery: false\nport_mapping: false\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		guard := new(Guard)
		n, err := ros.NewNode(Name, ros.WithParameterAuthorization(guard.Permit), ros.WithArgs([]string{"--ros-args", "--log-level", "warn", "-p", "embedded:=true",
			"-p", "run_folder:=" + in("run"), "-p", "state_folder:=" + in("state"), "-p", "config_file:=" + in("hnet.yaml"), "-p", "diagnostics_rate:=10.0"}))
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- Run(ctx, n, Options{Paths: config.FindPaths(func(string) string { return "" }), Guard: guard})
		}()
		other, err := ros.NewNode("other", ros.WithArgs(nil))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		peers := subscribe[hnet_bridge.PeerArray](t, other, "/hnet/peers", ros.QoSState)
		status := subscribe[hnet_bridge.Status](t, other, "/hnet/status", ros.QoSState)
		diagnostics := subscribe[diagnostic_msgs.DiagnosticArray](t, other, "/diagnostics", ros.QoS{})
		status.wait(t, "the overlay runs", func(m *hnet_bridge.Status) bool { return m.Address != "" && m.Interface == "hnet0" })

		r := call[hnet_bridge.WhitelistAddRequest, hnet_bridge.WhitelistAddResponse](t, other, "/hnet/whitelist_add",
			&hnet_bridge.WhitelistAddRequest{Address: "fc94::2", Hostname: "robot2"})
		asked := time.Now()
		if !r.Success {
			t.Fatal(r.Message)
		}
		peers.wait(t, "the peer", func(m *hnet_bridge.PeerArray) bool {
			return len(m.Peers) == 1 && m.Peers[0].Hostname == "robot2" && m.Peers[0].Whitelisted
		})
		t.Logf("the peer is told of %v after the answer", time.Since(asked))

		// Who takes the overlay down finds the node telling so.
		client := api.NewClient(in("run/hnetd.sock"))
		defer client.Close()
		if err := client.Down(ctx); err != nil {
			t.Fatal(err)
		}
		diagnostics.wait(t, "it is down", func(m *diagnostic_msgs.DiagnosticArray) bool {
			return m.Status[0].Level == levelError && m.Status[0].Message == "the embedded overlay does not run: "+string(errDown)
		})
		status.wait(t, "advice that fits", func(m *hnet_bridge.Status) bool {
			return len(m.Warnings) == 1 && m.Warnings[0].Code == "daemon_down" && strings.Contains(m.Warnings[0].Fix, "start the node again") &&
				!strings.Contains(m.Warnings[0].Text+m.Warnings[0].Fix, "hnetd")
		})
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
}
