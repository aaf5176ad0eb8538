package command

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

func (a *app) peers() *cobra.Command {
	watch, paths := false, false
	list := a.call(func(ctx context.Context, c *api.Client, _ []string) error {
		if watch {
			return a.watchPeers(ctx, c)
		}
		peers, err := c.Peers(ctx)
		if err != nil {
			return err
		}
		return a.show(peers, func() string {
			lines := a.peerLines(peers)
			if paths {
				lines = a.withPaths(lines, peers)
			}
			return strings.Join(lines, "\n") + "\n"
		})
	})
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "List the peers, how they are reached and how well",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if watch && paths {
				return usagef(cmd, "--watch and --paths do not go together")
			}
			return list(cmd, args)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing changes until Ctrl-C")
	cmd.Flags().BoolVarP(&paths, "paths", "p", false, "show all ways to each peer that were tried lately; * marks the one in use (JSON has them always)")
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

var pathStateStyle = map[api.PathState]style{
	api.PathAlive:    green,
	api.PathDoubtful: yellow,
	api.PathDead:     red,
	api.PathUntried:  dim,
}

// pathIndent stands in front of the lines of paths.
const pathIndent = "  "

// withPaths puts the paths of each peer below its line; lines are the head and one for each of peers.
func (a *app) withPaths(lines []string, peers []api.Peer) []string {
	t := table{columns: []column{
		{head: ""}, {head: "PATH"}, {head: "ENDPOINT"}, {head: "STATE"},
		{head: "RTT", right: true, spare: 1}, {head: "JITTER", right: true, spare: 4}, {head: "LOSS", right: true, spare: 2}, {head: "MTU", right: true, spare: 3},
	}}
	limited := slices.ContainsFunc(peers, func(p api.Peer) bool {
		return slices.ContainsFunc(p.Paths, func(x api.PeerPath) bool { return x.Limit != nil })
	})
	if limited {
		t.columns = append(t.columns, column{head: "LIMIT", right: true, spare: 5})
	}
	for _, p := range peers {
		for _, x := range p.Paths {
			t.rows = append(t.rows, pathRow(x)[:len(t.columns)])
		}
	}
	if len(t.rows) == 0 {
		return lines
	}
	width := a.width()
	if width > 0 {
		width = max(1, width-len(pathIndent))
	}
	below := t.lines(width, a.colour())
	all := []string{lines[0], pathIndent + below[0]}
	below = below[1:]
	for i, p := range peers {
		all = append(all, lines[1+i])
		for range p.Paths {
			all = append(all, pathIndent+below[0])
			below = below[1:]
		}
	}
	return all
}

func pathRow(x api.PeerPath) []cell {
	mark, endpoint, mtu, limit := cell{" ", plain}, none, none, none
	if x.Selected {
		mark = cell{"*", bold}
	}
	if x.Copies {
		mark = cell{"+", bold}
	}
	if x.Endpoint.IsValid() {
		endpoint = x.Endpoint.String()
	}
	if x.Interface != "" {
		endpoint += " by " + printable(x.Interface)
	}
	if x.MTU > 0 {
		mtu = strconv.Itoa(x.MTU)
	}
	if x.Limit != nil {
		limit = strconv.FormatFloat(*x.Limit, 'g', 3, 64) + " Mbit/s"
	}
	return []cell{
		mark, {pathText(x.Path), plain}, {endpoint, plain}, {printable(string(x.State)), pathStateStyle[x.State]},
		{humanMS(x.RTT), plain}, {humanMS(x.Jitter), plain}, {humanLoss(x.Loss), lossStyle(x.Loss)}, {mtu, plain}, {limit, plain},
	}
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
