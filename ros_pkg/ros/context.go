package ros

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/args"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/graph"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
)

// ErrClosed says that a node, its context or an endpoint was closed.
var ErrClosed = errors.New("closed")

// Context is a program's membership in a domain: arguments, sockets and what is known of the graph. Its nodes share it.
type Context struct {
	args *args.Arguments
	logs *logging
	log  *slog.Logger
	dom  domain

	stop context.CancelFunc
	done chan struct{} // Run has returned
	err  error         // of Run

	discovery discovery

	mu      sync.Mutex
	nodes   []*Node
	book    graph.Book
	changed chan struct{} // closed when the graph changes
	closed  bool
}

// Init reads arguments and environment and joins the domain. [Context.Close] leaves it.
func Init(opts ...Option) (*Context, error) {
	o := options{args: os.Args[1:], getenv: os.Getenv, namespace: "/", enclave: "/"}
	for _, opt := range opts {
		opt(&o)
	}
	return initialise(&o)
}

func initialise(o *options) (*Context, error) {
	a, err := args.Parse(o.args, readParameterFile)
	if err != nil {
		return nil, err
	}
	env, err := parseEnvironment(o.getenv)
	if err != nil {
		return nil, err
	}
	if o.domainID != nil {
		env.domain = *o.domainID
	}
	if a.Enclave == "" {
		a.Enclave = o.enclave
	}
	logs := newLogging(a, o.handler)
	c := &Context{args: a, logs: logs, log: logs.internal("rcl"), done: make(chan struct{}), changed: make(chan struct{}), dom: o.dom}
	for _, note := range env.notes {
		c.log.Warn(note)
	}
	if a.LogConfigFile != "" {
		c.log.Warn("--log-config-file has no effect on this node: use --log-level")
	}
	if a.LogFileName != "" {
		c.log.Warn("--log-file-name has no effect on this node, which writes its log to standard error and /rosout only")
	}
	if c.dom == nil {
		peers, err := resolve(context.Background(), env.staticPeers, net.DefaultResolver)
		if err != nil {
			c.log.Warn("ROS_STATIC_PEERS: some peers have no address now and will not be looked for", "error", err)
		}
		config := rtps.Config{Name: a.Enclave, Enclave: a.Enclave, Log: logs.external("rtps")}
		env.apply(&config, peers)
		p, err := rtps.New(config)
		if err != nil {
			return nil, fmt.Errorf("cannot join ROS domain %d: %w", env.domain, err)
		}
		c.dom = participant{p}
	}
	if err := c.discovery.open(c); err != nil {
		return nil, err
	}
	c.dom.Subscribe(c.graphChanged)
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	go func() {
		defer close(c.done)
		if c.err = c.dom.Run(ctx); c.err != nil {
			c.log.Error("left the ROS domain", "error", c.err)
		}
	}()
	return c, nil
}

// readParameterFile reads no more than is of use.
func readParameterFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxParameterFile+1))
}

// Args returns the arguments that are not for ROS.
func (c *Context) Args() []string { return slices.Clone(c.args.Rest) }

// Done is closed when the context has left the domain, by Close or because it had to.
func (c *Context) Done() <-chan struct{} { return c.done }

// Close closes the nodes and leaves the domain with a farewell, so that others forget them at once. It waits for that, and for no callback.
func (c *Context) Close() error {
	c.mu.Lock()
	nodes := slices.Clone(c.nodes)
	c.closed = true
	c.mu.Unlock()
	for _, n := range nodes {
		n.shut()
	}
	c.stop()
	<-c.done
	return c.err
}

// add makes a node visible, remove hides it.
func (c *Context) add(n *Node) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	c.discovery.tell()
	return nil
}

func (c *Context) remove(n *Node) {
	c.mu.Lock()
	c.nodes = slices.DeleteFunc(c.nodes, func(o *Node) bool { return o == n })
	c.mu.Unlock()
	c.discovery.tell()
}

// graphChanged is called by the domain.
func (c *Context) graphChanged(e rtps.GraphEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Kind == rtps.ParticipantLost && e.Participant != nil {
		c.book.Remove(e.Participant.Prefix)
	}
	c.wake()
}

// wake tells who waits for the graph; mu is held.
func (c *Context) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Changed returns a channel that is closed at the next change of the graph.
func (c *Context) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}
