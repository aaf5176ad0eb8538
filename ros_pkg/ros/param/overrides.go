package param

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Overrides are values for parameters of nodes, from command lines and files. The zero value is empty.
//
// Nodes are named by patterns: "/a/node", "/*/node" ('*' is one word), "/**/node" ('**' is any number of words), "/**" (all). As in rcl, a
// later value replaces an earlier one for the same pattern; where several patterns fit a node, those that were named first give way.
type Overrides struct {
	patterns []string
	values   map[string]map[string]Value
}

// Set adds a value. A pattern without a leading slash gets one.
func (o *Overrides) Set(pattern, name string, v Value) {
	if !strings.HasPrefix(pattern, "/") {
		pattern = "/" + pattern
	}
	if o.values[pattern] == nil {
		if o.values == nil {
			o.values = map[string]map[string]Value{}
		}
		o.values[pattern] = map[string]Value{}
		o.patterns = append(o.patterns, pattern)
	}
	o.values[pattern][name] = v
}

// For returns what applies to a node with a full name.
func (o *Overrides) For(node string) map[string]Value {
	out := map[string]Value{}
	words := strings.Split(strings.TrimPrefix(node, "/"), "/")
	for _, pattern := range o.patterns {
		if matches(strings.Split(pattern[1:], "/"), words) {
			maps.Copy(out, o.values[pattern])
		}
	}
	return out
}

// matches takes time proportional to the product of the lengths.
func matches(pattern, words []string) bool {
	// fits[i] tells whether the pattern so far matches the first i words.
	fits := make([]bool, len(words)+1)
	fits[0] = true
	for _, p := range pattern {
		switch p {
		case "**":
			for i := 1; i < len(fits); i++ {
				fits[i] = fits[i] || fits[i-1]
			}
		default:
			for i := len(fits) - 1; i > 0; i-- {
				fits[i] = fits[i-1] && (p == "*" || p == words[i-1])
			}
			fits[0] = false
		}
	}
	return fits[len(words)]
}

// Argument adds what follows -p on a command line: "name:=value" or "node:name:=value".
func (o *Overrides) Argument(node, name, text string) error {
	if name == "" || len(name) > MaxName || strings.ContainsAny(name, ": \t\r\n") {
		return fmt.Errorf("%q is no name of a parameter", name)
	}
	v, err := ParseValue(text)
	if err != nil {
		return fmt.Errorf("parameter %s: %w", name, err)
	}
	if node == "" {
		node = "/**"
	}
	o.Set(node, name, v)
	return nil
}

// File adds the contents of a parameter file.
func (o *Overrides) File(text []byte) error {
	doc, err := document(text)
	if err != nil || doc == nil {
		return err
	}
	return o.nodes(doc, "", 0)
}

// nodes reads a mapping of names, of nodes or parts of them, that ends in ros__parameters.
func (o *Overrides) nodes(n *yaml.Node, path string, depth int) error {
	if depth > maxDepth {
		return errors.New("names nest too deep")
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want \"node name: {ros__parameters: {…}}\"", n.Line)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Value == "" {
			return fmt.Errorf("line %d: want the name of a node", key.Line)
		}
		if key.Value == "ros__parameters" {
			if path == "" {
				return fmt.Errorf("line %d: ros__parameters without the name of a node above it ('/**' stands for all)", key.Line)
			}
			if val.Kind == yaml.ScalarNode && val.ShortTag() == "!!null" {
				continue // nothing below it
			}
			if err := o.parameters(path, val, "", 0); err != nil {
				return err
			}
			continue
		}
		if err := o.nodes(val, path+"/"+strings.Trim(key.Value, "/"), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// parameters reads a mapping of names to values or to further mappings, whose names are joined with dots.
func (o *Overrides) parameters(node string, n *yaml.Node, prefix string, depth int) error {
	if depth > maxDepth {
		return errors.New("parameters nest too deep")
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want \"name: value\"", n.Line)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Value == "" {
			return fmt.Errorf("line %d: want the name of a parameter", key.Line)
		}
		name := prefix + key.Value
		if len(name) > MaxName {
			return fmt.Errorf("line %d: the name has %d bytes: at most %d", key.Line, len(name), MaxName)
		}
		if val.Kind == yaml.MappingNode {
			if err := o.parameters(node, val, name+".", depth+1); err != nil {
				return err
			}
			continue
		}
		v, err := value(val)
		if err != nil {
			return fmt.Errorf("parameter %s: %w", name, err)
		}
		o.Set(node, name, v)
	}
	return nil
}
