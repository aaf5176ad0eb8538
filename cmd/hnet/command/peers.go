package command

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

func (a *app) peers() *cobra.Command {
	watch := false
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "List the peers, how they are reached and how well",
		Args:  exactly(),
		RunE: a.call(func(ctx context.Context, c *api.Client, _ []string) error {
			if watch {
				return a.watchPeers(ctx, c)
			}
			peers, err := c.Peers(ctx)
			if err != nil {
				return err
			}
			return a.show(peers, func() string { return strings.Join(a.peerLines(peers), "\n") + "\n" })
		}),
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing changes until Ctrl-C")
	return cmd
}

var stateStyle = map[api.PeerState]style{
	api.Connected:   green,
	api.Connecting:  yellow,
	api.Unreachable: red,
	api.Idle:        dim,
}

func (a *app) peerLines(peers []api.Peer) []string {
	if len(peers) == 0 {
		return []string{"no peers yet: let one in with 'hnet whitelist add ADDRESS', on both sides"}
	}
	t := table{columns: []column{
		{head: "HOSTNAME"}, {head: "ADDRESS"}, {head: "STATE"}, {head: "PATH"}, {head: "ENDPOINT", spare: 3},
		{head: "RTT", right: true, spare: 1}, {head: "JITTER", right: true, spare: 5}, {head: "LOSS", right: true, spare: 2},
		{head: "TX", right: true, spare: 4}, {head: "RX", right: true, spare: 4}, {head: "HANDSHAKE", right: true, spare: 6},
	}}
	guests := slices.ContainsFunc(peers, func(p api.Peer) bool { return !p.Whitelisted })
	if guests {
		t.columns = append(t.columns, column{head: "WHITELISTED", spare: 3})
	}
	now := a.Now()
	for _, p := range peers {
		row := []cell{
			{orNone(p.Hostname), bold}, {p.Address.String(), plain}, {printable(string(p.State)), stateStyle[p.State]},
			{pathText(p.Path), plain}, {endpointText(p), plain},
			{humanMS(p.RTT), plain}, {humanMS(p.Jitter), plain}, {humanLoss(p.Loss), lossStyle(p.Loss)},
			{humanBytes(p.TxBytes), plain}, {humanBytes(p.RxBytes), plain}, {humanAgo(now, p.LastHandshake), plain},
		}
		switch {
		case guests && p.Whitelisted:
			row = append(row, cell{"yes", plain})
		case guests:
			row = append(row, cell{"no", yellow})
		}
		t.rows = append(t.rows, row)
	}
	return t.lines(a.width(), a.colour())
}

func lossStyle(loss *float64) style {
	switch {
	case loss == nil || *loss < 0.01:
		return plain
	case *loss < 0.1:
		return yellow
	}
	return red
}

func pathText(p api.Path) string {
	if p == api.PathNone {
		return none
	}
	return orNone(string(p))
}

func endpointText(p api.Peer) string {
	if !p.Endpoint.IsValid() {
		return none
	}
	return p.Endpoint.String()
}
