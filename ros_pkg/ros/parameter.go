package ros

import (
	"fmt"
	"slices"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/builtin_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rcl_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/param"
)

// ParameterType lists the Go types of parameters. An int is an int64 to others.
type ParameterType interface{ param.Native | int }

// Parameter is a parameter of a node.
type Parameter[T ParameterType] struct {
	n    *Node
	name string
}

// ParameterOption tells more about a parameter.
type ParameterOption func(*param.Descriptor)

// Description tells people what the parameter is for.
func Description(s string) ParameterOption {
	return func(d *param.Descriptor) { d.Description = s }
}

// Constraints tells people what values make sense.
func Constraints(s string) ParameterOption {
	return func(d *param.Descriptor) { d.Constraints = s }
}

// ReadOnly lets the value be given at the start only.
func ReadOnly() ParameterOption { return func(d *param.Descriptor) { d.ReadOnly = true } }

// Range bounds an int or int64, both ends included. A step above 0 allows only from plus its multiples, and to.
func Range(from, to int64, step uint64) ParameterOption {
	return func(d *param.Descriptor) { d.Integers = &param.IntegerRange{From: from, To: to, Step: step} }
}

// RangeFloat is [Range] for a float64.
func RangeFloat(from, to, step float64) ParameterOption {
	return func(d *param.Descriptor) { d.Doubles = &param.DoubleRange{From: from, To: to, Step: step} }
}

// DeclareParameter declares a parameter of the type of def. Its value is what the program was started with (-p, --params-file), or def. An integer there does
// for a float64.
//
//	rate, err := ros.DeclareParameter(node, "rate", 1.0, ros.Description("Publishing rate in Hz."), ros.RangeFloat(0.1, 100, 0))
//	rate.Get()
func DeclareParameter[T ParameterType](n *Node, name string, def T, opts ...ParameterOption) (*Parameter[T], error) {
	v, err := param.FromAny(def)
	if err != nil {
		return nil, err
	}
	var d param.Descriptor
	for _, opt := range opts {
		opt(&d)
	}
	if _, err := n.params.declare(name, v, d); err != nil {
		return nil, err
	}
	return &Parameter[T]{n, name}, nil
}

// Name is the parameter's name.
func (p *Parameter[T]) Name() string { return p.name }

// Get returns the value of the moment, zero if the parameter was deleted.
func (p *Parameter[T]) Get() (t T) {
	v, _ := p.n.params.set.Get(p.name)
	switch out := any(&t).(type) {
	case *int:
		i, _ := param.As[int64](v)
		*out = int(i)
	case *bool:
		*out, _ = param.As[bool](v)
	case *int64:
		*out, _ = param.As[int64](v)
	case *float64:
		*out, _ = param.As[float64](v)
	case *string:
		*out, _ = param.As[string](v)
	case *[]byte:
		*out, _ = param.As[[]byte](v)
	case *[]bool:
		*out, _ = param.As[[]bool](v)
	case *[]int64:
		*out, _ = param.As[[]int64](v)
	case *[]float64:
		*out, _ = param.As[[]float64](v)
	case *[]string:
		*out, _ = param.As[[]string](v)
	}
	return t
}

// Set changes the value, as a request from outside would.
func (p *Parameter[T]) Set(v T) error {
	value, err := param.FromAny(v)
	if err != nil {
		return err
	}
	return p.n.SetParameters(param.Parameter{Name: p.name, Value: value})
}

// SetParameters sets parameters, all or none.
func (n *Node) SetParameters(params ...param.Parameter) error { return n.params.apply(params...) }

// Parameters is the node's set: for what is not here. Changes made on it directly are not published.
func (n *Node) Parameters() *param.Set { return n.params.set }

// CheckParameters has f asked before parameters are set, with all that are set together; its error is the reason why they are not. f must not set parameters. The returned
// function ends that.
func (n *Node) CheckParameters(f func([]param.Parameter) error) (stop func()) {
	return n.params.set.Check(f)
}

// OnParameters has f called after parameters were set.
func (n *Node) OnParameters(f func(param.Change)) (stop func()) {
	p := n.params
	p.mu.Lock()
	defer p.mu.Unlock()
	g := &f
	p.after = append(p.after, g)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.after = slices.DeleteFunc(slices.Clone(p.after), func(o *func(param.Change)) bool { return o == g })
	}
}

// parameters is a node's set with what tells of its changes.
type parameters struct {
	n      *Node
	set    *param.Set
	events *publisher

	order sync.Mutex // held from a change until it is published

	mu    sync.Mutex
	after []*func(param.Change)
}

func (p *parameters) declare(name string, v param.Value, d param.Descriptor) (param.Value, error) {
	p.order.Lock()
	value, err := p.set.Declare(name, v, d)
	if err != nil {
		p.order.Unlock()
		return value, err
	}
	change := param.Change{New: []param.Parameter{{Name: name, Value: value}}}
	p.publish(&change)
	p.order.Unlock()
	p.tell(change)
	return value, nil
}

func (p *parameters) apply(params ...param.Parameter) error {
	p.order.Lock()
	change, err := p.set.Apply(params...)
	if err != nil || change.Empty() {
		p.order.Unlock()
		return err
	}
	p.publish(&change)
	p.order.Unlock()
	p.tell(change)
	return nil
}

// publish writes the change to /parameter_events, once that is open.
func (p *parameters) publish(c *param.Change) {
	if p.events == nil {
		return
	}
	m := &rcl_interfaces.ParameterEvent{Stamp: builtin_interfaces.FromTime(p.n.Now()), Node: p.n.FullName(),
		NewParameters: parameterMessages(c.New), ChangedParameters: parameterMessages(c.Changed), DeletedParameters: parameterMessages(c.Deleted)}
	if err := p.events.publish(m, m.Stamp.AsTime()); err != nil {
		p.n.log.Debug("cannot publish a change of parameters", "error", err)
	}
}

func parameterMessages(list []param.Parameter) []rcl_interfaces.Parameter {
	var out []rcl_interfaces.Parameter
	for _, q := range list {
		out = append(out, rcl_interfaces.Parameter{Name: q.Name, Value: q.Value.Message()})
	}
	return out
}

// tell calls who wants to know.
func (p *parameters) tell(c param.Change) {
	p.mu.Lock()
	after := p.after
	p.mu.Unlock()
	for _, f := range after {
		(*f)(c)
	}
}

// openParameters makes the node's set, its services and the parameters that every node has.
func (n *Node) openParameters() error {
	p := &parameters{n: n, set: param.NewSet(n.c.args.Params.For(n.FullName()))}
	n.params = p
	topic, err := n.ResolveTopic("/parameter_events")
	if err != nil {
		return err
	}
	qos, err := n.overridden("publisher", topic, QoSParameterEvents, []EndpointOption{QoSOverrides("")})
	if err != nil {
		return err
	}
	events := new(publisher)
	if err := events.open(n, topic, new(rcl_interfaces.ParameterEvent), qos); err != nil {
		return err
	}
	p.events = events
	if err := p.serve(); err != nil {
		return err
	}
	sim, err := DeclareParameter(n, "use_sim_time", false, Description("Take the time from /clock."))
	if err != nil {
		return err
	}
	n.OnParameters(func(c param.Change) {
		for _, q := range c.Changed {
			if q.Name != "use_sim_time" {
				continue
			}
			if err := n.simulate(sim.Get()); err != nil {
				n.log.Error("cannot follow /clock", "error", err)
			}
		}
	})
	if err := n.simulate(sim.Get()); err != nil {
		return fmt.Errorf("cannot follow /clock: %w", err)
	}
	return nil
}
