package ros

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/graph"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/names"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Node is a node of the ROS graph. Its methods may be called from several goroutines at once.
type Node struct {
	c             *Context
	owns          bool // the context goes with the node
	ns, name      string
	log           *slog.Logger
	logs          *nodeLogging
	params        *parameters
	clock         clock
	types         types
	authorize     func(RequestInfo) error
	closing, gone chan struct{}
	once          sync.Once

	mu        sync.Mutex
	readers   []wire.GUID
	writers   []wire.GUID
	resources []*resource
	closed    bool
}

// resource is something that goes with its node.
type resource struct{ close func() }

// NewNode makes a node. Without [WithContext] the node has a context of its own, made as by [Init] with the same options, which is closed with the
// node. The arguments may give the node another name or namespace.
func NewNode(name string, opts ...Option) (*Node, error) {
	o := options{args: os.Args[1:], getenv: os.Getenv, namespace: "/", enclave: "/"}
	for _, opt := range opts {
		opt(&o)
	}
	c := o.context
	if c == nil {
		var err error
		if c, err = initialise(&o); err != nil {
			return nil, err
		}
	}
	n, err := newNode(c, name, &o)
	if err != nil {
		if o.context == nil {
			c.Close()
		}
		return nil, err
	}
	n.owns = o.context == nil
	return n, nil
}

func newNode(c *Context, name string, o *options) (*Node, error) {
	if err := names.Node(name); err != nil {
		return nil, err
	}
	name = c.args.Remap.NodeName(name)
	ns := o.namespace
	if ns == "" {
		ns = "/"
	}
	if ns[0] != '/' { // as rcl has it
		ns = "/" + ns
	}
	ns = c.args.Remap.Namespace(name, ns)
	if err := names.Namespace(ns); err != nil {
		return nil, err
	}
	n := &Node{c: c, ns: ns, name: name, authorize: o.authorize, closing: make(chan struct{}), gone: make(chan struct{})}
	n.logs = c.logs.node(names.Join(ns, name))
	n.log = slog.New(n.logs.handler())
	release := c.discovery.hold()
	defer release()
	if err := c.add(n); err != nil {
		c.logs.drop(n.logs)
		return nil, err
	}
	open := []func() error{n.openRosout, n.openParameters, n.openTypes}
	if o.loggers {
		open = append(open, n.openLevels)
	}
	for _, open := range open {
		if err := open(); err != nil {
			n.shut()
			return nil, fmt.Errorf("node %s: %w", n.FullName(), err)
		}
	}
	return n, nil
}

// Name is the node's name without its namespace, after remapping.
func (n *Node) Name() string { return n.name }

// Namespace is the node's namespace, "/" or beginning with a slash.
func (n *Node) Namespace() string { return n.ns }

// FullName is namespace and name.
func (n *Node) FullName() string { return names.Join(n.ns, n.name) }

// Context is what the node shares with other nodes of the program.
func (n *Node) Context() *Context { return n.c }

// Log is the node's logger: to standard error and to /rosout, from the level that --log-level says.
func (n *Node) Log() *slog.Logger { return n.log }

// ResolveTopic returns the full name of a topic that the node calls name, after remapping.
func (n *Node) ResolveTopic(name string) (string, error) {
	return n.c.args.Remap.Topic(name, n.ns, n.name)
}

// ResolveService is [Node.ResolveTopic] for services.
func (n *Node) ResolveService(name string) (string, error) {
	return n.c.args.Remap.Service(name, n.ns, n.name)
}

// Closing is closed when the node begins to close.
func (n *Node) Closing() <-chan struct{} { return n.closing }

// Close takes the node and its endpoints off the graph, and with it the context if that is the node's own. It does not wait for callbacks.
func (n *Node) Close() error {
	if n.owns {
		return n.c.Close()
	}
	n.shut()
	return nil
}

func (n *Node) shut() {
	n.once.Do(func() {
		close(n.closing)
		n.mu.Lock()
		n.closed = true
		resources := n.resources
		n.resources = nil
		n.mu.Unlock()
		release := n.c.discovery.hold()
		for _, r := range slices.Backward(resources) {
			r.close()
		}
		n.c.remove(n)
		release()
		n.c.logs.drop(n.logs)
		close(n.gone)
	})
	<-n.gone
}

// own has close called with the node, unless release is called before: then release calls it. A closed node refuses.
func (n *Node) own(close func()) (release func(), err error) {
	r := &resource{close}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, ErrClosed
	}
	n.resources = append(n.resources, r)
	return func() {
		n.mu.Lock()
		before := len(n.resources)
		n.resources = slices.DeleteFunc(n.resources, func(o *resource) bool { return o == r })
		there := len(n.resources) < before
		n.mu.Unlock()
		if there {
			close()
		}
	}, nil
}

// endpoints adds to the GUIDs that are told to be the node's, or takes away.
func (n *Node) endpoints(add bool, readers, writers []wire.GUID) {
	n.mu.Lock()
	if add {
		n.readers = append(n.readers, readers...)
		n.writers = append(n.writers, writers...)
	} else {
		n.readers = slices.DeleteFunc(n.readers, func(g wire.GUID) bool { return slices.Contains(readers, g) })
		n.writers = slices.DeleteFunc(n.writers, func(g wire.GUID) bool { return slices.Contains(writers, g) })
	}
	n.mu.Unlock()
	n.c.discovery.tell()
}

// entities is what is told of the node. The context's lock is held.
func (n *Node) entities() graph.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return graph.Node{Namespace: n.ns, Name: n.name, Readers: slices.Clone(n.readers), Writers: slices.Clone(n.writers)}
}

// Now is the time on the node's clock: the simulation's on /clock if the parameter use_sim_time is true, zero before its first message.
func (n *Node) Now() time.Time { return n.clock.now() }
