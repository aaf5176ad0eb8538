package param

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rcl_interfaces"
)

// Type is a parameter's type, numbered as in rcl_interfaces/msg/ParameterType.
type Type uint8

// Types of parameters.
const (
	NotSet Type = iota
	Bool
	Integer
	Double
	String
	ByteArray
	BoolArray
	IntegerArray
	DoubleArray
	StringArray
)

var typeNames = [...]string{"not set", "bool", "integer", "double", "string", "byte_array", "bool_array", "integer_array", "double_array", "string_array"}

// String returns the type's name as ROS tools show it.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "type " + strconv.Itoa(int(t))
}

// Native lists the Go types of values.
type Native interface {
	bool | int64 | float64 | string | []byte | []bool | []int64 | []float64 | []string
}

// Value is a parameter's value. The zero Value is of type [NotSet].
type Value struct {
	v any // one of Native; owned
}

// Of makes a Value. A slice is copied.
func Of[T Native](v T) Value { return Value{clone(v)} }

// FromAny is [Of] for a value whose type is not known, with int, float32 and the like taken for their big brothers.
func FromAny(v any) (Value, error) {
	switch v := v.(type) {
	case nil:
		return Value{}, nil
	case bool, int64, float64, string, []byte, []bool, []int64, []float64, []string:
		return Value{clone(v)}, nil
	case int:
		return Value{int64(v)}, nil
	case int32:
		return Value{int64(v)}, nil
	case uint32:
		return Value{int64(v)}, nil
	case float32:
		return Value{float64(v)}, nil
	case []int:
		out := make([]int64, len(v))
		for i := range v {
			out[i] = int64(v[i])
		}
		return Value{out}, nil
	}
	return Value{}, fmt.Errorf("a %T cannot be a parameter's value", v)
}

func clone(v any) any {
	switch v := v.(type) {
	case []byte:
		return append([]byte{}, v...)
	case []bool:
		return append([]bool{}, v...)
	case []int64:
		return append([]int64{}, v...)
	case []float64:
		return append([]float64{}, v...)
	case []string:
		return append([]string{}, v...)
	}
	return v
}

// As returns the value as T. It is false if it is of another type.
func As[T Native](v Value) (T, bool) {
	t, ok := v.v.(T)
	if !ok {
		return t, false
	}
	return clone(t).(T), true
}

// Any returns the value as one of the types of [Native], nil for the zero Value.
func (v Value) Any() any { return clone(v.v) }

// Type returns the value's type.
func (v Value) Type() Type {
	switch v.v.(type) {
	case bool:
		return Bool
	case int64:
		return Integer
	case float64:
		return Double
	case string:
		return String
	case []byte:
		return ByteArray
	case []bool:
		return BoolArray
	case []int64:
		return IntegerArray
	case []float64:
		return DoubleArray
	case []string:
		return StringArray
	}
	return NotSet
}

// Equal compares type and value; NaN equals itself.
func (v Value) Equal(o Value) bool {
	switch a := v.v.(type) {
	case nil:
		return o.v == nil
	case float64:
		b, ok := o.v.(float64)
		return ok && sameFloat(a, b)
	case []byte:
		b, ok := o.v.([]byte)
		return ok && slices.Equal(a, b)
	case []bool:
		b, ok := o.v.([]bool)
		return ok && slices.Equal(a, b)
	case []int64:
		b, ok := o.v.([]int64)
		return ok && slices.Equal(a, b)
	case []float64:
		b, ok := o.v.([]float64)
		return ok && slices.EqualFunc(a, b, sameFloat)
	case []string:
		b, ok := o.v.([]string)
		return ok && slices.Equal(a, b)
	}
	switch o.v.(type) { // only what can be compared
	case bool, int64, string:
		return v.v == o.v
	}
	return false
}

func sameFloat(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }

