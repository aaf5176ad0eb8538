package hostnames

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

// MaxNames bounds a Table.
const MaxNames = 10_000

var (
	// ErrNotFound says that a table does not have a name.
	ErrNotFound = errors.New("no such name")
	// ErrTaken says that a name belongs to another address.
	ErrTaken = errors.New("name already taken")
	// ErrFull says that a table has MaxNames names.
	ErrFull = errors.New("table of names full")
)

// Table is the names this node knows. It is safe for concurrent use; every change is on the disk when the call returns,
// and has not happened if the call fails.
type Table struct {
	path string
	own  string // this host's name, which is not ours to point elsewhere

	mu      sync.RWMutex
	names   map[string]Name
	reverse map[netip.Addr]Name // the alphabetically first of each address
}

type file struct {
	Version int    `json:"version"`
	Names   []Name `json:"names"`
}

const fileVersion = 1

// Open reads the table kept in the file path; without a file it is empty. A damaged file is a statefile.ErrDamaged.
func Open(path string) (*Table, error) {
	t := &Table{path: path}
	if host, err := os.Hostname(); err == nil {
		t.own = strings.ToLower(host)
	}
	t.use(make(map[string]Name))
	var f file
	switch err := statefile.ReadJSON(path, &f); {
	case errors.Is(err, fs.ErrNotExist):
		return t, nil
	case err != nil:
		return nil, err
	case f.Version != fileVersion:
		return nil, statefile.Damaged(path, fmt.Sprintf("has version %d, not %d", f.Version, fileVersion))
	case len(f.Names) > MaxNames:
		return nil, statefile.Damaged(path, fmt.Sprintf("has %d names, %d at most", len(f.Names), MaxNames))
	}
	names := make(map[string]Name, len(f.Names))
	for _, n := range f.Names {
		normal, err := check(n)
		if err != nil {
			return nil, statefile.Damaged(path, "has a bad entry ("+err.Error()+")")
		}
		if _, twice := names[normal.Name]; twice {
			return nil, statefile.Damaged(path, fmt.Sprintf("has the name %s twice", normal.Name))
		}
		names[normal.Name] = normal
	}
	t.use(names)
	return t, nil
}

func check(n Name) (Name, error) {
	name, err := Normalize(n.Name)
	if err != nil {
		return Name{}, err
	}
	if err := identity.CheckAddress(n.Address); err != nil {
		return Name{}, err
	}
	n.Name = name
	return n, nil
}

// Add gives n.Address the name n.Name, and returns it as stored. The address may have other names already, and adding a
// name to its address again changes at most its source. A name of another address is ErrTaken.
func (t *Table) Add(n Name) (Name, error) {
	n, err := check(n)
	if err != nil {
		return Name{}, err
	}
	// The host's own name resolves to itself on every host, and much depends on that.
	if n.Name == t.own {
		return Name{}, fmt.Errorf("%s is this host's own name: choose another", n.Name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.names[n.Name]
	switch {
	case old == n:
		return n, nil
	case known && old.Address != n.Address:
		return Name{}, fmt.Errorf("%w: %s is %v; remove it first, or choose another", ErrTaken, n.Name, old.Address)
	case !known && len(t.names) >= MaxNames:
		return Name{}, fmt.Errorf("%w: it has %d; remove some first", ErrFull, MaxNames)
	}
	return n, t.change(func(names map[string]Name) { names[n.Name] = n })
}

// Remove takes name out and returns what it was.
func (t *Table) Remove(name string) (Name, error) {
	name = strings.ToLower(name)
	t.mu.Lock()
	defer t.mu.Unlock()
	old, ok := t.names[name]
	if !ok {
		return Name{}, fmt.Errorf("%w: %q; `hnet host ls` lists all", ErrNotFound, clip(name))
	}
	return old, t.change(func(names map[string]Name) { delete(names, name) })
}

// change stores what edit makes of the names, and keeps it only if that succeeds.
func (t *Table) change(edit func(map[string]Name)) error {
	names := maps.Clone(t.names)
	edit(names)
	if err := statefile.WriteJSON(t.path, file{Version: fileVersion, Names: sorted(names)}, 0o600); err != nil {
		return err
	}
	t.use(names)
	return nil
}

func (t *Table) use(names map[string]Name) {
	t.names = names
	t.reverse = make(map[netip.Addr]Name, len(names))
	for _, n := range names {
		if first, ok := t.reverse[n.Address]; !ok || n.Name < first.Name {
			t.reverse[n.Address] = n
		}
	}
}

// Lookup finds a name, in any case of letters.
func (t *Table) Lookup(name string) (Name, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n, ok := t.names[strings.ToLower(name)]
	return n, ok
}

// Reverse returns the alphabetically first name of an address.
func (t *Table) Reverse(addr netip.Addr) (Name, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n, ok := t.reverse[addr]
	return n, ok
}

// List returns all names in alphabetical order.
func (t *Table) List() []Name {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return sorted(t.names)
}

func sorted(names map[string]Name) []Name {
	return slices.SortedFunc(maps.Values(names), func(a, b Name) int { return cmp.Compare(a.Name, b.Name) })
}
