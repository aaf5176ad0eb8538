package param

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxFile is the longest parameter file that is read, in bytes.
const MaxFile = 1 << 20

// maxDepth is how deep mappings may nest.
const maxDepth = 64

// ParseValue reads a value as it stands on a command line: a YAML scalar or a list of scalars of one type.
func ParseValue(text string) (Value, error) {
	doc, err := document([]byte(text))
	if err != nil {
		return Value{}, err
	}
	if doc == nil {
		return Value{}, errors.New("there is no value")
	}
	return value(doc)
}

// document returns the only document's node, nil if there is none.
func document(text []byte) (*yaml.Node, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("%d bytes, at most %d are read", len(text), MaxFile)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, nil
	}
	return doc.Content[0], nil
}

func value(n *yaml.Node) (Value, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		return scalar(n)
	case yaml.SequenceNode:
		return list(n)
	case yaml.AliasNode:
		return Value{}, fmt.Errorf("line %d: aliases are not allowed", n.Line)
	}
	return Value{}, fmt.Errorf("line %d: want a value or a list of values", n.Line)
}

// scalar finds a scalar's type by rcl's rules: those of YAML 1.1 for booleans, those of C for numbers.
func scalar(n *yaml.Node) (Value, error) {
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 ||
		n.Style&yaml.TaggedStyle != 0 && n.ShortTag() == "!!str" {
		return Value{n.Value}, nil
	}
	s := n.Value
	if s == "" {
		return Value{}, fmt.Errorf("line %d: there is no value", n.Line)
	}
	switch s {
	case "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		return Value{true}, nil
	case "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		return Value{false}, nil
	}
	if i, ok := integer(s); ok {
		return Value{i}, nil
	}
	if f, ok := float(s); ok {
		return Value{f}, nil
	}
	return Value{s}, nil
}

// integer reads what C's strtoll does with base 0: decimal, 0x and, beginning with 0, octal.
func integer(s string) (int64, bool) {
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 || digits == "" || strings.ContainsAny(digits, "_bBoO") && !isHex(digits) || strings.Contains(digits, "_") {
		return 0, false
	}
	i, err := strconv.ParseInt(s, 0, 64)
	return i, err == nil
}

func isHex(s string) bool { return strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X") }

func float(s string) (float64, bool) {
	sign := 1.0
	rest := s
	if r, ok := strings.CutPrefix(s, "-"); ok {
		sign, rest = -1, r
	} else if r, ok := strings.CutPrefix(s, "+"); ok {
		rest = r
	}
	switch rest {
	case ".inf", ".Inf", ".INF":
		return math.Inf(int(sign)), true
	case ".nan", ".NaN", ".NAN":
		return math.NaN(), true
	}
	switch strings.ToLower(rest) { // C's strtod has these, too
	case "inf", "infinity":
		return math.Inf(int(sign)), true
	case "nan":
		return math.NaN(), true
	}
	if !strings.ContainsAny(s, "0123456789") || strings.Contains(s, "_") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

func list(n *yaml.Node) (Value, error) {
	values := make([]Value, len(n.Content))
	kind := NotSet
	for i, item := range n.Content {
		if item.Kind != yaml.ScalarNode {
			return Value{}, fmt.Errorf("line %d: a list's items have to be plain values", item.Line)
		}
		v, err := scalar(item)
		if err != nil {
			return Value{}, err
		}
		switch t := v.Type(); {
		case kind == NotSet, kind == Integer && t == Double:
			kind = t
		case kind == Double && t == Integer:
		case kind != t:
			return Value{}, fmt.Errorf("line %d: %v in a list of type %v: all items have to be of one type", item.Line, t, kind)
		}
		values[i] = v
	}
	switch kind {
	case Bool:
		return Value{collect[bool](values, kind)}, nil
	case Integer:
		return Value{collect[int64](values, kind)}, nil
	case Double:
		return Value{collect[float64](values, kind)}, nil
	}
	return Value{collect[string](values, kind)}, nil // an empty list too
}

func collect[T any](values []Value, kind Type) []T {
	out := make([]T, len(values))
	for i, v := range values {
		out[i] = v.promoted(kind).v.(T)
	}
	return out
}
