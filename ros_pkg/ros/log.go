package ros

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/builtin_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rcl_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/args"
)

// LevelFatal is the level of ROS that slog has no name for.
const LevelFatal = args.Fatal

// logging is a context's: where the logs of its nodes go, and from which level on.
type logging struct {
	args *args.Arguments
	out  slog.Handler // beside /rosout; nil = none

	mu      sync.Mutex
	def     slog.Level            // of loggers that levels says nothing about
	levels  map[string]slog.Level // of loggers by name, and of those below them
	loggers map[*nodeLogging]bool // to be told when levels change
}

func newLogging(a *args.Arguments, h slog.Handler) *logging {
	l := &logging{args: a, out: h, levels: maps.Clone(a.Levels), loggers: map[*nodeLogging]bool{}}
	if a.Level != nil {
		l.def = *a.Level
	}
	if l.levels == nil {
		l.levels = map[string]slog.Level{}
	}
	if h == nil {
		l.out = &console{w: os.Stderr, mu: new(sync.Mutex)}
	}
	if a.NoStdout {
		l.out = nil
	}
	return l
}

// level is the level of a logger: what is said for its name, or the longest beginning of that, or for all. mu is held.
func (l *logging) level(name string) slog.Level {
	level, best := l.def, -1
	for prefix, v := range l.levels {
		if (name == prefix || strings.HasPrefix(name, prefix+".")) && len(prefix) > best {
			level, best = v, len(prefix)
		}
	}
	return level
}

// maxLevels bounds how many loggers have a level of their own.
const maxLevels = 1 << 12

// setLevel gives the logger of a name its own level, or takes that away if level is nil. The empty name stands for all that have none.
func (l *logging) setLevel(name string, level *slog.Level) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch _, there := l.levels[name]; {
	case name == "" && level == nil:
		l.def = slog.LevelInfo
	case name == "":
		l.def = *level
	case level == nil:
		delete(l.levels, name)
	case !there && len(l.levels) >= maxLevels:
		return fmt.Errorf("%d loggers have levels already", maxLevels)
	default:
		l.levels[name] = *level
	}
	for n := range l.loggers {
		n.level.Set(l.level(n.name))
	}
	return nil
}

// ownLevel is what setLevel set last, or the command line says.
func (l *logging) ownLevel(name string) (level slog.Level, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name == "" {
		return l.def, true
	}
	level, ok = l.levels[name]
	return level, ok
}

// node makes the logging of a node with a full name, until drop.
func (l *logging) node(full string) *nodeLogging {
	n := &nodeLogging{name: strings.ReplaceAll(strings.TrimPrefix(full, "/"), "/", "."), out: l.out}
	l.mu.Lock()
	defer l.mu.Unlock()
	n.level.Set(l.level(n.name))
	l.loggers[n] = true
	return n
}

func (l *logging) drop(n *nodeLogging) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.loggers, n)
}

// internal makes a logger that does not go to /rosout: for what happens beneath the nodes.
func (l *logging) internal(name string) *slog.Logger { return slog.New(l.node("/" + name).handler()) }

// external is internal for other packages.
func (l *logging) external(name string) *slog.Logger {
	if l.args.NoExternal {
		return slog.New(slog.DiscardHandler)
	}
	return l.internal(name)
}

// nodeLogging is a node's: its name, level and the way to /rosout.
type nodeLogging struct {
	name   string
	level  slog.LevelVar
	out    slog.Handler
	rosout atomic.Pointer[func(*rcl_interfaces.Log)]
}

func (n *nodeLogging) handler() slog.Handler { return &logHandler{n: n, out: n.out} }

// logHandler is a slog.Handler that writes each record twice.
type logHandler struct {
	n     *nodeLogging
	out   slog.Handler // with the attributes and groups so far; nil = none
	attrs string       // the same for /rosout, as text
	group string       // "a.b."
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.n.level.Level() }

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	var err error
	switch out := h.out.(type) {
	case nil:
	case *console:
		err = out.write(h.n.name, &r, h.text(&r))
	default:
		if out.Enabled(ctx, r.Level) {
			err = out.Handle(ctx, r)
		}
	}
	if publish := h.n.rosout.Load(); publish != nil {
		m := &rcl_interfaces.Log{Stamp: builtin_interfaces.FromTime(r.Time), Level: rosLevel(r.Level), Name: h.n.name, Msg: h.text(&r)}
		if r.PC != 0 {
			f, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
			m.File, m.Function, m.Line = f.File, f.Function, uint32(f.Line)
		}
		(*publish)(m)
	}
	return err
}

