package ros

import (
	"context"
	"fmt"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/type_description_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/names"
)

// types is what a node can describe: the types of its endpoints, and for services these too.
type types struct {
	mu sync.Mutex
	of map[string]described // by name
}

type described struct {
	hash       string
	definition *cdr.Definition
}

func (t *types) add(m cdr.Message) {
	d, ok := m.(cdr.Described)
	if !ok {
		return
	}
	def := d.ROSDefinition()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]described{}
	}
	t.of[m.ROSType()] = described{m.ROSTypeHash(), def}
	if name, ok := names.ServiceType(m.ROSType()); ok && def.Type == name {
		t.of[name] = described{def.Hash, def}
	}
}

// describe answers a request.
func (t *types) describe(req *type_description_interfaces.GetTypeDescriptionRequest) *type_description_interfaces.GetTypeDescriptionResponse {
	fail := func(format string, args ...any) *type_description_interfaces.GetTypeDescriptionResponse {
		return &type_description_interfaces.GetTypeDescriptionResponse{FailureReason: fmt.Sprintf(format, args...)}
	}
	t.mu.Lock()
	d, ok := t.of[req.TypeName]
	t.mu.Unlock()
	switch {
	case !ok:
		return fail("type '%.255s' is not in use by this node", req.TypeName)
	case req.TypeHash != "" && req.TypeHash != d.hash:
		return fail("type '%s' has the hash %s on this node, not '%.255s'", req.TypeName, d.hash, req.TypeHash)
	}
	description, sources, err := interfaces.Describe(d.definition, req.TypeName)
	if err != nil {
		return fail("%v", err)
	}
	resp := &type_description_interfaces.GetTypeDescriptionResponse{Successful: true, TypeDescription: description}
	if req.IncludeTypeSources {
		resp.TypeSources = sources
	}
	return resp
}

// openTypes serves ~/get_type_description unless the parameter of rclcpp's name says not to.
func (n *Node) openTypes() error {
	start, err := DeclareParameter(n, "start_type_description_service", true,
		Description("Start the ~/get_type_description service for this node."), ReadOnly())
	if err != nil {
		return err
	}
	if !start.Get() {
		return nil
	}
	_, err = ownService(n, "get_type_description", QoSServices,
		func(_ context.Context, req *type_description_interfaces.GetTypeDescriptionRequest, _ RequestInfo) (*type_description_interfaces.GetTypeDescriptionResponse, error) {
			return n.types.describe(req), nil
		})
	return err
}
