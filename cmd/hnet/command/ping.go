package command

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

// pingLine is one probe in JSON.
type pingLine struct {
	Seq      int            `json:"seq"`
	Peer     string         `json:"peer"`
	RTT      *float64       `json:"rtt_ms"` // null: lost
	Path     api.Path       `json:"path"`
	Endpoint netip.AddrPort `json:"endpoint"`
	Error    string         `json:"error"`
}

func (a *app) ping() *cobra.Command {
	count, interval, wait := 4, span(time.Second), span(2*time.Second)
	cmd := &cobra.Command{
		Use:               "ping PEER",
		Short:             "Ask a peer for an answer through the tunnel, and say which path it took",
		Args:              exactly("PEER"),
		ValidArgsFunction: a.completeOnce(a.peerWords),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 0 {
				return usagef(cmd, "-c %d: expected a number of probes", count)
			}
			if wait == 0 {
				return usagef(cmd, "-W 0: expected a time such as 500ms or 2s")
			}
			c := a.client()
			defer c.Close()
			p := pinger{app: a, client: c, peer: args[0], count: count, interval: time.Duration(interval), wait: time.Duration(wait)}
			return p.run(cmd.Context())
		},
	}
	cmd.Flags().IntVarP(&count, "count", "c", count, "how many probes, 0 = until Ctrl-C")
	cmd.Flags().VarP(&interval, "interval", "i", "time from probe to probe")
	cmd.Flags().VarP(&wait, "wait", "W", "time to wait for each answer")
	return cmd
}

type pinger struct {
	*app
	client         *api.Client
	peer           string
	count          int
	interval, wait time.Duration

	sent, answered int
	least, most    float64
	total          float64
	last           error // why the last one was lost
}

// run pings until the count or Ctrl-C. One answer makes it a success.
func (p *pinger) run(ctx context.Context) error {
	next := time.NewTimer(0)
	defer next.Stop()
	for p.count == 0 || p.sent < p.count {
		select {
		case <-ctx.Done():
			return p.summary()
		case <-next.C:
		}
		next.Reset(p.interval)
		reply, err := p.client.Ping(ctx, p.peer, p.wait)
		if ctx.Err() != nil {
			return p.summary()
		}
		// Only silence is worth another probe; a wrong name or a refusal stays what it is.
		if err != nil && !api.IsCode(err, api.CodeTimeout) {
			return err
		}
		p.sent++
		if err := p.probe(reply, err); err != nil {
			return err
		}
	}
	return p.summary()
}

// probe counts and prints one.
func (p *pinger) probe(reply api.PingResult, lost error) error {
	line := pingLine{Seq: p.sent, Peer: p.peer}
	text := fmt.Sprintf("no answer from %s in %s", p.peer, p.wait)
	if lost != nil {
		p.last = lost
		line.Error = oneLine(lost)
	} else {
		p.answered++
		p.total += reply.RTT
		p.most = max(p.most, reply.RTT)
		if p.least = min(p.least, reply.RTT); p.answered == 1 {
			p.least = reply.RTT
		}
		line.RTT, line.Path, line.Endpoint = &reply.RTT, reply.Path, reply.Endpoint
		text = fmt.Sprintf("answer from %s by %s", p.peer, pathText(reply.Path))
		if reply.Endpoint.IsValid() {
			text += " at " + reply.Endpoint.String()
		}
		text += " in " + humanMS(&reply.RTT)
	}
	if p.json {
		return json.NewEncoder(p.Stdout).Encode(line)
	}
	_, err := fmt.Fprintln(p.Stdout, text)
	return err
}

func (p *pinger) summary() error {
	if !p.json && p.sent > 1 {
		text := fmt.Sprintf("%d sent, %d answered", p.sent, p.answered)
		if p.answered > 0 {
			mean := p.total / float64(p.answered)
			text += fmt.Sprintf(": %s least, %s mean, %s most", humanMS(&p.least), humanMS(&mean), humanMS(&p.most))
		}
		if _, err := fmt.Fprintln(p.Stdout, text); err != nil {
			return err
		}
	}
	switch {
	case p.answered > 0:
		return nil
	case p.last != nil:
		return p.last
	}
	return context.Canceled
}
