package idl

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

var bitSizes = map[Kind]int{Int8: 8, Uint8: 8, Byte: 8, Int16: 16, Uint16: 16, Int32: 32, Uint32: 32, Int64: 64, Uint64: 64, Float32: 32, Float64: 64}

// parseDefault reads the default value of a field.
func parseDefault(t Type, s string) (any, error) {
	if t.Kind == Nested {
		return nil, fmt.Errorf("%q: only primitive types have default values", s)
	}
	if t.Form == Single {
		return parseValue(t, s)
	}
	inner, ok := strings.CutPrefix(s, "[")
	if inner, ok2 := strings.CutSuffix(inner, "]"); ok && ok2 {
		parts, err := splitElements(inner, t.Kind.IsString())
		if err != nil {
			return nil, fmt.Errorf("%q: %w", s, err)
		}
		if t.Form == Array && len(parts) != t.Size || t.Form == Bounded && len(parts) > t.Size {
			return nil, fmt.Errorf("%q: %d elements for %s", s, len(parts), t)
		}
		values := make([]any, len(parts))
		for i, p := range parts {
			if values[i], err = parseValue(t.Element(), strings.TrimSpace(p)); err != nil {
				return nil, fmt.Errorf("element %d: %w", i, err)
			}
		}
		return values, nil
	}
	return nil, fmt.Errorf("%q: want [value, …]", s)
}

// splitElements splits at commas, those in quotes excepted if the elements are strings.
func splitElements(s string, quoted bool) ([]string, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	if !quoted {
		return strings.Split(s, ","), nil
	}
	var parts []string
	start, quote, fresh := 0, byte(0), true // fresh: only spaces since the last comma
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0 && c == '\\':
			i++
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0 || c == ' ':
			continue
		case fresh && (c == '"' || c == '\''):
			quote = c
		case c == ',':
			parts, start, fresh = append(parts, s[start:i]), i+1, true
			continue
		}
		fresh = false
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	return append(parts, s[start:]), nil
}

// parseValue reads one value of a primitive type.
func parseValue(t Type, s string) (any, error) {
	wrong := func(why string) error { return fmt.Errorf("%q is no %s%s", s, kindNames[t.Kind], why) }
	switch t.Kind {
	case Bool:
		switch strings.ToLower(s) {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
		return nil, wrong(": want true or false")
	case Float32, Float64:
		if _, err := strconv.ParseFloat(s, bitSizes[t.Kind]); err != nil {
			return nil, wrong("")
		}
		v, err := strconv.ParseFloat(s, 64) // unrounded, as descriptions have it
		if err != nil {
			return nil, wrong("")
		}
		return v, nil
	case Int8, Int16, Int32, Int64:
		v, err := strconv.ParseInt(s, 10, bitSizes[t.Kind])
		if err != nil {
			v, err = strconv.ParseInt(s, 0, bitSizes[t.Kind])
		}
		if err != nil {
			return nil, wrong(" in its range")
		}
		return v, nil
	case Uint8, Uint16, Uint32, Uint64, Byte:
		v, err := strconv.ParseUint(strings.TrimPrefix(s, "+"), 10, bitSizes[t.Kind])
		if err != nil {
			v, err = strconv.ParseUint(s, 0, bitSizes[t.Kind])
		}
		if err != nil {
			return nil, wrong(" in its range")
		}
		return v, nil
	case String, WString, BoundedString, BoundedWString:
		v, err := unquote(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
		if t.StringBound > 0 && utf8.RuneCountInString(v) > t.StringBound {
			return nil, fmt.Errorf("%s: longer than %d", s, t.StringBound)
		}
		return v, nil
	}
	return nil, fmt.Errorf("%q: a message has no value", s)
}

// unquote removes quotes, single or double, and resolves escapes as rosidl does.
func unquote(s string) (string, error) {
	if n := len(s); n >= 2 && (s[0] == '"' || s[0] == '\'') && s[n-1] == s[0] {
		quote := s[0]
		s = s[1 : n-1]
		for i := 0; i < len(s); i++ {
			if s[i] == quote && (i == 0 || s[i-1] != '\\') {
				return "", errors.New("a quote inside needs a backslash")
			}
		}
	}
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for s != "" {
		if s[0] != '\\' || len(s) == 1 {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		if s[1] == '\'' || s[1] == '"' {
			b.WriteByte(s[1])
			s = s[2:]
			continue
		}
		r, _, tail, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			return "", errors.New("unknown escape")
		}
		b.WriteRune(r) // \xff is one character in ROS, not one byte
		s = tail
	}
	return b.String(), nil
}
