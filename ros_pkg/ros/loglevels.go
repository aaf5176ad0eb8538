package ros

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rcl_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/param"
)

// openLevels serves the levels of loggers, as rclcpp and rclpy do from Iron on for nodes that want it.
func (n *Node) openLevels() error {
	_, err := ownService(n, "get_logger_levels", QoSServices,
		func(_ context.Context, req *rcl_interfaces.GetLoggerLevelsRequest, _ RequestInfo) (*rcl_interfaces.GetLoggerLevelsResponse, error) {
			resp := new(rcl_interfaces.GetLoggerLevelsResponse)
			for _, name := range req.Names {
				l := rcl_interfaces.LoggerLevel{Name: name}
				if level, ok := n.c.logs.ownLevel(name); ok {
					l.Level = uint32(rosLevel(level))
				}
				resp.Levels = append(resp.Levels, l)
			}
			return resp, nil
		})
	if err != nil {
		return err
	}
	_, err = ownService(n, "set_logger_levels", QoSServices,
		func(_ context.Context, req *rcl_interfaces.SetLoggerLevelsRequest, info RequestInfo) (*rcl_interfaces.SetLoggerLevelsResponse, error) {
			resp := new(rcl_interfaces.SetLoggerLevelsResponse)
			for i := range req.Levels {
				resp.Results = append(resp.Results, n.changeLevel(&req.Levels[i], info))
			}
			return resp, nil
		})
	return err
}

func (n *Node) changeLevel(l *rcl_interfaces.LoggerLevel, info RequestInfo) rcl_interfaces.SetLoggerLevelsResult {
	if n.authorize != nil {
		if err := n.authorize(info); err != nil {
			return rcl_interfaces.SetLoggerLevelsResult{Reason: err.Error()}
		}
	}
	if len(l.Name) > param.MaxName {
		return rcl_interfaces.SetLoggerLevelsResult{Reason: fmt.Sprintf("the name has %d bytes: at most %d", len(l.Name), param.MaxName)}
	}
	level := new(slog.Level)
	switch l.Level {
	case uint32(rcl_interfaces.LoggerLevelLogLevelUnknown): // as the loggers above it
		level = nil
	case uint32(rcl_interfaces.LoggerLevelLogLevelDebug):
		*level = slog.LevelDebug
	case uint32(rcl_interfaces.LoggerLevelLogLevelInfo):
		*level = slog.LevelInfo
	case uint32(rcl_interfaces.LoggerLevelLogLevelWarn):
		*level = slog.LevelWarn
	case uint32(rcl_interfaces.LoggerLevelLogLevelError):
		*level = slog.LevelError
	case uint32(rcl_interfaces.LoggerLevelLogLevelFatal):
		*level = LevelFatal
	default:
		return rcl_interfaces.SetLoggerLevelsResult{Reason: "Failed reason: Invalid logger level."}
	}
	if err := n.c.logs.setLevel(l.Name, level); err != nil {
		return rcl_interfaces.SetLoggerLevelsResult{Reason: err.Error()}
	}
	return rcl_interfaces.SetLoggerLevelsResult{Successful: true}
}
