package idl

import (
	"fmt"
	"strings"
)

// Name is the full name of a type.
type Name struct {
	Package string // "std_msgs"
	Kind    string // "msg" or "srv"
	Base    string // "Header"; parts of services are "SetBool_Request", "SetBool_Response", "SetBool_Event"
}

// String returns the name as ROS writes it: "std_msgs/msg/Header".
func (n Name) String() string { return n.Package + "/" + n.Kind + "/" + n.Base }

// ParseName reads "std_msgs/msg/Header".
func ParseName(s string) (Name, error) {
	p := strings.Split(s, "/")
	if len(p) != 3 || !validPackage(p[0]) || p[1] != "msg" && p[1] != "srv" || p[2] == "" {
		return Name{}, fmt.Errorf("idl: %q is not of the form package/msg/Type", s)
	}
	return Name{p[0], p[1], p[2]}, nil
}

// Kind is the kind of a single value, numbered as in type_description_interfaces/msg/FieldType.
type Kind uint8

// The kinds of values. A .msg's "char" is a uint8.
const (
	Nested         Kind = 1
	Int8           Kind = 2
	Uint8          Kind = 3
	Int16          Kind = 4
	Uint16         Kind = 5
	Int32          Kind = 6
	Uint32         Kind = 7
	Int64          Kind = 8
	Uint64         Kind = 9
	Float32        Kind = 10
	Float64        Kind = 11
	Bool           Kind = 15
	Byte           Kind = 16
	String         Kind = 17
	WString        Kind = 18
	BoundedString  Kind = 21
	BoundedWString Kind = 22
)

var primitives = map[string]Kind{
	"bool": Bool, "byte": Byte, "char": Uint8, "float32": Float32, "float64": Float64,
	"int8": Int8, "uint8": Uint8, "int16": Int16, "uint16": Uint16, "int32": Int32, "uint32": Uint32, "int64": Int64, "uint64": Uint64,
	"string": String, "wstring": WString,
}

var kindNames = map[Kind]string{
	Bool: "bool", Byte: "byte", Float32: "float32", Float64: "float64",
	Int8: "int8", Uint8: "uint8", Int16: "int16", Uint16: "uint16", Int32: "int32", Uint32: "uint32", Int64: "int64", Uint64: "uint64",
	String: "string", WString: "wstring", BoundedString: "string", BoundedWString: "wstring",
}

// IsString reports whether k is a kind of string.
func (k Kind) IsString() bool {
	return k == String || k == WString || k == BoundedString || k == BoundedWString
}

// Form says how many values a field holds, numbered as what FieldType adds to the kind.
type Form uint8

// The forms of fields.
const (
	Single   Form = 0
	Array    Form = 48  // T[N]
	Bounded  Form = 96  // T[<=N]
	Sequence Form = 144 // T[]
)

// Type is the type of a field.
type Type struct {
	Kind        Kind
	Form        Form
	Size        int  // of an Array; the bound of a Bounded sequence
	StringBound int  // of BoundedString and BoundedWString
	Nested      Name // of Nested
}

// Element returns the type of one element.
func (t Type) Element() Type {
	t.Form, t.Size = Single, 0
	return t
}

// String returns the type as an interface file has it, nested ones with their package.
func (t Type) String() string {
	s := kindNames[t.Kind]
	if t.Kind == Nested {
		s = t.Nested.Package + "/" + t.Nested.Base
	}
	if t.StringBound > 0 {
		s += fmt.Sprintf("<=%d", t.StringBound)
	}
	switch t.Form {
	case Array:
		s += fmt.Sprintf("[%d]", t.Size)
	case Bounded:
		s += fmt.Sprintf("[<=%d]", t.Size)
	case Sequence:
		s += "[]"
	}
	return s
}

// Field is one field of a message.
type Field struct {
	Type    Type
	Name    string
	Default any      // bool, int64, uint64, float64, string, a []any of them, or nil; signed integers are int64, unsigned ones uint64
	Comment []string // the lines above it, without '#'
	Behind  []string // what is behind it on its line, and the indented lines below
}

// Constant is one constant of a message.
type Constant struct {
	Kind    Kind
	Name    string
	Value   any      // as in [Field].Default
	Comment []string // as of a Field
	Behind  []string
}

// Message is a message, or one part of a service.
type Message struct {
	Name      Name
	Fields    []Field
	Constants []Constant
	Comment   []string // the lines at the top of the file
}

// Service is a service.
type Service struct {
	Name     Name
	Request  *Message
	Response *Message
}

// File is one interface file: a message or a service.
type File struct {
	Name    Name
	Text    string
	Message *Message // of a .msg
	Service *Service // of a .srv
}

// messages returns the messages that the file defines.
func (f *File) messages() []*Message {
	if f.Service != nil {
		return []*Message{f.Service.Request, f.Service.Response}
	}
	return []*Message{f.Message}
}

// Uses returns the types that the file names, in order and once each. Those a service uses tacitly are not among them.
func (f *File) Uses() []Name {
	var names []Name
	seen := map[Name]bool{f.Name: true}
	for _, m := range f.messages() {
		for _, field := range m.Fields {
			if t := field.Type; t.Kind == Nested && !seen[t.Nested] {
				seen[t.Nested] = true
				names = append(names, t.Nested)
			}
		}
	}
	return names
}
