package whitelist

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// MaxEntries bounds a List, the entries of the configuration included.
const MaxEntries = 10_000

var (
	// ErrNotFound says that an address is not on the list.
	ErrNotFound = errors.New("not on the whitelist")
	// ErrKey says that a key does not belong to an address, or another one is pinned to it.
	ErrKey = errors.New("wrong key")
	// ErrStatic says that an entry is the configuration's.
	ErrStatic = errors.New("set in the configuration file")
	// ErrTaken says that another entry has the hostname.
	ErrTaken = errors.New("hostname already taken")
	// ErrFull says that the list has MaxEntries entries.
	ErrFull = errors.New("whitelist full")
)

// List is the whitelist. It is safe for concurrent use; reading never waits for the disk. A change is on the disk when
// its call returns, and has not happened if the call fails.
type List struct {
	path string

	changes sync.Mutex // held while a change is stored
	current atomic.Pointer[state]
}

// state is one version of the list; it is never changed. Its entries are shared with other versions, of which each change makes one, so none is ever
// changed either; and their pre-shared keys are, so entries that leave the package get copies.
type state struct {
	enabled  *bool // nil until someone switched it
	fallback bool  // what enabled means while it is nil
	stored   map[netip.Addr]*Entry
	static   map[netip.Addr]*Entry

	// What use derives from both maps:
	order []netip.Addr
	names map[string]netip.Addr // hostnames
}

func (s *state) clone() *state {
	c := *s
	c.stored, c.static = maps.Clone(s.stored), maps.Clone(s.static)
	return &c
}

// get lays what is stored under what the configuration says.
func (s *state) get(a netip.Addr) (Entry, bool) {
	static, stored := s.static[a], s.stored[a]
	switch {
	case static != nil && stored != nil:
		return static.fill(*stored), true
	case static != nil:
		return *static, true
	case stored != nil:
		return *stored, true
	}
	return Entry{}, false
}

