package param

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Bounds of a [Set].
const (
	MaxParameters = 1 << 14
	MaxName       = 255     // bytes
	MaxValue      = 1 << 20 // bytes
)

// Parameter is a name with a value.
type Parameter struct {
	Name  string
	Value Value
}

// Change tells what a call of [Set.Apply] or [Set.Declare] did. At most one of the lists has a certain name.
type Change struct{ New, Changed, Deleted []Parameter }

// Empty reports whether nothing changed.
func (c *Change) Empty() bool { return len(c.New)+len(c.Changed)+len(c.Deleted) == 0 }

// Set is a node's parameters. Its methods may be called from several goroutines at once.
type Set struct {
	setting sync.Mutex // held while values change, checks included; taken before mu
	checks  []*func([]Parameter) error

	mu        sync.RWMutex
	params    map[string]*entry
	overrides map[string]Value
}

type entry struct {
	Descriptor
	value Value
}

// NewSet makes a set whose parameters will start with the values in overrides, where these have their names.
func NewSet(overrides map[string]Value) *Set {
	return &Set{params: map[string]*entry{}, overrides: maps.Clone(overrides)}
}

// ErrDeclared says that a parameter of that name exists.
var ErrDeclared = errors.New("it was declared before")

// Declare adds a parameter and returns its value: the override for it if there is one, which must suit the descriptor, or def. An integer
// does as override for a double.
func (s *Set) Declare(name string, def Value, d Descriptor) (Value, error) {
	v, err := s.declare(name, def, d)
	if err != nil {
		return Value{}, fmt.Errorf("parameter %q: %w", name, err)
	}
	return v, nil
}

func (s *Set) declare(name string, def Value, d Descriptor) (Value, error) {
	if name == "" || len(name) > MaxName {
		return Value{}, fmt.Errorf("its name has %d bytes: 1 to %d are allowed", len(name), MaxName)
	}
	d.Name, d.Type = name, def.Type()
	if d.Type == NotSet && !d.Dynamic {
		return Value{}, errors.New("it has no type")
	}
	if err := d.check(d.Type); err != nil {
		return Value{}, err
	}
	if err := d.allows(def); err != nil {
		return Value{}, fmt.Errorf("its default: %w", err)
	}
	s.setting.Lock()
	defer s.setting.Unlock()
	s.mu.RLock()
	_, there := s.params[name]
	full := len(s.params) >= MaxParameters
	override, given := s.overrides[name]
	s.mu.RUnlock()
	if there {
		return Value{}, ErrDeclared
	}
	if full {
		return Value{}, fmt.Errorf("there are %d parameters already", MaxParameters)
	}
	value := def
	if given {
		if !d.Dynamic {
			override = override.promoted(d.Type)
		}
		if err := d.allows(override); err != nil {
			return Value{}, fmt.Errorf("the value it was started with: %w", err)
		}
		value = override
	}
	if err := s.ask([]Parameter{{name, value}}); err != nil {
		return Value{}, err
	}
	d.Type = value.Type()
	s.mu.Lock()
	s.params[name] = &entry{d, value}
	s.mu.Unlock()
	return value, nil
}

// Apply sets parameters, all or none. One whose type is dynamic is deleted by a Value that is not set.
func (s *Set) Apply(params ...Parameter) (Change, error) {
	s.setting.Lock()
	defer s.setting.Unlock()
	var change Change
	params = slices.Clone(params)
	s.mu.RLock()
	for i, p := range params {
		e := s.params[p.Name]
		if e != nil && !e.Dynamic {
			p.Value = p.Value.emptyAs(e.Type)
			params[i] = p
		}
		err := error(nil)
		switch {
		case e == nil:
			err = fmt.Errorf("parameter '%s' cannot be set because it was not declared", p.Name)
		case e.ReadOnly:
			err = fmt.Errorf("parameter '%s' cannot be set because it is read-only", p.Name)
		case slices.ContainsFunc(params[:i], func(o Parameter) bool { return o.Name == p.Name }):
			err = fmt.Errorf("parameter '%s' is set twice", p.Name)
		default:
			err = e.allows(p.Value)
		}
		if err != nil {
			s.mu.RUnlock()
			return Change{}, err
		}
		switch p.Value.Type() {
		case NotSet:
			change.Deleted = append(change.Deleted, Parameter{p.Name, e.value})
		default:
			change.Changed = append(change.Changed, p)
		}
	}
	s.mu.RUnlock()
	if err := s.ask(params); err != nil {
		return Change{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range change.Changed {
		e := s.params[p.Name]
		e.value, e.Type = p.Value, p.Value.Type()
	}
	for _, p := range change.Deleted {
		delete(s.params, p.Name)
	}
	return change, nil
}

func (s *Set) ask(params []Parameter) error {
	for _, check := range s.checks {
		if err := (*check)(params); err != nil {
			return err
		}
	}
	return nil
}

// Check has f asked before parameters get values, those of their declaration too: an error of f is the reason why none of them does. f may
// read the set, and must not change it. The returned function ends that.
func (s *Set) Check(f func([]Parameter) error) (stop func()) {
	s.setting.Lock()
	defer s.setting.Unlock()
	p := &f
	s.checks = append(s.checks, p)
	return func() {
		s.setting.Lock()
		defer s.setting.Unlock()
		s.checks = slices.DeleteFunc(s.checks, func(q *func([]Parameter) error) bool { return p == q })
	}
}

// Undeclare removes a parameter. It is false if there is none of the name or it is read-only.
func (s *Set) Undeclare(name string) (Change, bool) {
	s.setting.Lock()
	defer s.setting.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.params[name]
	if e == nil || e.ReadOnly {
		return Change{}, false
	}
	delete(s.params, name)
	return Change{Deleted: []Parameter{{name, e.value}}}, true
}

// Get returns a parameter's value.
func (s *Set) Get(name string) (Value, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.params[name]; e != nil {
		return e.value, true
	}
	return Value{}, false
}

// Describe returns a parameter's descriptor.
func (s *Set) Describe(name string) (Descriptor, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.params[name]; e != nil {
		return e.Descriptor, true
	}
	return Descriptor{}, false
}

// Overrides returns the names of overrides that no parameter took, sorted: misspelt ones, perhaps.
func (s *Set) Overrides() (unused []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name := range s.overrides {
		if s.params[name] == nil {
			unused = append(unused, name)
		}
	}
	slices.Sort(unused)
	return unused
}

// List returns the names that are or begin with one of prefixes (a prefix ends at a '.'), all if there are none; below a prefix, or in
// all, at most depth words deep, 0 meaning any depth. The second list has what stands before the last '.' of each. Both are sorted.
func (s *Set) List(prefixes []string, depth uint64) (names, groups []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	shallow := func(rest string) bool { return depth == 0 || uint64(strings.Count(rest, ".")) < depth }
	for name := range s.params {
		fits := len(prefixes) == 0 && shallow(name)
		for _, p := range prefixes {
			rest, below := strings.CutPrefix(name, p+".")
			if fits = name == p || below && shallow(rest); fits {
				break
			}
		}
		if !fits {
			continue
		}
		names = append(names, name)
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			groups = append(groups, name[:i])
		}
	}
	slices.Sort(names)
	slices.Sort(groups)
	return names, slices.Compact(groups)
}
