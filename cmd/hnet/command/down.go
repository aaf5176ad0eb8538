package command

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

// downTime is how long the daemon has to be gone once it took the order.
const downTime = 10 * time.Second

func (a *app) down() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop the daemon and remove its interface",
		Args:  exactly(),
		RunE: a.call(func(ctx context.Context, c *api.Client, _ []string) error {
			s, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if err := c.Down(ctx); err != nil {
				return err
			}
			// Whoever starts it again right away must not meet the old one.
			_, err = until(ctx, downTime, func(ctx context.Context) (struct{}, bool, error) {
				_, err := c.Status(ctx)
				if api.IsCode(err, api.CodeNotRunning) {
					return struct{}{}, false, nil
				}
				return struct{}{}, false, &api.Error{Code: api.CodeTimeout, Text: s.Interface + " is removed, but hnetd still runs", Fix: "stop it with 'systemctl stop hnetd'"}
			})
			if err != nil {
				return err
			}
			return a.show(map[string]any{"down": true, "interface": s.Interface}, func() string {
				return s.Interface + " is removed, hnetd has stopped\n"
			})
		}),
	}
}
