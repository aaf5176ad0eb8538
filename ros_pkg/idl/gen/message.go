package gen

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/idl"
)

// message writes a message's constants, struct and methods.
func (w *writer) message(m *idl.Message) error {
	typ := goType(m.Name)
	if err := w.declare(typ, m.Name.String()); err != nil {
		return err
	}
	hash, err := w.config.Set.Hash(m.Name)
	if err != nil {
		return err
	}
	if err := w.constants(m); err != nil {
		return err
	}
	names := fieldNames(m)
	w.printf("// %s is %s.\n", typ, m.Name)
	if len(m.Comment) > 0 {
		w.printf("//\n")
		w.comment(m.Comment)
	}
	w.printf("type %s struct {\n", typ)
	for i, f := range m.Fields {
		w.commented(i == 0, f.Comment, f.Behind, "%s %s", names[i], w.goFieldType(f.Type))
	}
	w.printf("}\n\n")
	if w.hasDefaults(m) {
		if err := w.defaults(m, names); err != nil {
			return err
		}
	}

	w.printf("// ROSType returns %q.\nfunc (*%s) ROSType() string { return %q }\n\n", m.Name, typ, m.Name)
	w.printf("// ROSTypeHash returns the RIHS01 hash of the type.\nfunc (*%s) ROSTypeHash() string { return %q }\n\n", typ, hash)
	w.printf("// ROSDefinition returns what the type was generated from.\n")
	w.printf("func (*%s) ROSDefinition() *cdr.Definition { return &%sDefinition }\n\n", typ, w.base())

	w.printf("// MarshalCDR writes m.\nfunc (m *%s) MarshalCDR(e *cdr.Encoder) {\n", typ)
	for i, f := range m.Fields {
		w.encode(f, "m."+names[i])
	}
	if len(m.Fields) == 0 {
		w.printf("\te.Empty()\n")
	}
	w.printf("}\n\n// UnmarshalCDR reads m, reusing its slices and strings.\nfunc (m *%s) UnmarshalCDR(d *cdr.Decoder) {\n", typ)
	for i, f := range m.Fields {
		size, err := w.minSize(f.Type.Element(), nil)
		if err != nil {
			return err
		}
		w.decode(f, "m."+names[i], size)
	}
	if len(m.Fields) == 0 {
		w.printf("\td.Empty()\n")
	}
	w.printf("}\n\n")
	return nil
}

func (w *writer) constants(m *idl.Message) error {
	if len(m.Constants) == 0 {
		return nil
	}
	typ := goType(m.Name)
	w.printf("// The constants of [%s].\nconst (\n", typ)
	for i, c := range m.Constants {
		id := constantName(typ, c.Name)
		if err := w.declare(id, "constant "+c.Name+" of "+m.Name.String()); err != nil {
			return err
		}
		v := literal(c.Kind, c.Value)
		if strings.HasPrefix(v, "math.") {
			return fmt.Errorf("constant %s: Go has no such constant", c.Name)
		}
		w.commented(i == 0, c.Comment, c.Behind, "%s %s = %s", id, goKind(c.Kind), v)
	}
	w.printf(")\n\n")
	return nil
}

// commented writes a declaration with what is above and behind it. One short line above goes behind, if nothing else is there; what stays above, stays
// apart from what was before.
func (w *writer) commented(first bool, above, behind []string, f string, args ...any) {
	above, behind = trim(above), trim(behind)
	if len(args) == 2 && len(behind) == 0 && len(above) == 1 { // of fields only: a line above constants is about all that follow
		above, behind = nil, above
	}
	if len(behind) > 1 || len(behind) == 1 && len(behind[0]) > 120 {
		above, behind = append(above, behind...), nil
	}
	if len(above) > 0 && !first {
		w.printf("\n")
	}
	w.comment(above)
	w.printf("\t"+f, args...)
	if len(behind) > 0 {
		w.printf(" // %s", behind[0])
	}
	w.printf("\n")
}

func (w *writer) comment(lines []string) {
	for _, l := range trim(lines) {
		w.printf("%s\n", strings.TrimRight("// "+l, " "))
	}
}

