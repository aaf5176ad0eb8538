package param

import (
	"errors"
	"fmt"
	"math"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rcl_interfaces"
)

// Descriptor tells about a parameter. Name and Type are filled in by [Set.Declare].
type Descriptor struct {
	Name        string
	Type        Type
	Description string
	Constraints string // in words, for people
	ReadOnly    bool   // set at declaration only, by an override perhaps
	Dynamic     bool   // may change its type, and be deleted
	Integers    *IntegerRange
	Doubles     *DoubleRange
}

// IntegerRange bounds a parameter of type [Integer]. Both ends are allowed; between them, with Step above 0, From plus multiples of Step.
type IntegerRange struct {
	From, To int64
	Step     uint64
}

// DoubleRange is [IntegerRange] for type [Double].
type DoubleRange struct{ From, To, Step float64 }

var errEmptyRange = errors.New("its range is empty")

// check says what is wrong with a descriptor for a parameter of type t.
func (d *Descriptor) check(t Type) error {
	switch {
	case d.Integers != nil && d.Doubles != nil:
		return errors.New("it has a range of integers and one of doubles")
	case d.Dynamic && (d.Integers != nil || d.Doubles != nil):
		return errors.New("it has a range, so its type cannot be dynamic")
	case d.Integers != nil && t != Integer, d.Doubles != nil && t != Double:
		return fmt.Errorf("its range is not for its type, %v", t)
	case d.Integers != nil && d.Integers.From > d.Integers.To:
		return errEmptyRange
	case d.Doubles != nil && !(d.Doubles.From <= d.Doubles.To && d.Doubles.Step >= 0):
		return errEmptyRange
	}
	return nil
}

// allows says why v must not be the parameter's value.
func (d *Descriptor) allows(v Value) error {
	if v.Type() != d.Type && !d.Dynamic {
		return &typeError{d.Name, d.Type, v.Type()}
	}
	if n := v.Size(); n > MaxValue {
		return fmt.Errorf("parameter {%s} of %d bytes: at most %d", d.Name, n, MaxValue)
	}
	if i, ok := v.v.(int64); ok && d.Integers != nil && !d.Integers.contains(i) {
		return fmt.Errorf("parameter {%s} doesn't comply with integer range: %d is not in %d..%d%s", d.Name, i,
			d.Integers.From, d.Integers.To, steps(float64(d.Integers.Step)))
	}
	if f, ok := v.v.(float64); ok && d.Doubles != nil && !d.Doubles.contains(f) {
		return fmt.Errorf("parameter {%s} doesn't comply with floating point range: %v is not in %v..%v%s", d.Name, f,
			d.Doubles.From, d.Doubles.To, steps(d.Doubles.Step))
	}
	return nil
}

// typeError is a value of the wrong type, in the words that rclcpp has for it and tools look for.
type typeError struct {
	name      string
	want, got Type
}

func (e *typeError) Error() string {
	return fmt.Sprintf("Wrong parameter type, parameter {%s} is of type {%v}, setting it to {%v} is not allowed.", e.name, e.want, e.got)
}

func steps(step float64) string {
	if step == 0 {
		return ""
	}
	return fmt.Sprintf(" in steps of %v", step)
}

func (r *IntegerRange) contains(v int64) bool {
	if v == r.To || r.Step == 0 {
		return r.From <= v && v <= r.To
	}
	// The difference of two int64 fits a uint64.
	return r.From <= v && v <= r.To && (uint64(v)-uint64(r.From))%r.Step == 0
}

func (r *DoubleRange) contains(v float64) bool {
	if near(v, r.From) || near(v, r.To) {
		return true
	}
	if !(r.From <= v && v <= r.To) { // NaN too
		return false
	}
	return r.Step == 0 || near(v, r.From+math.Round((v-r.From)/r.Step)*r.Step)
}

// near is equality but for rounding, as rclcpp has it: within 100 units in the last place.
func near(a, b float64) bool {
	if a == b {
		return true
	}
	return math.Abs(a-b) <= 100*0x1p-52*math.Abs(a+b)
}

// Message returns the descriptor as ROS sends it.
func (d *Descriptor) Message() rcl_interfaces.ParameterDescriptor {
	m := rcl_interfaces.ParameterDescriptor{Name: d.Name, Type: uint8(d.Type), Description: d.Description,
		AdditionalConstraints: d.Constraints, ReadOnly: d.ReadOnly, DynamicTyping: d.Dynamic}
	if r := d.Integers; r != nil {
		m.IntegerRange = []rcl_interfaces.IntegerRange{{FromValue: r.From, ToValue: r.To, Step: r.Step}}
	}
	if r := d.Doubles; r != nil {
		m.FloatingPointRange = []rcl_interfaces.FloatingPointRange{{FromValue: r.From, ToValue: r.To, Step: r.Step}}
	}
	return m
}
