package watch

import "strings"

// Kind is what a row of the table counts.
type Kind uint8

// The kinds.
const (
	Unknown   Kind = iota // a writer whose announcement was not seen; its name has the GUID
	Topic                 // a ROS topic, or a DDS topic by its own name
	Service               // a ROS service: requests and replies
	Action                // a ROS action: its services and topics
	Discovery             // SPDP, SEDP and the other endpoints of the protocol's own
	Other                 // what is not RTPS: by protocol
)

var kindNames = [...]string{"unknown", "topic", "service", "action", "discovery", "other"}

func (k Kind) String() string { return kindNames[k] }

// name is what a DDS topic is called in ROS.
type name struct {
	kind Kind
	text string
	typ  string // "" if it is not known
}

// rosName turns a DDS topic's name and type into ROS's (https://design.ros2.org/articles/topic_and_service_names.html): rt/a is topic /a; rq/sRequest and
// rr/sReply are service /s; what has _action in it belongs to an action. What ROS did not make keeps its name.
func rosName(topic, typ string) name {
	n := name{Topic, topic, rosType(typ)}
	prefix, rest, ok := strings.Cut(topic, "/")
	if !ok {
		return n
	}
	rest = "/" + rest
	switch prefix {
	case "rt":
		n.text = rest
	case "rq":
		n.kind, n.text = Service, strings.TrimSuffix(rest, "Request")
	case "rr":
		n.kind, n.text = Service, strings.TrimSuffix(rest, "Reply")
	default:
		return n
	}
	if action, _, ok := strings.Cut(n.text, "/_action/"); ok && action != "" {
		n.kind, n.text = Action, action
	}
	return n
}

// rosType turns pkg::msg::dds_::T_ into pkg/msg/T. Of services and actions the parts have one name, that of the whole.
func rosType(typ string) string {
	parts := strings.Split(typ, "::")
	if len(parts) != 4 || parts[2] != "dds_" {
		return typ
	}
	t := strings.TrimSuffix(parts[3], "_")
	var ends []string
	switch parts[1] {
	case "srv":
		ends = []string{"_Request", "_Response", "_Event"}
	case "action":
		ends = []string{"_SendGoal_Request", "_SendGoal_Response", "_GetResult_Request", "_GetResult_Response", "_FeedbackMessage", "_SendGoal_Event", "_GetResult_Event"}
	}
	for _, end := range ends {
		if cut, ok := strings.CutSuffix(t, end); ok {
			t = cut
			break
		}
	}
	return parts[0] + "/" + parts[1] + "/" + t
}

// isAction says that a type is an action's own and not one that all actions share.
func isAction(typ string) bool { return strings.Contains(typ, "/action/") }
