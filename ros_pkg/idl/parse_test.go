package idl

import (
	"reflect"
	"strings"
	"testing"
)

func mustParse(t testing.TB, name, text string) *File {
	t.Helper()
	n, err := ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(n, text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestParseMessage(t *testing.T) {
	f := mustParse(t, "p/msg/T", "# The top,\n#  two lines.\n\n# of a group\nuint8 A=1 # one\n  # and a half\nuint8\tB  =  0x10\nstring TEXT = \"it's\" # quoted\n"+
		"# above\ngeometry_msgs/Point[3] points # behind\nstring<=5[<=2] names ['a', \"b, c\"]\nwstring w 'tab\\tquote\\'s'\nbool[] flags [true, False, 1, 0]\r\n"+
		"int64 low -9223372036854775808\nuint64 high 18446744073709551615\nOther other\nfloat32[2] f [1, -2.5e3]\nstring plain two words\n")
	want := &Message{
		Name:    Name{"p", "msg", "T"},
		Comment: []string{"The top,", " two lines."},
		Constants: []Constant{
			{Uint8, "A", uint64(1), []string{"of a group"}, []string{"one", "and a half"}},
			{Uint8, "B", uint64(16), nil, nil},
			{String, "TEXT", "it's", nil, []string{"quoted"}},
		},
		Fields: []Field{
			{Type{Nested, Array, 3, 0, Name{"geometry_msgs", "msg", "Point"}}, "points", nil, []string{"above"}, []string{"behind"}},
			{Type{Kind: BoundedString, Form: Bounded, Size: 2, StringBound: 5}, "names", []any{"a", "b, c"}, nil, nil},
			{Type{Kind: WString}, "w", "tab\tquote's", nil, nil},
			{Type{Kind: Bool, Form: Sequence}, "flags", []any{true, false, true, false}, nil, nil},
			{Type{Kind: Int64}, "low", int64(-1 << 63), nil, nil},
			{Type{Kind: Uint64}, "high", uint64(1<<64 - 1), nil, nil},
			{Type{Kind: Nested, Nested: Name{"p", "msg", "Other"}}, "other", nil, nil, nil},
			{Type{Kind: Float32, Form: Array, Size: 2}, "f", []any{1.0, -2500.0}, nil, nil},
			{Type{Kind: String}, "plain", "two words", nil, nil},
		},
	}
	if !reflect.DeepEqual(f.Message, want) {
		t.Errorf("got  %+v\nwant %+v", f.Message, want)
	}
	types := []string{"geometry_msgs/Point[3]", "string<=5[<=2]", "wstring", "bool[]", "int64", "uint64", "p/Other", "float32[2]", "string"}
	for i, want := range types {
		if got := f.Message.Fields[i].Type.String(); got != want {
			t.Errorf("type %q, want %q", got, want)
		}
	}
	if got := f.Uses(); !reflect.DeepEqual(got, []Name{{"geometry_msgs", "msg", "Point"}, {"p", "msg", "Other"}}) {
		t.Errorf("uses %v", got)
	}
}

func TestParseService(t *testing.T) {
	f := mustParse(t, "p/srv/Do", "# Do it.\nint8 x\n---\n# done\n")
	if s := f.Service; s.Request.Name.Base != "Do_Request" || len(s.Request.Fields) != 1 || s.Response.Name.Base != "Do_Response" || len(s.Response.Fields) != 0 ||
		s.Response.Comment[0] != "done" {
		t.Errorf("%+v %+v", s.Request, s.Response)
	}
}

func TestRefused(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"P/msg/T", "", "package name"},
		{"p__q/msg/T", "", "package name"},
		{"p/msg/t", "", "type name"},
		{"p/msg/T_x", "", "type name"},
		{"p/action/T", "", "kind of interface"},
		{"p/srv/T", "int8 a\n", `no line "---"`},
		{"p/srv/T", "---\n---\n", "line 2: a second"},
		{"p/msg/T", "int8\n", "line 1"},
		{"p/msg/T", "\n\nint8 Big\n", "line 3"},
		{"p/msg/T", "int8 a_\n", "no field name"},
		{"p/msg/T", "int8 a__b\n", "no field name"},
		{"p/msg/T", "int8 a\nint16 a\n", `line 2: a second "a"`},
		{"p/srv/T", "int8 a\n---\n\nint8 b\nint8 b\n", "line 5"},
		{"p/msg/T", "int8 low=1\n", "no constant name"},
		{"p/msg/T", "int8[] LIST=[1]\n", "primitive type"},
		{"p/msg/T", "Other K=1\n", "primitive type"},
		{"p/msg/T", "uint8 a 256\n", "range"},
		{"p/msg/T", "uint8 a -1\n", "range"},
		{"p/msg/T", "int8 a 128\n", "range"},
		{"p/msg/T", "int32 a 1.5\n", "range"},
		{"p/msg/T", "float32 a 1e60\n", "float32"},
		{"p/msg/T", "bool a yes\n", "true or false"},
		{"p/msg/T", "string a \"x\"y\"\n", "backslash"},
		{"p/msg/T", "string a '\\q'\n", "escape"},
		{"p/msg/T", "string<=2 a abc\n", "longer than 2"},
		{"p/msg/T", "int8[2] a [1]\n", "1 elements"},
		{"p/msg/T", "int8[<=1] a [1, 2]\n", "2 elements"},
		{"p/msg/T", "int8[] a 1\n", "want [value"},
		{"p/msg/T", "string[] a ['x]\n", "not closed"},
		{"p/msg/T", "Other a 1\n", "only primitive types"},
		{"p/msg/T", "int8[0] a\n", "size"},
		{"p/msg/T", "int8[-1] a\n", "size"},
		{"p/msg/T", "int8[99999999999] a\n", "size"},
		{"p/msg/T", "int8] a\n", "without '['"},
		{"p/msg/T", "string<=0 a\n", "bound"},
		{"p/msg/T", "string<=x a\n", "bound"},
		{"p/msg/T", "int8<=3 a\n", "only strings"},
		{"p/msg/T", "a/b/C d\n", "neither"},
		{"p/msg/T", "string a \xff\n", "UTF-8"},
		{"p/msg/T", strings.Repeat("#", maxText+1), "at most"},
		{"p/msg/T", "int8 A=1\nstring s a=b\n", "no constant name"}, // as rosidl: a '=' makes a constant
	}
	for _, test := range tests {
		p := strings.Split(test.name, "/")
		_, err := Parse(Name{p[0], p[1], p[2]}, test.text)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %.40q: error %v, want %q in it", test.name, test.text, err, test.want)
		}
	}
	for _, s := range []string{"", "p/T", "p/msg/", "P/msg/T", "p/msg/T/x", "p/action/T"} {
		if n, err := ParseName(s); err == nil {
			t.Errorf("ParseName(%q) = %v", s, n)
		}
	}
}

// FuzzParse: no text breaks the parser, and what it accepts can be described.
func FuzzParse(f *testing.F) {
	for _, file := range shared(f).Package("test_msgs") {
		f.Add(file.Name.Kind == "srv", file.Text)
	}
	f.Add(false, "string<=3[<=2] a ['\\'', \"\\u00e9\"] # x\n\t# y\nwstring B=\"\\x41\"\n")
	f.Fuzz(func(t *testing.T, srv bool, text string) {
		name := Name{"p", "msg", "T"}
		if srv {
			name.Kind = "srv"
		}
		file, err := Parse(name, text)
		if err != nil {
			return
		}
		set := new(Set)
		set.Add(file)
		set.Add(mustParse(t, "service_msgs/msg/ServiceEventInfo", "uint8 event_type\n"))
		for _, u := range file.Uses() {
			if _, err := set.Lookup(u); err != nil {
				set.Add(mustParse(t, u.String(), ""))
			}
		}
		if _, err := set.Hash(name); err != nil && !strings.Contains(err.Error(), "itself") {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
