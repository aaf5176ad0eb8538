// Package args reads the arguments that ROS programs take between --ros-args and --, as rcl does and ros2 launch passes them.
package args

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/names"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/param"
)

// maxRules bounds remapping rules and log levels. Command lines are bounded by the kernel, too.
const maxRules = 1 << 12

// Arguments is what a command line says to ROS. The zero value says nothing.
type Arguments struct {
	Remap   names.Rules
	Params  param.Overrides
	Enclave string // "" = not given

	Level  *slog.Level           // nil = not given
	Levels map[string]slog.Level // of loggers by name

	NoRosout, NoStdout, NoExternal bool // --disable-…-logs
	LogConfigFile, LogFileName     string

	Rest []string // what is not for ROS, in order
}

// Fatal is the level of ROS that slog has no name for.
const Fatal = slog.LevelError + 4

// Parse reads a command line without the program's name. readFile gets the files of --params-file; its result is read up to
// [param.MaxFile] bytes. Every error names the argument.
func Parse(line []string, readFile func(path string) ([]byte, error)) (*Arguments, error) {
	a := new(Arguments)
	inside := false
	var unknown []string
	for i := 0; i < len(line); i++ {
		arg := line[i]
		switch {
		case !inside && arg == "--ros-args":
			inside = true
			continue
		case !inside:
			a.Rest = append(a.Rest, arg)
			continue
		case arg == "--ros-args":
			continue
		case arg == "--":
			inside = false
			continue
		}
		if use := flags[arg]; use != nil {
			use(a)
			continue
		}
		use := options[arg]
		if use == nil {
			unknown = append(unknown, arg)
			continue
		}
		if i++; i == len(line) {
			return nil, fmt.Errorf("%s needs a value behind it", arg)
		}
		if err := use(a, line[i], readFile); err != nil {
			return nil, fmt.Errorf("%s %s: %w", arg, line[i], err)
		}
	}
	if unknown != nil {
		return nil, fmt.Errorf("unknown ROS arguments: %s (arguments of the program come before --ros-args or behind --)", strings.Join(unknown, " "))
	}
	return a, nil
}

var flags = map[string]func(*Arguments){
	"--enable-rosout-logs":        func(a *Arguments) { a.NoRosout = false },
	"--disable-rosout-logs":       func(a *Arguments) { a.NoRosout = true },
	"--enable-stdout-logs":        func(a *Arguments) { a.NoStdout = false },
	"--disable-stdout-logs":       func(a *Arguments) { a.NoStdout = true },
	"--enable-external-lib-logs":  func(a *Arguments) { a.NoExternal = false },
	"--disable-external-lib-logs": func(a *Arguments) { a.NoExternal = true },
}

type option func(a *Arguments, value string, readFile func(string) ([]byte, error)) error

var options = map[string]option{
	"-r": remap, "--remap": remap,
	"-p": parameter, "--param": parameter,
	"--params-file": paramsFile,
	"--log-level":   logLevel,
	"-e":            enclave, "--enclave": enclave,
	"--log-config-file": func(a *Arguments, v string, _ func(string) ([]byte, error)) error { a.LogConfigFile = v; return nil },
	"--log-file-name":   func(a *Arguments, v string, _ func(string) ([]byte, error)) error { a.LogFileName = v; return nil },
}

func remap(a *Arguments, v string, _ func(string) ([]byte, error)) error {
	if len(a.Remap) >= maxRules {
		return errors.New("too many rules")
	}
	r, err := names.ParseRule(v)
	if err != nil {
		return err
	}
	a.Remap = append(a.Remap, r)
	return nil
}

func parameter(a *Arguments, v string, _ func(string) ([]byte, error)) error {
	left, value, ok := strings.Cut(v, ":=")
	if !ok {
		return errors.New(`want "name:=value"`)
	}
	node, name := names.CutNode(left)
	return a.Params.Argument(node, name, value)
}

func paramsFile(a *Arguments, path string, readFile func(string) ([]byte, error)) error {
	text, err := readFile(path)
	if err != nil {
		return err
	}
	return a.Params.File(text)
}

func enclave(a *Arguments, v string, _ func(string) ([]byte, error)) error {
	if !strings.HasPrefix(v, "/") {
		return errors.New("an enclave's name begins with '/'")
	}
	if err := names.Namespace(v); err != nil {
		return err
	}
	a.Enclave = v
	return nil
}

func logLevel(a *Arguments, v string, _ func(string) ([]byte, error)) error {
	name, word, ok := strings.Cut(v, ":=")
	if !ok {
		word = v
	}
	level, err := ParseLevel(word)
	if err != nil {
		return err
	}
	if !ok {
		a.Level = &level
		return nil
	}
	if name == "" || len(a.Levels) >= maxRules {
		return errors.New("want \"level\" or \"logger:=level\"")
	}
	if a.Levels == nil {
		a.Levels = map[string]slog.Level{}
	}
	a.Levels[name] = level
	return nil
}

// ParseLevel reads a level of ROS, in any case.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "info", "unset":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	case "fatal":
		return Fatal, nil
	}
	return 0, fmt.Errorf("%q is no log level: debug, info, warn, error or fatal", s)
}
