package watch

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

const (
	// keepPause is the time between two looks at whether there are new names to be stored: a robot's flash shall not wear out by it.
	keepPause = 30 * time.Second
	// maxKept bounds the names that are stored, this host's first.
	maxKept = 8192
)

// memory is what is stored of the names, so that a daemon that restarts under running programs knows their topics: they announce them but once.
type memory struct {
	// Boot is the run of the system that the names are of: no program outlives it, and GUIDs may come again.
	Boot  string     `json:"boot"`
	Names []keptName `json:"names"`
}

type keptName struct {
	Peer netip.Addr `json:"peer,omitzero"` // whose word it is; none = this host's own
	GUID string     `json:"guid"`          // 32 hexadecimal digits
	Kind Kind       `json:"kind"`
	Name string     `json:"name"`
	Type string     `json:"type"`
}

// Restore reads the names that Store wrote in the same run of the system, which boot tells from others. Without them, or where they cannot be read, the
// topics of running programs are unknown.
func (w *Watch) Restore(path, boot string) error {
	var m memory
	if err := statefile.ReadJSON(path, &m); errors.Is(err, fs.ErrNotExist) || err == nil && m.Boot != boot {
		return nil
	} else if err != nil {
		return err
	}
	for _, k := range m.Names[:min(len(m.Names), maxKept)] {
		var guid [wire.GUIDLen]byte
		n := name{k.Kind, k.Name, k.Type}
		if b, err := hex.DecodeString(k.GUID); err != nil || copy(guid[:], b) != wire.GUIDLen || len(b) != wire.GUIDLen ||
			(n.kind != Topic && n.kind != Service && n.kind != Action) || n.text == "" || len(n.text) > maxNameLen || len(n.typ) > maxNameLen {
			continue
		}
		b := &w.table.own
		if k.Peer.IsValid() {
			b = &w.table.peer(0, k.Peer).book
		}
		b.add(wire.GUIDFrom(guid), n)
	}
	return nil
}

// Store writes the names that are known now.
func (w *Watch) Store(path, boot string) error {
	m := memory{Boot: boot, Names: w.table.own.kept(netip.Addr{}, nil)}
	w.table.mu.Lock()
	for address, p := range w.table.peers {
		m.Names = p.book.kept(address, m.Names)
	}
	w.table.mu.Unlock()
	slices.SortFunc(m.Names, func(a, b keptName) int {
		if c := a.Peer.Compare(b.Peer); c != 0 {
			return c
		}
		return slices.Compare([]byte(a.GUID), []byte(b.GUID))
	})
	return statefile.WriteJSON(path, &m, 0o600)
}

// kept adds the names of a book to a list, up to maxKept.
func (b *book) kept(peer netip.Addr, list []keptName) []keptName {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for g, n := range b.names {
		if len(list) >= maxKept {
			break
		}
		raw := g.Bytes()
		list = append(list, keptName{peer, hex.EncodeToString(raw[:]), n.kind, n.text, n.typ})
	}
	return list
}

// news counts changes of names.
func (w *Watch) news() (n uint64) {
	n = uint64(w.table.own.version.Load())
	w.table.mu.Lock()
	defer w.table.mu.Unlock()
	for _, p := range w.table.peers {
		n += uint64(p.book.version.Load())
	}
	return n
}

// Keep stores the names when there are new ones, until ctx ends, and then once more.
func (w *Watch) Keep(ctx context.Context, path, boot string, log *slog.Logger) {
	stored, told := w.news(), false
	tick := time.NewTicker(keepPause)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		n := w.news()
		if n == stored {
			continue
		}
		err := w.Store(path, boot)
		if err == nil {
			stored, told = n, false
			continue
		}
		if !told {
			log.Warn("the names of topics cannot be stored: they will be unknown when the daemon restarts", "err", err, "fix", "see that the disk is writable and not full")
			told = true
		}
	}
}
