package names

import "strings"

// DiscoveryTopic is the DDS topic on which participants tell their nodes; it has no prefix.
const DiscoveryTopic = "ros_discovery_info"

// Meaning says what a DDS topic is to ROS.
type Meaning uint8

// Meanings of DDS topics.
const (
	Foreign Meaning = iota // not of ROS
	IsTopic
	IsRequest // of a service
	IsReply
)

// DDSTopic is the DDS name of a topic with a full name.
func DDSTopic(full string) string { return "rt" + full }

// DDSRequest is the DDS topic of a service's requests.
func DDSRequest(full string) string { return "rq" + full + "Request" }

// DDSReply is the DDS topic of a service's replies.
func DDSReply(full string) string { return "rr" + full + "Reply" }

// FromDDSTopic returns the full name that a DDS topic stands for.
func FromDDSTopic(topic string) (string, Meaning) {
	if len(topic) < 4 || topic[2] != '/' {
		return "", Foreign
	}
	name := topic[2:]
	switch topic[:2] {
	case "rt":
		return name, IsTopic
	case "rq":
		if name, ok := strings.CutSuffix(name, "Request"); ok && len(name) > 1 {
			return name, IsRequest
		}
	case "rr":
		if name, ok := strings.CutSuffix(name, "Reply"); ok && len(name) > 1 {
			return name, IsReply
		}
	}
	return "", Foreign
}

// DDSType is the DDS name of a type such as "std_msgs/msg/String" or "std_srvs/srv/SetBool_Request".
func DDSType(ros string) string {
	i := strings.LastIndexByte(ros, '/')
	return strings.ReplaceAll(ros[:i+1], "/", "::") + "dds_::" + ros[i+1:] + "_"
}

// FromDDSType is the inverse of [DDSType]. What is not of ROS is returned as it is.
func FromDDSType(dds string) string {
	before, base, ok := strings.Cut(dds, "::dds_::")
	if !ok || !strings.HasSuffix(base, "_") || base == "_" || strings.Contains(base, "::") {
		return dds
	}
	return strings.ReplaceAll(before, "::", "/") + "/" + base[:len(base)-1]
}

// ServiceType returns the type of a service from that of its request or reply, "std_srvs/srv/SetBool" from
// "std_srvs/srv/SetBool_Request". It is false for other types.
func ServiceType(part string) (string, bool) {
	if s, ok := strings.CutSuffix(part, "_Request"); ok {
		return s, true
	}
	return strings.CutSuffix(part, "_Response")
}

// Hidden says that tools show the topic or node only when asked for: a part of its name begins with '_'.
func Hidden(full string) bool { return strings.Contains(full, "/_") }
