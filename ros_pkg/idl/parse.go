package idl

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of an interface file, far above any real one, so that a generator or a node that reads a strange file stays small.
const (
	maxText     = 1 << 20 // bytes
	maxElements = 4096    // fields and constants of a message
	maxBound    = 1<<31 - 1
	maxArray    = 1 << 24 // elements of an array, which a message holds in itself
)

// What rosidl takes for a name.
var (
	packagePattern  = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	messagePattern  = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
	constantPattern = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
)

func validPackage(s string) bool {
	return packagePattern.MatchString(s) && !strings.Contains(s, "__") && !strings.HasSuffix(s, "_")
}

func validConstant(s string) bool {
	return constantPattern.MatchString(s) && !strings.Contains(s, "__") && !strings.HasSuffix(s, "_")
}

// Parse reads an interface file. Its kind is "msg" or "srv", its base the file's name without the ending.
func Parse(name Name, text string) (*File, error) {
	f := &File{Name: name, Text: text}
	err := f.parse()
	if err != nil {
		return nil, fmt.Errorf("%s/%s/%s.%s: %w", name.Package, name.Kind, name.Base, name.Kind, err)
	}
	return f, nil
}

func (f *File) parse() (err error) {
	if !validPackage(f.Name.Package) {
		return fmt.Errorf("%q is no package name: lower case letters, digits and single underscores", f.Name.Package)
	}
	if !messagePattern.MatchString(f.Name.Base) {
		return fmt.Errorf("%q is no type name: CamelCase, letters and digits", f.Name.Base)
	}
	if len(f.Text) > maxText {
		return fmt.Errorf("%d bytes, at most %d are read", len(f.Text), maxText)
	}
	if !utf8.ValidString(f.Text) {
		return errors.New("not UTF-8")
	}
	lines := strings.Split(strings.ReplaceAll(f.Text, "\r\n", "\n"), "\n")
	switch f.Name.Kind {
	case "msg":
		f.Message, err = parseMessage(f.Name, lines, 1)
		return err
	case "srv":
		at := -1
		for i, l := range lines {
			if l != "---" {
				continue
			}
			if at >= 0 {
				return fmt.Errorf("line %d: a second \"---\"", i+1)
			}
			at = i
		}
		if at < 0 {
			return errors.New(`no line "---" between request and response`)
		}
		s := &Service{Name: f.Name}
		part := f.Name
		part.Base = f.Name.Base + "_Request"
		if s.Request, err = parseMessage(part, lines[:at], 1); err != nil {
			return err
		}
		part.Base = f.Name.Base + "_Response"
		if s.Response, err = parseMessage(part, lines[at+1:], at+2); err != nil {
			return err
		}
		f.Service = s
		return nil
	}
	return fmt.Errorf("%q is not a kind of interface that is read here: msg or srv", f.Name.Kind)
}

// parseMessage reads lines, the first of which has number first in its file.
func parseMessage(name Name, lines []string, first int) (*Message, error) {
	m := &Message{Name: name}
	top := 0
	for top < len(lines) && strings.HasPrefix(lines[top], "#") {
		m.Comment = append(m.Comment, commentText(lines[top]))
		top++
	}
	var above []string // comment lines for the next element
	var last *[]string // what is behind the element before
	seen := map[string]bool{}
	for i, l := range lines[top:] {
		at := fmt.Sprintf("line %d", first+top+i)
		l = strings.TrimRight(strings.ReplaceAll(l, "\t", " "), " \r\v\f")
		if l == "" {
			continue
		}
		var behind []string
		if n := strings.IndexByte(l, '#'); n >= 0 {
			comment := commentText(l[n:])
			l = l[:n]
			if l != "" && strings.TrimSpace(l) == "" { // an indented comment belongs to what is above
				if last != nil {
					*last = append(*last, comment)
				}
				continue
			}
			if l = strings.TrimRight(l, " "); l == "" {
				above = append(above, comment)
				continue
			}
			behind = append(behind, comment)
		}
		kind, rest, _ := strings.Cut(l, " ")
		if rest = strings.TrimLeft(rest, " "); kind == "" || rest == "" {
			return nil, fmt.Errorf("%s: %q: want \"type name\"", at, l)
		}
		if len(m.Fields)+len(m.Constants) >= maxElements {
			return nil, fmt.Errorf("%s: more than %d fields and constants", at, maxElements)
		}
		var element string
		if id, value, ok := strings.Cut(rest, "="); ok {
			c, err := parseConstant(kind, strings.TrimRight(id, " "), strings.TrimLeft(value, " "))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", at, err)
			}
			c.Comment, c.Behind, element = above, behind, c.Name
			m.Constants = append(m.Constants, c)
			last = &m.Constants[len(m.Constants)-1].Behind
		} else {
			id, value, _ := strings.Cut(rest, " ")
			f, err := parseField(name.Package, kind, id, strings.TrimLeft(value, " "))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", at, err)
			}
			f.Comment, f.Behind, element = above, behind, f.Name
			m.Fields = append(m.Fields, f)
			last = &m.Fields[len(m.Fields)-1].Behind
		}
		if seen[element] {
			return nil, fmt.Errorf("%s: a second %q", at, element)
		}
		seen[element], above = true, nil
	}
	return m, nil
}

