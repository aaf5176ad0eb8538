package param

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestParseValue(t *testing.T) {
	for _, c := range []struct {
		text string
		want Value
	}{
		{"1", Of(int64(1))},
		{"-7", Of(int64(-7))},
		{"+7", Of(int64(7))},
		{"0x1F", Of(int64(31))},
		{"010", Of(int64(8))}, // as in C
		{"1_000", Of("1_000")},
		{"0b1", Of("0b1")},
		{"1.5", Of(1.5)},
		{"1e3", Of(1000.0)},
		{"-.5", Of(-.5)},
		{".inf", Of(math.Inf(1))},
		{"-.inf", Of(math.Inf(-1))},
		{".nan", Of(math.NaN())},
		{"inf", Of(math.Inf(1))},
		{"-Infinity", Of(math.Inf(-1))},
		{"NaN", Of(math.NaN())},
		{"'inf'", Of("inf")},
		{"info", Of("info")},
		{"99999999999999999999", Of(1e20)},
		{"true", Of(true)},
		{"Off", Of(false)},
		{"y", Of(true)},
		{"yEs", Of("yEs")},
		{"hello world", Of("hello world")},
		{"'1'", Of("1")},
		{`"true"`, Of("true")},
		{"!!str 1", Of("1")},
		{"''", Of("")},
		{"[1, 2]", Of([]int64{1, 2})},
		{"[1, 2.5]", Of([]float64{1, 2.5})},
		{"[2.5, 1]", Of([]float64{2.5, 1})},
		{"[true, off]", Of([]bool{true, false})},
		{"[a, '1']", Of([]string{"a", "1"})},
		{"[]", Of([]string{})},
		{"/a/b:c", Of("/a/b:c")},
	} {
		v, err := ParseValue(c.text)
		if err != nil || !v.Equal(c.want) {
			t.Errorf("%s: %v (%v) %v, want %v (%v)", c.text, v, v.Type(), err, c.want, c.want.Type())
		}
	}
	for _, bad := range []string{"", "{a: 1}", "[1, a]", "[[1]]", "[{a: 1}]", "[true, 1]", "[", "[&a 1, *a]", "# comment"} {
		if v, err := ParseValue(bad); err == nil {
			t.Errorf("%q: %v", bad, v)
		}
	}
}

const file = `
/**:
  ros__parameters:
    rate: 1
    deep: {er: {most: yes}}
    list: [1.0, 2]
fleet:
  robot:
    ros__parameters:
      rate: 2
/fleet/other: {ros__parameters: {rate: 3}}
/*/robot:
  ros__parameters: {one: 1}
/**/robot:
  ros__parameters: {any: 1}
plain: {ros__parameters: }
`

func TestFile(t *testing.T) {
	var o Overrides
	if err := o.File([]byte(file)); err != nil {
		t.Fatal(err)
	}
	if err := o.Argument("", "cli", "7"); err != nil {
		t.Fatal(err)
	}
	if err := o.Argument("robot", "root", "7"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ node, want string }{
		{"/plain", "cli=7 deep.er.most=true list=[1.0, 2.0] rate=1"},
		{"/fleet/robot", "any=1 cli=7 deep.er.most=true list=[1.0, 2.0] one=1 rate=2"},
		{"/fleet/other", "cli=7 deep.er.most=true list=[1.0, 2.0] rate=3"},
		{"/robot", "any=1 cli=7 deep.er.most=true list=[1.0, 2.0] rate=1 root=7"},
		{"/a/b/robot", "any=1 cli=7 deep.er.most=true list=[1.0, 2.0] rate=1"},
	} {
		var got []string
		for k, v := range o.For(c.node) {
			got = append(got, k+"="+v.String())
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s\nwant %s", c.node, s, c.want)
		}
	}
}

func TestFileErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"ros__parameters: {a: 1}", "without the name"},
		{"a: 1", "line 1"},
		{"a:\n  ros__parameters:\n    b: [1, x]", "line 3"},
		{"a:\n  ros__parameters: [1]", "line 2"},
		{"a: {ros__parameters: {b: }}", "no value"},
		{"x: &x {a: 1}\ny: {ros__parameters: *x}", "line 1"},
		{"a: {ros__parameters: {b: &x 1, c: *x}}", "aliases"},
		{"a: {ros__parameters: {" + strings.Repeat("b", 256) + ": 1}}", "256 bytes"},
		{strings.Repeat("{a: ", 100) + "1" + strings.Repeat("}", 100), "too deep"},
		{"\t", "yaml"},
		{strings.Repeat("#", MaxFile+1), "at most"},
	} {
		var o Overrides
		if err := o.File([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: %v, want %q in it", c.text, err, c.want)
		}
	}
	var o Overrides
	if err := o.File(nil); err != nil {
		t.Error("an empty file:", err)
	}
}