// addresses returns all listed addresses in order.
func (s *state) addresses() []netip.Addr {
	all := slices.AppendSeq(make([]netip.Addr, 0, len(s.stored)+len(s.static)), maps.Keys(s.stored))
	all = slices.AppendSeq(all, maps.Keys(s.static))
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// Open reads the list kept in the file path; without a file it is empty. A damaged file is a statefile.ErrDamaged.
func Open(path string) (*List, error) {
	s, err := load(path)
	if err != nil {
		return nil, err
	}
	l := &List{path: path}
	l.use(s)
	return l, nil
}

// use makes s the current version.
func (l *List) use(s *state) {
	s.order = s.addresses()
	s.names = make(map[string]netip.Addr, len(s.order))
	for _, a := range s.order {
		if e, _ := s.get(a); e.Hostname != "" {
			s.names[e.Hostname] = a
		}
	}
	l.current.Store(s)
}

// Add puts e on the list and returns the entry as it is then. If its address is listed already, the fields that e sets
// (those that are not zero) replace the old ones, but for keys: a different key is ErrKey. The address may be left out if a key is
// given. An entry of the configuration may be added again as it is, and is otherwise ErrStatic.
func (l *List) Add(e Entry) (Entry, error) {
	e, err := e.normalize()
	if err != nil {
		return Entry{}, err
	}
	if e.Source == SourceConfig {
		return Entry{}, fmt.Errorf("%v: entries of the source %q are set by SetStatic", e.Address, SourceConfig)
	}
	return l.change(e.Address, func(s *state) error {
		old, listed := s.get(e.Address)
		if _, static := s.static[e.Address]; static {
			e.Source = SourceConfig
			if same, err := old.update(e); err != nil || !same.equal(old) {
				return fmt.Errorf("%v is %w: change it there", e.Address, ErrStatic)
			}
			return errUnchanged
		}
		if holder, taken := s.names[e.Hostname]; taken && holder != e.Address {
			return fmt.Errorf("%w: %s is %v; choose another, or remove that entry first", ErrTaken, e.Hostname, holder)
		}
		if !listed {
			if len(s.order) >= MaxEntries {
				return fmt.Errorf("%w: it has %d entries; remove some first", ErrFull, MaxEntries)
			}
			s.stored[e.Address] = &e
			return nil
		}
		updated, err := old.update(e)
		if err != nil {
			return err
		}
		if updated.equal(old) {
			return errUnchanged
		}
		s.stored[e.Address] = &updated
		return nil
	})
}

// Remove takes the entry of addr off the list and returns it. ErrNotFound if there is none, ErrStatic if it is the
// configuration's.
func (l *List) Remove(addr netip.Addr) (removed Entry, err error) {
	_, err = l.change(addr, func(s *state) error {
		if _, static := s.static[addr]; static {
			return fmt.Errorf("%v is %w: remove it there", addr, ErrStatic)
		}
		e := s.stored[addr]
		if e == nil {
			return notFound(addr)
		}
		removed = *e
		delete(s.stored, addr)
		return nil
	})
	if err != nil {
		return Entry{}, err
	}
	return removed, nil
}

// Pin stores the WireGuard key of a listed peer, once its possession was proved. A key that does not hash to addr, or is
// not the one pinned before, is ErrKey.
func (l *List) Pin(addr netip.Addr, key identity.PublicKey) error {
	return l.pin(Entry{Address: addr, Key: key})
}

// PinSigning is Pin for the Ed25519 key, and pins its WireGuard key too.
func (l *List) PinSigning(addr netip.Addr, key identity.SigningKey) error {
	return l.pin(Entry{Address: addr, SigningKey: key})
}

func (l *List) pin(keys Entry) error {
	keys, err := keys.normalize()
	if err != nil {
		return err
	}
	if keys.Key.IsZero() {
		return fmt.Errorf("%w: no key to pin to %v", ErrKey, keys.Address)
	}
	// Peers show their keys with every record: the common case must not take the lock.
	if old, ok := l.current.Load().get(keys.Address); ok && old.Key == keys.Key && (keys.SigningKey.IsZero() || old.SigningKey == keys.SigningKey) {
		return nil
	}
	_, err = l.change(keys.Address, func(s *state) error {
		old, listed := s.get(keys.Address)
		if !listed {
			return notFound(keys.Address)
		}
		keys.Source = old.Source
		updated, err := old.update(keys)
		switch {
		case err != nil:
			return err
		case updated.equal(old):
			return errUnchanged
		}
		if _, static := s.static[keys.Address]; static {
			s.static[keys.Address] = &updated
			return errNotStored
		}
		s.stored[keys.Address] = &updated
		return nil
	})
	return err
}

// SetStatic replaces the entries of the configuration. They are not stored, and win over what is stored for the same
// address. Entries that are not valid are an error, and then nothing changes.
func (l *List) SetStatic(entries []Entry) error {
	static := make(map[netip.Addr]*Entry, len(entries))
	for _, e := range entries {
		e.Source = SourceConfig
		e, err := e.normalize()
		if err != nil {
			return fmt.Errorf("peer in the configuration: %w", err)
		}
		if _, twice := static[e.Address]; twice {
			return fmt.Errorf("peer in the configuration: %v is there twice; remove one", e.Address)
		}
		static[e.Address] = &e
	}
	l.changes.Lock()
	defer l.changes.Unlock()
	old := l.current.Load()
	if len(static) == 0 && len(old.static) == 0 {
		return nil // as at the start of most nodes
	}
	s := old.clone()
	s.static = static
	if n := len(s.addresses()); n > MaxEntries {
		return fmt.Errorf("peers in the configuration: %w: with them it has %d entries, %d at most", ErrFull, n, MaxEntries)
	}
	l.use(s)
	return nil
}

// Enabled tells whether the list is enforced; while it is not, everyone may talk to this node.
func (l *List) Enabled() bool {
	s := l.current.Load()
	if s.enabled == nil {
		return s.fallback
	}
	return *s.enabled
}

// SetEnabled switches the list on or off, also for later runs.
func (l *List) SetEnabled(enabled bool) error {
	_, err := l.change(netip.Addr{}, func(s *state) error {
		if s.enabled != nil && *s.enabled == enabled {
			return errUnchanged
		}
		s.enabled = &enabled
		return nil
	})
	return err
}

// SetDefaultEnabled sets what Enabled is as long as nobody has called SetEnabled in this run or an earlier one, which is
// true at first. It is not stored.
func (l *List) SetDefaultEnabled(enabled bool) {
	l.changes.Lock()
	defer l.changes.Unlock()
	s := *l.current.Load()
	s.fallback = enabled
	l.current.Store(&s) // the entries are the same
}

// Get returns the entry of an address.
func (l *List) Get(addr netip.Addr) (Entry, bool) {
	e, ok := l.current.Load().get(addr)
	return e.detach(), ok
}

// ByKey returns the entry of the peer with the given key: the one of the address that the key hashes to, be the key
// pinned already or not.
func (l *List) ByKey(key identity.PublicKey) (Entry, bool) {
	e, ok := l.Get(key.Address())
	if !ok || !e.Key.IsZero() && e.Key != key {
		return Entry{}, false
	}
	return e, true
}

// Entries returns all entries in the order of their addresses.
func (l *List) Entries() []Entry { return slices.AppendSeq(make([]Entry, 0, l.Len()), l.All()) }

// All goes through all entries in the order of their addresses. Of a long list a copy is some megabytes; who does not keep the entries takes these.
func (l *List) All() iter.Seq[Entry] {
	s := l.current.Load()
	return func(yield func(Entry) bool) {
		for _, a := range s.order {
			if e, _ := s.get(a); !yield(e.detach()) {
				return
			}
		}
	}
}

// Addresses returns the addresses of all entries, in order.
func (l *List) Addresses() []netip.Addr { return slices.Clone(l.current.Load().order) }

// Len is the number of entries.
func (l *List) Len() int { return len(l.current.Load().order) }

// detach gives the caller a PSK of its own.
func (e Entry) detach() Entry {
	if e.PSK != nil {
		psk := *e.PSK
		e.PSK = &psk
	}
	return e
}

func notFound(addr netip.Addr) error {
	return fmt.Errorf("%v is %w: `hnet whitelist ls` lists all entries", addr, ErrNotFound)
}

var (
	errUnchanged = errors.New("nothing changes")
	errNotStored = errors.New("a change that is not stored")
)

// change lets edit change a copy of the current version, stores it and makes it current, and returns the entry of addr
// in it. An edit may end with errUnchanged or errNotStored, which are no failures.
func (l *List) change(addr netip.Addr, edit func(*state) error) (Entry, error) {
	l.changes.Lock()
	defer l.changes.Unlock()
	s := l.current.Load().clone()
	switch err := edit(s); err {
	case nil:
		if err := save(l.path, s); err != nil {
			return Entry{}, err
		}
		l.use(s)
	case errNotStored:
		l.use(s)
	case errUnchanged:
	default:
		return Entry{}, err
	}
	e, _ := s.get(addr)
	return e.detach(), nil
}