func commentText(s string) string {
	s = strings.TrimRight(strings.TrimLeft(s, "#"), " \t\r")
	return strings.TrimPrefix(s, " ")
}

func parseConstant(kind, name, value string) (Constant, error) {
	k, ok := primitives[kind]
	if !ok {
		return Constant{}, fmt.Errorf("constant of type %q: want a primitive type", kind)
	}
	if !validConstant(name) {
		return Constant{}, fmt.Errorf("%q is no constant name: upper case letters, digits and single underscores", name)
	}
	v, err := parseValue(Type{Kind: k}, value)
	if err != nil {
		return Constant{}, fmt.Errorf("constant %s: %w", name, err)
	}
	return Constant{Kind: k, Name: name, Value: v}, nil
}

func parseField(pkg, kind, name, value string) (Field, error) {
	t, err := parseType(pkg, kind)
	if err != nil {
		return Field{}, err
	}
	if !validPackage(name) { // the same rule
		return Field{}, fmt.Errorf("%q is no field name: lower case letters, digits and single underscores", name)
	}
	f := Field{Type: t, Name: name}
	if value != "" {
		if f.Default, err = parseDefault(t, value); err != nil {
			return Field{}, fmt.Errorf("default of %s: %w", name, err)
		}
	}
	return f, nil
}

// parseType reads a field's type as seen from package pkg.
func parseType(pkg, s string) (Type, error) {
	var t Type
	base := s
	if strings.HasSuffix(s, "]") {
		open := strings.LastIndexByte(s, '[')
		if open < 0 {
			return t, fmt.Errorf("type %q: ']' without '['", s)
		}
		size := s[open+1 : len(s)-1]
		base = s[:open]
		bound, bounded := strings.CutPrefix(size, "<=")
		switch {
		case size == "":
			t.Form = Sequence
		case bounded:
			t.Form = Bounded
		default:
			t.Form = Array
		}
		if t.Form != Sequence {
			n, err := strconv.ParseUint(bound, 10, 31)
			if err != nil || n == 0 || t.Form == Array && n > maxArray {
				return t, fmt.Errorf("type %q: size %q", s, bound)
			}
			t.Size = int(n)
		}
	}
	if k, ok := primitives[base]; ok {
		t.Kind = k
		return t, nil
	}
	if id, bound, ok := strings.Cut(base, "<="); ok {
		n, err := strconv.ParseUint(bound, 10, 31)
		if err != nil || n == 0 || n > maxBound {
			return t, fmt.Errorf("type %q: bound %q", s, bound)
		}
		t.StringBound = int(n)
		switch id {
		case "string":
			t.Kind = BoundedString
		case "wstring":
			t.Kind = BoundedWString
			if t.Form == Sequence { // rosidl's parser takes the string's bound for one of the sequence: so do its hashes and its C++ types
				t.Form, t.Size = Bounded, t.StringBound
			}
		default:
			return t, fmt.Errorf("type %q: only strings have such a bound", s)
		}
		return t, nil
	}
	if other, id, ok := strings.Cut(base, "/"); ok {
		pkg, base = other, id
	}
	if !validPackage(pkg) || !messagePattern.MatchString(base) {
		return t, fmt.Errorf("type %q is neither a primitive type nor a message's name", s)
	}
	t.Kind, t.Nested = Nested, Name{pkg, "msg", base}
	return t, nil
}