func TestMessages(t *testing.T) {
	for _, v := range []Value{{}, Of(true), Of(int64(1)), Of(1.5), Of("s"), Of([]byte{1}), Of([]bool{true}), Of([]int64{1}), Of([]float64{1}), Of([]string{"a"})} {
		m := v.Message()
		got, err := FromMessage(&m)
		if err != nil || !got.Equal(v) || Type(m.Type) != v.Type() {
			t.Errorf("%v: %v %v", v, got, err)
		}
	}
	m := Of(true).Message()
	m.Type = 10
	if _, err := FromMessage(&m); err == nil {
		t.Error("type 10 passes")
	}
}

func TestDeclare(t *testing.T) {
	s := NewSet(map[string]Value{"rate": Of(int64(10)), "list": Of([]string{}), "bad": Of("text"), "far": Of(int64(11)), "unused": Of(true)})
	for _, c := range []struct {
		name string
		def  Value
		d    Descriptor
		want Value
		ok   bool
	}{
		{"rate", Of(1.0), Descriptor{}, Of(10.0), true},
		{"rate", Of(1.0), Descriptor{}, Value{}, false},
		{"list", Of([]float64{1}), Descriptor{}, Of([]float64{}), true},
		{"bad", Of(1.0), Descriptor{}, Value{}, false},
		{"bad", Of(1.0), Descriptor{Dynamic: true}, Of("text"), true},
		{"far", Of(int64(1)), Descriptor{Integers: &IntegerRange{0, 10, 1}}, Value{}, false},
		{"plain", Of("x"), Descriptor{ReadOnly: true}, Of("x"), true},
		{"", Of("x"), Descriptor{}, Value{}, false},
		{"none", Value{}, Descriptor{}, Value{}, false},
		{"wrong", Of(1.0), Descriptor{Integers: &IntegerRange{0, 1, 0}}, Value{}, false},
		{"outside", Of(2.0), Descriptor{Doubles: &DoubleRange{0, 1, 0}}, Value{}, false},
		{"empty", Of(2.0), Descriptor{Doubles: &DoubleRange{3, 1, 0}}, Value{}, false},
	} {
		got, err := s.Declare(c.name, c.def, c.d)
		if (err == nil) != c.ok || !got.Equal(c.want) {
			t.Errorf("%s: %v %v, want %v", c.name, got, err, c.want)
		}
	}
	if got := s.Overrides(); !slices.Equal(got, []string{"far", "unused"}) {
		t.Errorf("unused: %v", got)
	}
}

func TestApply(t *testing.T) {
	s := NewSet(nil)
	must := func(name string, v Value, d Descriptor) {
		t.Helper()
		if _, err := s.Declare(name, v, d); err != nil {
			t.Fatal(err)
		}
	}
	must("i", Of(int64(1)), Descriptor{Integers: &IntegerRange{1, 10, 2}})
	must("f", Of(0.5), Descriptor{Doubles: &DoubleRange{0, 1, 0.1}})
	must("s", Of("x"), Descriptor{})
	must("ro", Of("x"), Descriptor{ReadOnly: true})
	must("dyn", Of("x"), Descriptor{Dynamic: true})
	stop := s.Check(func(list []Parameter) error {
		for _, p := range list {
			if p.Value.Equal(Of("veto")) {
				return errors.New("vetoed")
			}
			s.Get(p.Name) // reading is allowed
		}
		return nil
	})
	for _, c := range []struct {
		name string
		v    Value
		want string // in the error
	}{
		{"i", Of(int64(9)), ""},
		{"i", Of(int64(10)), ""}, // the end, though no step leads to it
		{"i", Of(int64(8)), "range"},
		{"i", Of(int64(11)), "range"},
		{"i", Of(9.0), "Wrong parameter type, parameter {i} is of type {integer}, setting it to {double} is not allowed."},
		{"f", Of(0.30000000000000004), ""},
		{"f", Of(0.35), "range"},
		{"f", Of(math.NaN()), "range"},
		{"f", Of(1.0), ""},
		{"s", Of("veto"), "vetoed"},
		{"s", Value{}, "not allowed"},
		{"s", Of(strings.Repeat("x", MaxValue+1)), "at most"},
		{"ro", Of("y"), "read-only"},
		{"no", Of("y"), "not declared"},
		{"dyn", Of(1.5), ""},
		{"dyn", Value{}, ""},
		{"dyn", Of("x"), "not declared"},
	} {
		_, err := s.Apply(Parameter{c.name, c.v})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s = %.20v: %v, want %q", c.name, c.v, err, c.want)
		}
	}
	// All or none.
	if _, err := s.Apply(Parameter{"s", Of("new")}, Parameter{"i", Of(int64(99))}); err == nil {
		t.Error("the second is out of its range")
	}
	if v, _ := s.Get("s"); !v.Equal(Of("x")) {
		t.Errorf("s is %v after a refused change", v)
	}
	if _, err := s.Apply(Parameter{"s", Of("a")}, Parameter{"s", Of("b")}); err == nil {
		t.Error("one parameter twice")
	}
	stop()
	change, err := s.Apply(Parameter{"s", Of("veto")}, Parameter{"i", Of(int64(3))})
	if err != nil || len(change.Changed) != 2 || change.Empty() {
		t.Error(change, err)
	}
	if _, ok := s.Undeclare("ro"); ok {
		t.Error("a read-only parameter is gone")
	}
	if change, ok := s.Undeclare("s"); !ok || len(change.Deleted) != 1 {
		t.Error(change, ok)
	}
}

