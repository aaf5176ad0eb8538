package idl

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Description is a type description (REP 2011, REP 2016), what type_description_interfaces/msg/TypeDescription holds: a type and all types it is made of.
type Description struct {
	Type       Individual
	Referenced []Individual // sorted by name
}

// Individual describes one type.
type Individual struct {
	Name   string
	Fields []FieldDescription
}

// FieldDescription describes one field.
type FieldDescription struct {
	Name           string
	TypeID         uint8  // kind and form: type_description_interfaces/msg/FieldType
	Capacity       uint64 // size of an array, bound of a bounded sequence
	StringCapacity uint64 // bound of a bounded string
	Nested         string // "" for primitive types
	Default        string // no part of the hash
}

// placeholder is the field that rosidl gives a message without fields, since IDL knows no empty structure.
const placeholder = "structure_needs_at_least_one_member"

var eventInfo = Name{"service_msgs", "msg", "ServiceEventInfo"}

// Hash returns the RIHS01 type hash: the SHA-256 of the description as JSON, default values left out.
func (d *Description) Hash() string {
	sum := sha256.Sum256(d.appendJSON(nil))
	return "RIHS01_" + hex.EncodeToString(sum[:])
}

// appendJSON appends the form that is hashed: REP 2016 fixes every space of it. All text in it is ASCII without characters to escape.
func (d *Description) appendJSON(b []byte) []byte {
	b = append(b, `{"type_description": `...)
	b = d.Type.appendJSON(b)
	b = append(b, `, "referenced_type_descriptions": [`...)
	for i := range d.Referenced {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = d.Referenced[i].appendJSON(b)
	}
	return append(b, "]}"...)
}

func (t *Individual) appendJSON(b []byte) []byte {
	b = fmt.Appendf(b, `{"type_name": "%s", "fields": [`, t.Name)
	for i, f := range t.Fields {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = fmt.Appendf(b, `{"name": "%s", "type": {"type_id": %d, "capacity": %d, "string_capacity": %d, "nested_type_name": "%s"}}`,
			f.Name, f.TypeID, f.Capacity, f.StringCapacity, f.Nested)
	}
	return append(b, "]}"...)
}

// Describe returns the description of a message, a service, or a request, response or event of a service. lookup returns the file
// of a message or of a service; an error of its stops the description.
func Describe(name Name, lookup func(Name) (*File, error)) (*Description, error) {
	known := map[string]*Individual{}
	// individual describes one type and, being asked for a part of a service, finds the service.
	individual := func(n Name) (*Individual, error) {
		of := n
		part := ""
		if n.Kind == "srv" {
			if at := strings.LastIndexByte(n.Base, '_'); at >= 0 {
				of.Base, part = n.Base[:at], n.Base[at+1:]
			}
		}
		f, err := lookup(of)
		if err != nil {
			return nil, err
		}
		switch {
		case f.Message != nil && n.Kind == "msg":
			return describeMessage(f.Message), nil
		case f.Service == nil:
		case part == "":
			return describeService(f.Service), nil
		case part == "Request":
			return describeMessage(f.Service.Request), nil
		case part == "Response":
			return describeMessage(f.Service.Response), nil
		case part == "Event":
			return describeEvent(f.Service), nil
		}
		return nil, fmt.Errorf("idl: %s: no such type", n)
	}
	top, err := individual(name)
	if err != nil {
		return nil, err
	}
	for queue := references(top); len(queue) > 0; queue = queue[1:] {
		if known[queue[0]] != nil {
			continue
		}
		n, err := ParseName(queue[0])
		if err != nil {
			return nil, err
		}
		t, err := individual(n)
		if err != nil {
			return nil, fmt.Errorf("%s needs %s: %w", name, n, err)
		}
		known[queue[0]] = t
		queue = append(queue, references(t)...)
	}
	known[top.Name] = top
	if circle(top, known, map[string]int{}) {
		return nil, fmt.Errorf("idl: %s contains itself, or a type that does", name)
	}
	delete(known, top.Name)
	d := &Description{Type: *top}
	for _, t := range known {
		d.Referenced = append(d.Referenced, *t)
	}
	slices.SortFunc(d.Referenced, func(a, b Individual) int { return strings.Compare(a.Name, b.Name) })
	return d, nil
}

// circle reports whether t leads to a type that contains itself. ahead is 1 while a type is being looked at and 2 after.
func circle(t *Individual, known map[string]*Individual, ahead map[string]int) bool {
	if ahead[t.Name] > 0 {
		return ahead[t.Name] == 1
	}
	ahead[t.Name] = 1
	for _, r := range references(t) {
		if circle(known[r], known, ahead) {
			return true
		}
	}
	ahead[t.Name] = 2
	return false
}

func references(t *Individual) []string {
	var names []string
	for _, f := range t.Fields {
		if f.Nested != "" {
			names = append(names, f.Nested)
		}
	}
	return names
}

func describeMessage(m *Message) *Individual {
	t := &Individual{Name: m.Name.String()}
	for _, f := range m.Fields {
		d := FieldDescription{Name: f.Name, TypeID: uint8(f.Type.Kind) + uint8(f.Type.Form), Capacity: uint64(f.Type.Size),
			StringCapacity: uint64(f.Type.StringBound), Default: pythonText(f.Default, false)}
		if f.Type.Kind == Nested {
			d.Nested = f.Type.Nested.String()
		}
		t.Fields = append(t.Fields, d)
	}
	if len(m.Fields) == 0 {
		t.Fields = []FieldDescription{{Name: placeholder, TypeID: uint8(Uint8)}}
	}
	return t
}

func describeService(s *Service) *Individual {
	name := s.Name.String()
	return &Individual{name, []FieldDescription{
		{Name: "request_message", TypeID: uint8(Nested), Nested: name + "_Request"},
		{Name: "response_message", TypeID: uint8(Nested), Nested: name + "_Response"},
		{Name: "event_message", TypeID: uint8(Nested), Nested: name + "_Event"},
	}}
}

// describeEvent describes what a service's introspection publishes: when, and the request or the response.
func describeEvent(s *Service) *Individual {
	name := s.Name.String()
	optional := uint8(Nested) + uint8(Bounded)
	return &Individual{name + "_Event", []FieldDescription{
		{Name: "info", TypeID: uint8(Nested), Nested: eventInfo.String()},
		{Name: "request", TypeID: optional, Capacity: 1, Nested: name + "_Request"},
		{Name: "response", TypeID: optional, Capacity: 1, Nested: name + "_Response"},
	}}
}

// pythonText writes a default value as the descriptions that rosidl generates have it: as Python's str() and, for elements of tuples, repr().
func pythonText(v any, element bool) string {
	switch v := v.(type) {
	case nil:
		return ""
	case bool:
		if v {
			return "True"
		}
		return "False"
	case float64:
		return pythonFloat(v)
	case string:
		if !element {
			return v
		}
		if strings.Contains(v, "'") && !strings.Contains(v, `"`) {
			return `"` + v + `"`
		}
		return "'" + strings.ReplaceAll(strings.ReplaceAll(v, `\`, `\\`), "'", `\'`) + "'"
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = pythonText(x, true)
		}
		if len(parts) == 1 {
			return "(" + parts[0] + ",)"
		}
		return "(" + strings.Join(parts, ", ") + ")"
	}
	return fmt.Sprint(v)
}

func pythonFloat(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "nan"
	case math.IsInf(v, 0):
		return strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(v, 'g', -1, 64), "+"))
	case a != 0 && (a < 1e-4 || a >= 1e16):
		return strconv.FormatFloat(v, 'e', -1, 64)
	}
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
