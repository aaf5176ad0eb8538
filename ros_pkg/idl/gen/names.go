package gen

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/idl"
)

// initialisms are the words that Go names write in capitals.
var initialisms = map[string]string{
	"id": "ID", "ids": "IDs", "uid": "UID", "uuid": "UUID", "gid": "GID", "guid": "GUID", "ip": "IP", "url": "URL", "uri": "URI", "udp": "UDP", "tcp": "TCP",
	"rtt": "RTT", "nat": "NAT", "mtu": "MTU", "ok": "OK", "api": "API", "cpu": "CPU", "lan": "LAN", "qos": "QoS", "uv": "UV", "ns": "NS",
}

// goType returns the Go name of a message: "SetBool_Request" is SetBoolRequest.
func goType(n idl.Name) string { return strings.ReplaceAll(n.Base, "_", "") }

// camel turns snake_case or CONSTANT_CASE into a Go name.
func camel(s string) string {
	var b strings.Builder
	for _, word := range strings.Split(strings.ToLower(s), "_") {
		if up, ok := initialisms[word]; ok {
			b.WriteString(up)
		} else if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// constantName returns the Go name of a message's constant, not repeating the message's name: FIELD_TYPE_INT8 of FieldType is FieldTypeInt8.
func constantName(typ, name string) string {
	c := camel(name)
	if rest, ok := strings.CutPrefix(c, typ); ok && rest != "" && unicode.IsUpper(rune(rest[0])) {
		return c
	}
	return typ + c
}

// fieldNames returns the Go names of m's fields.
func fieldNames(m *idl.Message) []string {
	methods := []string{"ROSType", "ROSTypeHash", "ROSDefinition", "MarshalCDR", "UnmarshalCDR", "SetDefaults"}
	taken := map[string]bool{}
	for _, id := range methods {
		taken[id] = true
	}
	names := make([]string, len(m.Fields))
	for i, f := range m.Fields {
		id := camel(f.Name)
		for taken[id] {
			id += "_"
		}
		taken[id], names[i] = true, id
	}
	return names
}

// snake turns a type's name into a file's: "ParameterEvent" is "parameter_event", "UInt8" is "uint8", "ColorRGBA" is "color_rgba".
func snake(s string) string {
	var b strings.Builder
	r := []rune(s)
	for i, c := range r {
		if unicode.IsUpper(c) && i > 0 {
			word := i > 1 && i+1 < len(r) && unicode.IsLower(r[i+1]) && !unicode.IsLower(r[i-1]) // the first letter of one after capitals or digits
			if unicode.IsLower(r[i-1]) || word {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

var goKinds = map[idl.Kind]string{
	idl.Int8: "int8", idl.Uint8: "uint8", idl.Byte: "uint8", idl.Int16: "int16", idl.Uint16: "uint16", idl.Int32: "int32", idl.Uint32: "uint32",
	idl.Int64: "int64", idl.Uint64: "uint64", idl.Float32: "float32", idl.Float64: "float64", idl.Bool: "bool",
	idl.String: "string", idl.WString: "string", idl.BoundedString: "string", idl.BoundedWString: "string",
}

func goKind(k idl.Kind) string { return goKinds[k] }

// goFieldType returns the Go type of a field.
func (w *writer) goFieldType(t idl.Type) string {
	base := goKind(t.Kind)
	if t.Kind == idl.Nested {
		base = w.ref(t.Nested.Package, goType(t.Nested))
	}
	switch t.Form {
	case idl.Array:
		return "[" + strconv.Itoa(t.Size) + "]" + base
	case idl.Bounded, idl.Sequence:
		return "[]" + base
	}
	return base
}