func TestList(t *testing.T) {
	s := NewSet(nil)
	for _, name := range []string{"a", "b.c", "b.d.e", "bc", "b"} {
		if _, err := s.Declare(name, Of(true), Descriptor{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		prefixes string
		depth    uint64
		names    string
		groups   string
	}{
		{"", 0, "a b b.c b.d.e bc", "b b.d"},
		{"", 1, "a b bc", ""},
		{"", 2, "a b b.c bc", "b"},
		{"b", 0, "b b.c b.d.e", "b b.d"},
		{"b", 1, "b b.c", "b"},
		{"b.d", 1, "b.d.e", "b.d"},
		{"a bc", 0, "a bc", ""},
		{"z", 0, "", ""},
	} {
		names, groups := s.List(strings.Fields(c.prefixes), c.depth)
		if strings.Join(names, " ") != c.names || strings.Join(groups, " ") != c.groups {
			t.Errorf("%q depth %d: %v %v", c.prefixes, c.depth, names, groups)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add(file, "/fleet/robot")
	f.Add("a: {ros__parameters: {b: [1, 2.5], c: !!str 1, d: 0x1F}}", "/a")
	f.Add("/**/*: {ros__parameters: {b: .nan}}", "/a/b/c")
	f.Fuzz(func(t *testing.T, text, node string) {
		var o Overrides
		if o.File([]byte(text)) != nil {
			return
		}
		for name, v := range o.For(node) {
			if v.Type() == NotSet || name == "" || len(name) > MaxName {
				t.Errorf("%q = %v", name, v)
			}
			m := v.Message()
			if back, err := FromMessage(&m); err != nil || !back.Equal(v) {
				t.Errorf("%q: %v became %v: %v", name, v, back, err)
			}
		}
	})
}

func FuzzValue(f *testing.F) {
	for _, s := range []string{"1", "[1, 2]", "'x'", "0x7fffffffffffffff", "-.inf"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseValue(s)
		if err == nil && v.Type() == NotSet {
			t.Errorf("%q has no type", s)
		}
	})
}

// TestEmptyArray: tools send "[]" as an array of some type, which is none in particular.
func TestEmptyArray(t *testing.T) {
	s := NewSet(map[string]Value{"given": Of([]bool{})})
	for name, def := range map[string]Value{"words": Of([]string{"a"}), "numbers": Of([]int64{1}), "given": Of([]float64{1}), "one": Of("x")} {
		if _, err := s.Declare(name, def, Descriptor{}); err != nil {
			t.Fatal(err)
		}
	}
	if v, _ := s.Get("given"); !v.Equal(Of([]float64{})) {
		t.Errorf("started with %v", v)
	}
	change, err := s.Apply(Parameter{"words", Of([]bool{})}, Parameter{"numbers", Of([]string{})})
	if err != nil || len(change.Changed) != 2 || !change.Changed[0].Value.Equal(Of([]string{})) {
		t.Errorf("%+v %v", change, err)
	}
	if v, _ := s.Get("numbers"); !v.Equal(Of([]int64{})) {
		t.Errorf("%v", v)
	}
	for _, p := range []Parameter{{"one", Of([]bool{})}, {"words", Of([]bool{true})}} {
		if _, err := s.Apply(p); err == nil {
			t.Errorf("%v passes", p)
		}
	}
}
