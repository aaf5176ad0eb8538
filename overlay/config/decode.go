package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// decoder turns YAML nodes into values. A key without a value counts as not given.
type decoder struct {
	file  string
	peers map[identity.PublicKey]bool // keys seen
	key   string                      // of the value being read
}

// fields are the keys a mapping may have, with what reads each one's value.
type fields map[string]func(*yaml.Node) error

func (d *decoder) errorf(n *yaml.Node, format string, args ...any) error {
	return &Error{File: d.file, Line: n.Line, Text: fmt.Sprintf(format, args...)}
}

// expected says that n is not what its key wants.
func (d *decoder) expected(n *yaml.Node, what string) error {
	return d.errorf(n, "%s: expected %s, found %s", d.key, what, found(n))
}

// found describes a node in an error, shortly.
func found(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping (key: value)"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias (*): write the value out"
	}
	if isNull(n) {
		return "nothing"
	}
	text := n.Value
	if len(text) > 40 {
		text = strings.ToValidUTF8(text[:40], "") + "..."
	}
	return fmt.Sprintf("%q", text)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func (d *decoder) mapping(n *yaml.Node, what string, known fields) error {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return d.errorf(n, "%s: expected a mapping (key: value), found %s", what, found(n))
	}
	seen := make(map[string]int, len(known))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, ok := known[key.Value]
		if !ok || key.Kind != yaml.ScalarNode {
			return d.errorf(key, "unknown key %s in %s: the nearest known key is %q",
				found(key), what, nearest(key.Value, slices.Collect(maps.Keys(known))))
		}
		if line, twice := seen[key.Value]; twice {
			return d.errorf(key, "%s: already given on line %d: remove one of the two", key.Value, line)
		}
		seen[key.Value] = key.Line
		if isNull(value) {
			continue
		}
		d.key = key.Value
		if err := read(value); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) list(limit int, item func(*yaml.Node) error) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		key := d.key
		if n.Kind != yaml.SequenceNode {
			return d.expected(n, "a list")
		}
		if len(n.Content) > limit {
			return d.errorf(n, "%s: expected at most %d, found %d", d.key, limit, len(n.Content))
		}
		for _, c := range n.Content {
			if d.key = key; isNull(c) {
				return d.expected(c, "one mapping (key: value) for each -")
			}
			if err := item(c); err != nil {
				return err
			}
		}
		return nil
	}
}

// text reads a string. check (if not nil) tells what is wrong with one.
func (d *decoder) text(out *string, check func(string) error) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
			return d.expected(n, "text")
		}
		if check != nil {
			if err := check(n.Value); err != nil {
				return d.errorf(n, "%s: %v", d.key, err)
			}
		}
		*out = n.Value
		return nil
	}
}

func (d *decoder) boolean(out *bool) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(out) != nil {
			return d.expected(n, "true or false")
		}
		return nil
	}
}

func (d *decoder) number(out *int, check func(int) error) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		var v int
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || n.Decode(&v) != nil {
			return d.expected(n, "a whole number")
		}
		if err := check(v); err != nil {
			return d.errorf(n, "%s: %v", d.key, err)
		}
		*out = v
		return nil
	}
}

func (d *decoder) port(out *uint16) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		var v int
		err := d.number(&v, func(v int) error {
			if v < 0 || v > 65535 {
				return fmt.Errorf("expected a port 0..65535, found %d", v)
			}
			return nil
		})(n)
		if err == nil {
			*out = uint16(v)
		}
		return err
	}
}

// oneOf checks that a text is one of some words.
func oneOf(words ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("expected %s, found %q", strings.Join(words, " | "), s)
		}
		return nil
	}
}

// optional lets the empty text through.
func optional(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}
