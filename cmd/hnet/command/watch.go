package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

const (
	watchTick  = time.Second            // between looks without an event
	watchPause = 100 * time.Millisecond // between looks at least, however many events come
)

// view shows the peers as they change.
type view interface {
	show(peers []api.Peer) error
	lost(err error) error // the daemon does not answer; it may come back
	end() error
}

// watchPeers shows the peers until ctx ends: at every event, and every second for what no event tells.
// The daemon may restart meanwhile.
func (a *app) watchPeers(ctx context.Context, c *api.Client) error {
	peers, err := c.Peers(ctx)
	if err != nil {
		return err
	}
	var v view = &lineView{app: a}
	if _, _, terminal := a.Terminal(); a.json {
		v = &jsonView{app: a}
	} else if terminal {
		v = &screenView{app: a}
	}
	defer v.end()
	events := make(chan struct{}, 1)
	go a.listen(ctx, c, events)
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	for {
		if err == nil {
			err = v.show(peers)
		} else {
			err = v.lost(err)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-events:
		case <-tick.C:
		}
		if peers, err = c.Peers(ctx); ctx.Err() != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchPause):
		}
	}
}

// listen wakes whoever reads changed at every event, and opens the stream again when it ended.
func (a *app) listen(ctx context.Context, c *api.Client, changed chan<- struct{}) {
	wake := func() {
		select {
		case changed <- struct{}{}:
		default: // already awake
		}
	}
	for ctx.Err() == nil {
		if events, err := c.Subscribe(ctx); err == nil {
			wake()
			for err == nil {
				if _, err = events.Next(); err == nil {
					wake()
				}
			}
			events.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchTick):
		}
	}
}

// screenView redraws the table in place on a terminal.
type screenView struct {
	app    *app
	height int // lines drawn last time
	drawn  bool
	last   []string
}

func (v *screenView) show(peers []api.Peer) error {
	v.last = v.app.peerLines(peers)
	return v.draw(v.last)
}

func (v *screenView) lost(err error) error {
	note := yellow.paint(cut(oneLine(err), v.app.width()), v.app.colour())
	return v.draw(append([]string{note}, v.last...))
}

// draw replaces the lines on the screen in one write, so that nothing flickers.
func (v *screenView) draw(lines []string) error {
	_, screen, _ := v.app.Terminal()
	if room := max(screen-1, 2); len(lines) > room {
		more := fmt.Sprintf("... and %d more", len(lines)-room+1)
		lines = append(append([]string(nil), lines[:room-1]...), more)
	}
	var out strings.Builder
	if !v.drawn {
		out.WriteString("\x1b[?25l") // hide the cursor
		v.drawn = true
	}
	if v.height > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", v.height)
	}
	for _, line := range lines {
		out.WriteString("\r" + line + "\x1b[K\n")
	}
	out.WriteString("\x1b[J")
	v.height = len(lines)
	_, err := io.WriteString(v.app.Stdout, out.String())
	return err
}

func (v *screenView) end() error {
	if !v.drawn {
		return nil
	}
	_, err := io.WriteString(v.app.Stdout, "\r\x1b[K\x1b[?25h") // away with a ^C, the cursor back
	return err
}

// change is what a line is printed for.
type change struct {
	hostname    string
	state       api.PeerState
	path        api.Path
	endpoint    netip.AddrPort
	whitelisted bool
}

func changeOf(p api.Peer) change {
	return change{p.Hostname, p.State, p.Path, p.Endpoint, p.Whitelisted}
}

// changes remembers the peers as last seen.
type changes map[netip.Addr]change

// next returns the peers that are new or changed, and the addresses of those that are gone.
func (c changes) next(peers []api.Peer) (changed []api.Peer, gone []netip.Addr) {
	present := make(map[netip.Addr]bool, len(peers))
	for _, p := range peers {
		present[p.Address] = true
		if last, ok := c[p.Address]; !ok || last != changeOf(p) {
			c[p.Address] = changeOf(p)
			changed = append(changed, p)
		}
	}
	for address := range c {
		if !present[address] {
			delete(c, address)
			gone = append(gone, address)
		}
	}
	return changed, gone
}

// lineView prints a line for every change.
type lineView struct {
	app  *app
	seen changes
	away bool
}

func (v *lineView) show(peers []api.Peer) error {
	if v.seen == nil {
		v.seen = make(changes)
	}
	names := make(map[netip.Addr]string, len(v.seen))
	for address, c := range v.seen {
		names[address] = c.hostname
	}
	changed, gone := v.seen.next(peers)
	if v.away {
		v.away = false
		if err := v.print("hnetd answers again"); err != nil {
			return err
		}
	}
	for _, p := range changed {
		line := named(p.Hostname, p.Address) + " " + printable(string(p.State))
		if p.Path != api.PathNone && p.Path != "" {
			line += " by " + pathText(p.Path)
		}
		if p.Endpoint.IsValid() {
			line += " at " + p.Endpoint.String()
		}
		if p.RTT != nil {
			line += ", " + humanMS(p.RTT)
		}
		if !p.Whitelisted {
			line += ", not whitelisted"
		}
		if err := v.print(line); err != nil {
			return err
		}
	}
	for _, address := range gone {
		if err := v.print(named(names[address], address) + " gone"); err != nil {
			return err
		}
	}
	return nil
}

func (v *lineView) lost(err error) error {
	if v.away {
		return nil
	}
	v.away = true
	return v.print(oneLine(err))
}

func (v *lineView) print(line string) error {
	_, err := fmt.Fprintf(v.app.Stdout, "%s %s\n", v.app.Now().Format(time.TimeOnly), line)
	return err
}

func (v *lineView) end() error { return nil }

// jsonView prints the list of peers, on one line, at every change.
type jsonView struct {
	app  *app
	seen changes
}

func (v *jsonView) show(peers []api.Peer) error {
	first := v.seen == nil
	if first {
		v.seen = make(changes)
	}
	if changed, gone := v.seen.next(peers); !first && len(changed) == 0 && len(gone) == 0 {
		return nil
	}
	return json.NewEncoder(v.app.Stdout).Encode(peers)
}

func (v *jsonView) lost(error) error { return nil }
func (v *jsonView) end() error       { return nil }