// trim cuts empty lines at both ends.
func trim(lines []string) []string {
	for len(lines) > 0 && lines[0] == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// plural names the Encoder and Decoder methods of a slice of k.
func plural(k idl.Kind) string {
	if goKind(k) == "uint8" {
		return "Bytes"
	}
	return singular(k) + "s"
}

func singular(k idl.Kind) string {
	switch k {
	case idl.BoundedString, idl.String:
		return "String"
	case idl.BoundedWString, idl.WString:
		return "WString"
	}
	s := goKind(k)
	return strings.ToUpper(s[:1]) + s[1:]
}

func (w *writer) encode(f idl.Field, v string) {
	t := f.Type
	if t.Form == idl.Single {
		switch {
		case t.Kind == idl.Nested:
			w.printf("\t%s.MarshalCDR(e)\n", v)
		case t.StringBound > 0:
			w.printf("\te.%sMax(%s, %d)\n", singular(t.Kind), v, t.StringBound)
		default:
			w.printf("\te.%s(%s)\n", singular(t.Kind), v)
		}
		return
	}
	switch t.Form {
	case idl.Array:
		if t.Kind != idl.Nested {
			v += "[:]"
		}
	case idl.Bounded:
		if t.Kind == idl.Nested {
			w.printf("\tfor i := range %s[:e.SequenceLenMax(len(%s), %d)] {\n\t\t%s[i].MarshalCDR(e)\n\t}\n", v, v, t.Size, v)
			return
		}
		v = fmt.Sprintf("%s[:e.SequenceLenMax(len(%s), %d)]", v, v, t.Size)
	default:
		w.printf("\te.SequenceLen(len(%s))\n", v)
	}
	switch {
	case t.Kind == idl.Nested:
		w.printf("\tfor i := range %s {\n\t\t%s[i].MarshalCDR(e)\n\t}\n", v, v)
	case t.StringBound > 0:
		w.printf("\te.%sMax(%s, %d)\n", plural(t.Kind), v, t.StringBound)
	default:
		w.printf("\te.%s(%s)\n", plural(t.Kind), v)
	}
}

func (w *writer) decode(f idl.Field, v string, elementSize int) {
	t := f.Type
	switch t.Form {
	case idl.Single:
		switch {
		case t.Kind == idl.Nested:
			w.printf("\t%s.UnmarshalCDR(d)\n", v)
		case t.StringBound > 0:
			w.printf("\td.%sMax(&%s, %d)\n", singular(t.Kind), v, t.StringBound)
		case t.Kind.IsString():
			w.printf("\td.%sTo(&%s)\n", singular(t.Kind), v)
		default:
			w.printf("\t%s = d.%s()\n", v, singular(t.Kind))
		}
		return
	case idl.Bounded:
		w.printf("\t%s = cdr.Resize(%s, d.SequenceLenMax(%d, %d))\n", v, v, elementSize, t.Size)
	case idl.Sequence:
		w.printf("\t%s = cdr.Resize(%s, d.SequenceLen(%d))\n", v, v, elementSize)
	}
	if t.Kind == idl.Nested {
		w.printf("\tfor i := range %s {\n\t\t%s[i].UnmarshalCDR(d)\n\t}\n", v, v)
		return
	}
	if t.Form == idl.Array {
		v += "[:]"
	}
	if t.StringBound > 0 {
		w.printf("\td.%sMax(%s, %d)\n", plural(t.Kind), v, t.StringBound)
	} else {
		w.printf("\td.%s(%s)\n", plural(t.Kind), v)
	}
}

var wireSizes = map[idl.Kind]int{
	idl.Int8: 1, idl.Uint8: 1, idl.Byte: 1, idl.Bool: 1, idl.Int16: 2, idl.Uint16: 2, idl.Int32: 4, idl.Uint32: 4, idl.Float32: 4,
	idl.Int64: 8, idl.Uint64: 8, idl.Float64: 8, idl.String: 4, idl.WString: 4, idl.BoundedString: 4, idl.BoundedWString: 4,
}

// minSize returns how many bytes a value takes at least, padding not counted.
func (w *writer) minSize(t idl.Type, within []idl.Name) (int, error) {
	size := wireSizes[t.Kind]
	switch {
	case t.Form == idl.Sequence || t.Form == idl.Bounded:
		return 4, nil
	case t.Kind == idl.Nested:
		if len(within) > 64 {
			return 0, fmt.Errorf("%s contains itself, or is nested too deep", within[0])
		}
		f, err := w.config.Set.Lookup(t.Nested)
		if err != nil {
			return 0, err
		}
		for _, field := range f.Message.Fields {
			n, err := w.minSize(field.Type, append(within, t.Nested))
			if err != nil {
				return 0, err
			}
			size += n
		}
		size = max(size, 1)
	}
	if t.Form == idl.Array {
		size *= t.Size
	}
	return size, nil
}

// hasDefaults reports whether m or a message in it has default values. Elements of sequences do not count: a new message has none.
func (w *writer) hasDefaults(m *idl.Message) bool {
	for _, f := range m.Fields {
		if f.Default != nil || w.nestedDefaults(f.Type) {
			return true
		}
	}
	return false
}

func (w *writer) nestedDefaults(t idl.Type) bool {
	if t.Kind != idl.Nested || t.Form != idl.Single && t.Form != idl.Array {
		return false
	}
	f, err := w.config.Set.Lookup(t.Nested)
	return err == nil && w.hasDefaults(f.Message)
}

func (w *writer) defaults(m *idl.Message, names []string) error {
	typ := goType(m.Name)
	if err := w.declare("New"+typ, "the constructor of "+m.Name.String()); err != nil {
		return err
	}
	w.printf("// New%s returns a message with the default values set.\n", typ)
	w.printf("func New%s() *%s {\n\tm := new(%s)\n\tm.SetDefaults()\n\treturn m\n}\n\n", typ, typ, typ)
	w.printf("// SetDefaults sets the default values, and what has none to zero.\nfunc (m *%s) SetDefaults() {\n\t*m = %s{\n", typ, typ)
	for i, f := range m.Fields {
		if f.Default == nil {
			continue
		}
		v := ""
		if list, ok := f.Default.([]any); ok {
			parts := make([]string, len(list))
			for i, x := range list {
				parts[i] = w.literal(f.Type.Kind, x)
			}
			v = w.goFieldType(f.Type) + "{" + strings.Join(parts, ", ") + "}"
		} else {
			v = w.literal(f.Type.Kind, f.Default)
		}
		w.printf("\t\t%s: %s,\n", names[i], v)
	}
	w.printf("\t}\n")
	for i, f := range m.Fields {
		if !w.nestedDefaults(f.Type) {
			continue
		}
		if f.Type.Form == idl.Array {
			w.printf("\tfor i := range m.%s {\n\t\tm.%s[i].SetDefaults()\n\t}\n", names[i], names[i])
		} else {
			w.printf("\tm.%s.SetDefaults()\n", names[i])
		}
	}
	w.printf("}\n\n")
	return nil
}

func (w *writer) literal(k idl.Kind, v any) string {
	s := literal(k, v)
	if strings.Contains(s, "math.") {
		w.imports["math"] = true
	}
	return s
}

// literal returns a value as Go source.
func literal(k idl.Kind, v any) string {
	switch v := v.(type) {
	case float64:
		switch {
		case v != v:
			return wrapFloat32(k, "math.NaN()")
		case v > 1.7976931348623157e308:
			return wrapFloat32(k, "math.Inf(1)")
		case v < -1.7976931348623157e308:
			return wrapFloat32(k, "math.Inf(-1)")
		}
		return strconv.FormatFloat(v, 'g', -1, map[idl.Kind]int{idl.Float32: 32, idl.Float64: 64}[k])
	case string:
		return strconv.Quote(v)
	}
	return fmt.Sprint(v)
}

func wrapFloat32(k idl.Kind, s string) string {
	if k == idl.Float32 {
		return "float32(" + s + ")"
	}
	return s
}
