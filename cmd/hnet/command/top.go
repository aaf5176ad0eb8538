package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

// topTick is how often the picture is renewed.
const topTick = time.Second

var errNotWatching = errors.New("hnetd does not look at its traffic: set 'enabled' and 'watch' below 'dds' in its configuration to true and restart it")

func (a *app) top() *cobra.Command {
	once, totals := false, false
	cmd := &cobra.Command{
		Use:   "top [PEER]",
		Short: "Show which DDS topic takes how much of the network, live",
		Long: "Show which DDS topic takes how much of the network, per peer and both ways, live in a terminal. Rates are of the last three seconds.\n" +
			"TX is what this host sends. RESENT is the share of samples and fragments that came again, LOST that of samples that never came.\n" +
			"Keys: left and right choose what to sort by, r turns the order around, t shows totals since the daemon began, up and down scroll, q ends.",
		ValidArgsFunction: a.completeOnce(a.peerWords),
		RunE: func(cmd *cobra.Command, args []string) error {
			peer := ""
			switch len(args) {
			case 0:
			case 1:
				peer = args[0]
			default:
				return usagef(cmd, "unexpected argument %q", args[1])
			}
			c := a.client()
			defer c.Close()
			t, err := c.Traffic(cmd.Context(), peer)
			if err != nil {
				return err
			}
			if !t.Watching && !a.json {
				return errNotWatching
			}
			if _, _, terminal := a.Terminal(); !terminal || once || a.json {
				p := topPicture{colour: a.colour(), peer: peer, totals: totals}
				return a.show(t, func() string { return p.table(t, a.width()) })
			}
			return a.watchTop(cmd.Context(), c, peer, totals, t)
		},
	}
	cmd.Flags().BoolVarP(&once, "once", "1", false, "show one table and end, also in a terminal")
	cmd.Flags().BoolVarP(&totals, "totals", "t", false, "show totals since the daemon began, not what is going on now")
	return cmd
}

// watchTop shows the traffic until ctx ends or a key ends it. The daemon may restart meanwhile.
func (a *app) watchTop(ctx context.Context, c *api.Client, peer string, totals bool, t api.Traffic) error {
	keys, restore, err := a.keys()
	if err != nil {
		return err
	}
	defer restore()
	s := topScreen{app: a, picture: topPicture{colour: a.colour(), peer: peer, totals: totals}}
	defer s.end()
	tick := time.NewTicker(topTick)
	defer tick.Stop()
	for {
		s.picture.note = ""
		if err != nil {
			s.picture.note = oneLine(err)
		}
		if err := s.draw(t); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case k := <-keys:
			if s.picture.press(k) {
				return nil
			}
			continue
		case <-tick.C:
		}
		var now api.Traffic
		if now, err = c.Traffic(ctx, peer); ctx.Err() != nil {
			return nil
		}
		if err == nil {
			t = now
			if !t.Watching {
				err = errNotWatching
			}
		}
	}
}

// keys are those pressed; without a keyboard there are none.
func (a *app) keys() (<-chan key, func(), error) {
	if a.Keys == nil {
		return nil, func() {}, nil
	}
	keys, restore, err := a.Keys()
	if err != nil {
		return nil, nil, fmt.Errorf("the terminal cannot be read: %w: use --once", err)
	}
	return keys, restore, nil
}