// text is the message with all attributes behind it.
func (h *logHandler) text(r *slog.Record) string {
	if r.NumAttrs() == 0 && h.attrs == "" {
		return r.Message
	}
	var b strings.Builder
	b.WriteString(r.Message)
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool { appendAttr(&b, h.group, a); return true })
	return b.String()
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *h
	if out.out != nil {
		out.out = out.out.WithAttrs(attrs)
	}
	var b strings.Builder
	b.WriteString(h.attrs)
	for _, a := range attrs {
		appendAttr(&b, h.group, a)
	}
	out.attrs = b.String()
	return &out
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	out := *h
	if out.out != nil {
		out.out = out.out.WithGroup(name)
	}
	out.group += name + "."
	return &out
}

func appendAttr(b *strings.Builder, group string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, inner := range v.Group() {
			appendAttr(b, group, inner)
		}
		return
	}
	if a.Equal(slog.Attr{}) {
		return
	}
	text := v.String()
	if strings.ContainsAny(text, " \t\r\n\"=") || text == "" {
		text = fmt.Sprintf("%q", text)
	}
	b.WriteByte(' ')
	b.WriteString(group)
	b.WriteString(a.Key)
	b.WriteByte('=')
	b.WriteString(text)
}

// rosLevel is the level as rcl_interfaces/msg/Log has it.
func rosLevel(l slog.Level) uint8 {
	switch {
	case l < slog.LevelInfo:
		return rcl_interfaces.LogDebug
	case l < slog.LevelWarn:
		return rcl_interfaces.LogInfo
	case l < slog.LevelError:
		return rcl_interfaces.LogWarn
	case l < LevelFatal:
		return rcl_interfaces.LogError
	}
	return rcl_interfaces.LogFatal
}

var levelNames = map[uint8]string{rcl_interfaces.LogDebug: "DEBUG", rcl_interfaces.LogInfo: "INFO", rcl_interfaces.LogWarn: "WARN",
	rcl_interfaces.LogError: "ERROR", rcl_interfaces.LogFatal: "FATAL"}

// console writes lines as ROS nodes do: "[INFO] [1700000000.123456789] [talker]: text".
type console struct {
	mu *sync.Mutex
	w  io.Writer
}

func (c *console) write(name string, r *slog.Record, text string) error {
	t := r.Time
	if t.IsZero() {
		t = time.Now()
	}
	line := fmt.Sprintf("[%s] [%d.%09d] [%s]: %s\n", levelNames[rosLevel(r.Level)], t.Unix(), t.Nanosecond(), name, text)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := io.WriteString(c.w, line)
	return err
}

// The rest of slog.Handler is not used: logHandler writes to a console itself.
func (c *console) Enabled(context.Context, slog.Level) bool { return true }
func (c *console) Handle(_ context.Context, r slog.Record) error {
	return c.write("", &r, r.Message)
}
func (c *console) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *console) WithGroup(string) slog.Handler      { return c }

// openRosout connects the node's logger with /rosout.
func (n *Node) openRosout() error {
	if n.c.args.NoRosout {
		return nil
	}
	topic, err := n.ResolveTopic("/rosout")
	if err != nil {
		return err
	}
	p := &publisher{quiet: true}
	if err := p.open(n, topic, new(rcl_interfaces.Log), QoSRosout); err != nil {
		return err
	}
	f := func(m *rcl_interfaces.Log) { p.publish(m, time.Time{}) } // if it fails there is nobody to tell
	n.logs.rosout.Store(&f)
	return nil
}

// LogLevel is the level from which on the node logs.
func (n *Node) LogLevel() slog.Level { return n.logs.level.Level() }

// SetLogLevel changes it, unless too many loggers have levels of their own.
func (n *Node) SetLogLevel(l slog.Level) { _ = n.c.logs.setLevel(n.logs.name, &l) }
