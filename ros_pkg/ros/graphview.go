package ros

import (
	"maps"
	"slices"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/graph"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/names"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// NodeInfo is a node of the graph.
type NodeInfo struct {
	Name      string
	Namespace string
	Enclave   string
	Vendor    string // of its DDS, "Fast DDS"
	Own       bool   // of this program
}

// FullName is namespace and name.
func (n *NodeInfo) FullName() string { return names.Join(n.Namespace, n.Name) }

// NamedTypes is a topic or service with the types it is used with, of which there should be one.
type NamedTypes struct {
	Name  string
	Types []string // "std_msgs/msg/String"
}

// EndpointInfo is a publisher or subscription of the graph.
type EndpointInfo struct {
	GUID          wire.GUID
	Topic, Type   string
	TypeHash      string // "" if it tells none, as before Iron
	QoS           QoS
	NodeName      string // "" if its node is not known
	NodeNamespace string
}

// Nodes returns the nodes of the domain, own ones included, sorted by their full names. Two of the same name are both there.
func (c *Context) Nodes() []NodeInfo {
	participants := map[wire.GuidPrefix]*rtps.ParticipantInfo{}
	for _, p := range c.dom.Graph().Participants {
		participants[p.Prefix] = p
	}
	c.mu.Lock()
	entries := c.book.Nodes()
	c.mu.Unlock()
	own := c.dom.GUID().Prefix
	var out []NodeInfo
	for i := range entries {
		e := &entries[i]
		info := NodeInfo{Name: e.Name, Namespace: e.Namespace, Own: e.Participant == own}
		if p := participants[e.Participant]; p != nil {
			info.Vendor = p.Vendor.String()
			info.Enclave, _ = graph.UserData(p.UserData, "enclave")
		} else if !info.Own {
			continue // it told its nodes and left
		}
		if info.Own {
			info.Enclave = c.args.Enclave
		}
		out = append(out, info)
	}
	return out
}

// Topics returns the topics of the domain, sorted.
func (c *Context) Topics() []NamedTypes {
	g := c.dom.Graph()
	found := map[string]map[string]bool{}
	for _, list := range [][]*rtps.Endpoint{g.Writers, g.Readers} {
		for _, e := range list {
			if name, meaning := names.FromDDSTopic(e.Topic); meaning == names.IsTopic {
				note(found, name, names.FromDDSType(e.Type))
			}
		}
	}
	return sorted(found)
}

// Services returns the services of the domain, sorted: those with a server.
func (c *Context) Services() []NamedTypes {
	found := map[string]map[string]bool{}
	for _, e := range c.dom.Graph().Readers {
		if name, meaning := names.FromDDSTopic(e.Topic); meaning == names.IsRequest {
			if t, ok := names.ServiceType(names.FromDDSType(e.Type)); ok {
				note(found, name, t)
			}
		}
	}
	return sorted(found)
}

func note(found map[string]map[string]bool, name, typeName string) {
	if found[name] == nil {
		found[name] = map[string]bool{}
	}
	found[name][typeName] = true
}

func sorted(found map[string]map[string]bool) []NamedTypes {
	var out []NamedTypes
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, NamedTypes{name, slices.Sorted(maps.Keys(found[name]))})
	}
	return out
}

// Publishers returns the publishers of a topic with a full name.
func (c *Context) Publishers(topic string) []EndpointInfo {
	return c.endpoints(topic, c.dom.Graph().Writers)
}

// Subscriptions returns the subscriptions of a topic with a full name.
func (c *Context) Subscriptions(topic string) []EndpointInfo {
	return c.endpoints(topic, c.dom.Graph().Readers)
}

func (c *Context) endpoints(topic string, list []*rtps.Endpoint) []EndpointInfo {
	dds := names.DDSTopic(topic)
	var owners map[wire.GUID]graph.Entry
	var out []EndpointInfo
	for _, e := range list {
		if e.Topic != dds {
			continue
		}
		if owners == nil {
			c.mu.Lock()
			owners = c.book.Owners()
			c.mu.Unlock()
		}
		info := EndpointInfo{GUID: e.GUID, Topic: topic, Type: names.FromDDSType(e.Type), QoS: qosFrom(e.QoS)}
		info.TypeHash, _ = graph.UserData(e.UserData, graph.TypeHash)
		if owner, ok := owners[e.GUID]; ok {
			info.NodeName, info.NodeNamespace = owner.Name, owner.Namespace
		}
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b EndpointInfo) int { return strings.Compare(a.GUID.String(), b.GUID.String()) })
	return out
}

// CountPublishers returns how many publishers a topic with a full name has in the domain.
func (c *Context) CountPublishers(topic string) int { return count(topic, c.dom.Graph().Writers) }

// CountSubscriptions returns how many subscriptions a topic with a full name has in the domain.
func (c *Context) CountSubscriptions(topic string) int { return count(topic, c.dom.Graph().Readers) }

func count(topic string, list []*rtps.Endpoint) (n int) {
	dds := names.DDSTopic(topic)
	for _, e := range list {
		if e.Topic == dds {
			n++
		}
	}
	return n
}
