package ros

import (
	"errors"
	"fmt"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/param"
)

// EndpointOption changes how a publisher or subscription is made.
type EndpointOption func(*endpointOptions)

type endpointOptions struct {
	overridable bool
	id          string
}

// QoSOverrides lets whoever starts the program change depth, durability, history and reliability of a publisher or subscription, by read-only parameters as rclcpp
// has them: qos_overrides./chatter.publisher.depth. An id tells endpoints of one node on one topic apart; it goes behind "publisher" or "subscription" with an underscore.
func QoSOverrides(id string) EndpointOption {
	return func(o *endpointOptions) { o.overridable, o.id = true, id }
}

// overridden is qos with what the parameters of an endpoint say. kind is "publisher" or "subscription".
func (n *Node) overridden(kind, topic string, qos QoS, opts []EndpointOption) (QoS, error) {
	var o endpointOptions
	for _, opt := range opts {
		opt(&o)
	}
	if !o.overridable {
		return qos, nil
	}
	if o.id != "" {
		kind += "_" + o.id
	}
	prefix := "qos_overrides." + topic + "." + kind + "."
	get := func(policy string, def param.Value) (param.Value, error) {
		d := param.Descriptor{ReadOnly: true, Description: fmt.Sprintf("qos policy {%s} for %s {%s}", policy, kind, topic)}
		v, err := n.params.declare(prefix+policy, def, d)
		if errors.Is(err, param.ErrDeclared) { // by an endpoint before this one
			v, _ = n.params.set.Get(prefix + policy)
			err = nil
		}
		return v, err
	}
	depth, err := get("depth", param.Of(int64(qos.depth())))
	if err != nil {
		return qos, err
	}
	number, _ := param.As[int64](depth)
	if number < 0 || number > maxDepth {
		return qos, fmt.Errorf("parameter %sdepth is %d: 0 to %d are possible", prefix, number, maxDepth)
	}
	for _, p := range []struct {
		policy string
		value  *bool
		words  [2]string // of false and true
	}{
		{"durability", &qos.TransientLocal, [2]string{"volatile", "transient_local"}},
		{"history", &qos.KeepAll, [2]string{"keep_last", "keep_all"}},
		{"reliability", &qos.BestEffort, [2]string{"reliable", "best_effort"}},
	} {
		word := p.words[0]
		if *p.value {
			word = p.words[1]
		}
		v, err := get(p.policy, param.Of(word))
		if err != nil {
			return qos, err
		}
		switch word, _ = param.As[string](v); word {
		case p.words[0]:
			*p.value = false
		case p.words[1]:
			*p.value = true
		case "system_default":
		default:
			return qos, fmt.Errorf("parameter %s%s is %q and neither %s nor %s", prefix, p.policy, word, p.words[0], p.words[1])
		}
	}
	qos.Depth = int(number)
	return qos, nil
}

// maxDepth bounds a depth that comes from a parameter, in messages.
const maxDepth = 1 << 20