// String writes the value as YAML would.
func (v Value) String() string {
	switch x := v.v.(type) {
	case nil:
		return "not set"
	case float64:
		return floatString(x)
	case []float64:
		parts := make([]string, len(x))
		for i := range x {
			parts[i] = floatString(x[i])
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case []string:
		parts := make([]string, len(x))
		for i := range x {
			parts[i] = strconv.Quote(x[i])
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case []bool, []int64, []byte:
		return strings.ReplaceAll(fmt.Sprint(x), " ", ", ")
	}
	return fmt.Sprint(v.v)
}

func floatString(f float64) string {
	switch {
	case math.IsNaN(f):
		return ".nan"
	case math.IsInf(f, 1):
		return ".inf"
	case math.IsInf(f, -1):
		return "-.inf"
	}
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

// promoted returns v as type t where nothing is lost by it and no reader could mean otherwise: integers as doubles, an empty array as any
// array. Command lines and files say "10" and "[]" for them.
func (v Value) promoted(t Type) Value {
	switch x := v.v.(type) {
	case int64:
		if t == Double {
			return Value{float64(x)}
		}
	case []int64:
		switch t {
		case DoubleArray:
			out := make([]float64, len(x))
			for i := range x {
				out[i] = float64(x[i])
			}
			return Value{out}
		case ByteArray:
			out := make([]byte, len(x))
			for i := range x {
				if x[i] < 0 || x[i] > math.MaxUint8 {
					return v
				}
				out[i] = byte(x[i])
			}
			return Value{out}
		}
	}
	return v.emptyAs(t)
}

// emptyAs returns an empty array of type t for an empty array of any type: "[]" does not say what it has none of, and tools guess. Other values stay.
func (v Value) emptyAs(t Type) Value {
	n := 1
	switch x := v.v.(type) {
	case []byte:
		n = len(x)
	case []bool:
		n = len(x)
	case []int64:
		n = len(x)
	case []float64:
		n = len(x)
	case []string:
		n = len(x)
	}
	if n > 0 {
		return v
	}
	switch t {
	case ByteArray:
		return Value{[]byte{}}
	case BoolArray:
		return Value{[]bool{}}
	case IntegerArray:
		return Value{[]int64{}}
	case DoubleArray:
		return Value{[]float64{}}
	case StringArray:
		return Value{[]string{}}
	}
	return v
}

// Message returns the value as ROS sends it.
func (v Value) Message() rcl_interfaces.ParameterValue {
	m := rcl_interfaces.ParameterValue{Type: uint8(v.Type())}
	switch x := v.Any().(type) {
	case bool:
		m.BoolValue = x
	case int64:
		m.IntegerValue = x
	case float64:
		m.DoubleValue = x
	case string:
		m.StringValue = x
	case []byte:
		m.ByteArrayValue = x
	case []bool:
		m.BoolArrayValue = x
	case []int64:
		m.IntegerArrayValue = x
	case []float64:
		m.DoubleArrayValue = x
	case []string:
		m.StringArrayValue = x
	}
	return m
}

// FromMessage is the inverse of [Value.Message].
func FromMessage(m *rcl_interfaces.ParameterValue) (Value, error) {
	switch Type(m.Type) {
	case NotSet:
		return Value{}, nil
	case Bool:
		return Of(m.BoolValue), nil
	case Integer:
		return Of(m.IntegerValue), nil
	case Double:
		return Of(m.DoubleValue), nil
	case String:
		return Of(m.StringValue), nil
	case ByteArray:
		return Of(m.ByteArrayValue), nil
	case BoolArray:
		return Of(m.BoolArrayValue), nil
	case IntegerArray:
		return Of(m.IntegerArrayValue), nil
	case DoubleArray:
		return Of(m.DoubleArrayValue), nil
	case StringArray:
		return Of(m.StringArrayValue), nil
	}
	return Value{}, fmt.Errorf("%d is no type of a parameter", m.Type)
}

// Size is about how many bytes the value takes.
func (v Value) Size() int {
	switch x := v.v.(type) {
	case string:
		return len(x)
	case []byte:
		return len(x)
	case []bool:
		return len(x)
	case []int64:
		return 8 * len(x)
	case []float64:
		return 8 * len(x)
	case []string:
		n := 0
		for _, s := range x {
			n += len(s) + 8
		}
		return n
	}
	return 8
}
