package ros

import (
	"context"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rcl_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/param"
)

// maxParameterFile and maxNames bound what is read and asked for at once; maxAnswer is the length in bytes of values beyond which a request is not answered in full:
// a short request that names a long value often must not make a huge response.
const (
	maxParameterFile = param.MaxFile
	maxNames         = 2 * param.MaxParameters
	maxAnswer        = 16 << 20
	maxPrefixes      = 256
)

// serve makes the six services. What they answer is what rclcpp does: a request that names an unknown parameter gets an empty answer.
func (p *parameters) serve() error {
	_, err := ownService(p.n, "get_parameters", QoSParameters,
		func(_ context.Context, req *rcl_interfaces.GetParametersRequest, _ RequestInfo) (*rcl_interfaces.GetParametersResponse, error) {
			return p.get(req), nil
		})
	if err != nil {
		return err
	}
	_, err = ownService(p.n, "get_parameter_types", QoSParameters,
		func(_ context.Context, req *rcl_interfaces.GetParameterTypesRequest, _ RequestInfo) (*rcl_interfaces.GetParameterTypesResponse, error) {
			return p.getTypes(req), nil
		})
	if err != nil {
		return err
	}
	_, err = ownService(p.n, "describe_parameters", QoSParameters,
		func(_ context.Context, req *rcl_interfaces.DescribeParametersRequest, _ RequestInfo) (*rcl_interfaces.DescribeParametersResponse, error) {
			return p.describe(req), nil
		})
	if err != nil {
		return err
	}
	_, err = ownService(p.n, "list_parameters", QoSParameters,
		func(_ context.Context, req *rcl_interfaces.ListParametersRequest, _ RequestInfo) (*rcl_interfaces.ListParametersResponse, error) {
			names, groups := p.set.List(req.Prefixes[:min(len(req.Prefixes), maxPrefixes)], req.Depth)
			return &rcl_interfaces.ListParametersResponse{Result: rcl_interfaces.ListParametersResult{Names: names, Prefixes: groups}}, nil
		})
	if err != nil {
		return err
	}
	_, err = ownService(p.n, "set_parameters", QoSParameters,
		func(_ context.Context, req *rcl_interfaces.SetParametersRequest, info RequestInfo) (*rcl_interfaces.SetParametersResponse, error) {
			resp := new(rcl_interfaces.SetParametersResponse)
			for i := range req.Parameters {
				resp.Results = append(resp.Results, p.change(info, req.Parameters[i:i+1]))
			}
			return resp, nil
		})
	if err != nil {
		return err
	}
	_, err = ownService(p.n, "set_parameters_atomically", QoSParameters,
		func(_ context.Context, req *rcl_interfaces.SetParametersAtomicallyRequest, info RequestInfo) (*rcl_interfaces.SetParametersAtomicallyResponse, error) {
			return &rcl_interfaces.SetParametersAtomicallyResponse{Result: p.change(info, req.Parameters)}, nil
		})
	return err
}

func (p *parameters) get(req *rcl_interfaces.GetParametersRequest) *rcl_interfaces.GetParametersResponse {
	resp := new(rcl_interfaces.GetParametersResponse)
	size := 0
	for _, name := range req.Names {
		v, ok := p.set.Get(name)
		size += v.Size()
		if !ok || len(resp.Values) == maxNames || size > maxAnswer {
			return new(rcl_interfaces.GetParametersResponse)
		}
		resp.Values = append(resp.Values, v.Message())
	}
	return resp
}

func (p *parameters) getTypes(req *rcl_interfaces.GetParameterTypesRequest) *rcl_interfaces.GetParameterTypesResponse {
	resp := new(rcl_interfaces.GetParameterTypesResponse)
	for _, name := range req.Names {
		v, ok := p.set.Get(name)
		if !ok || len(resp.Types) == maxNames {
			return new(rcl_interfaces.GetParameterTypesResponse)
		}
		resp.Types = append(resp.Types, uint8(v.Type()))
	}
	return resp
}

func (p *parameters) describe(req *rcl_interfaces.DescribeParametersRequest) *rcl_interfaces.DescribeParametersResponse {
	resp := new(rcl_interfaces.DescribeParametersResponse)
	for _, name := range req.Names {
		d, ok := p.set.Describe(name)
		if !ok || len(resp.Descriptors) == maxNames {
			return new(rcl_interfaces.DescribeParametersResponse)
		}
		resp.Descriptors = append(resp.Descriptors, d.Message())
	}
	return resp
}

// change sets parameters together, for somebody.
func (p *parameters) change(info RequestInfo, list []rcl_interfaces.Parameter) rcl_interfaces.SetParametersResult {
	if p.n.authorize != nil {
		if err := p.n.authorize(info); err != nil {
			return rcl_interfaces.SetParametersResult{Reason: err.Error()}
		}
	}
	var params []param.Parameter
	for i := range list {
		v, err := param.FromMessage(&list[i].Value)
		if err != nil {
			return rcl_interfaces.SetParametersResult{Reason: err.Error()}
		}
		params = append(params, param.Parameter{Name: list[i].Name, Value: v})
	}
	if err := p.apply(params...); err != nil {
		return rcl_interfaces.SetParametersResult{Reason: err.Error()}
	}
	return rcl_interfaces.SetParametersResult{Successful: true}
}
