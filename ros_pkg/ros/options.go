package ros

import (
	"log/slog"
)

// Option changes how a [Context] or [Node] is made.
type Option func(*options)

type options struct {
	args      []string
	getenv    func(string) string
	domainID  *int
	handler   slog.Handler
	context   *Context
	namespace string
	enclave   string
	authorize func(RequestInfo) error
	loggers   bool
	dom       domain // in tests
}

// WithArgs gives the arguments, without the program's name, instead of os.Args[1:]. What is not for ROS is in [Context.Args].
func WithArgs(args []string) Option { return func(o *options) { o.args = args } }

// WithEnvironment gives the environment variables, instead of os.Getenv.
func WithEnvironment(getenv func(string) string) Option {
	return func(o *options) { o.getenv = getenv }
}

// WithDomain gives the domain, from 0 to 232, instead of ROS_DOMAIN_ID.
func WithDomain(id int) Option { return func(o *options) { o.domainID = &id } }

// WithLogHandler gives what logs go to beside /rosout, instead of lines in the form of ROS on standard error. It must not log to a node.
func WithLogHandler(h slog.Handler) Option { return func(o *options) { o.handler = h } }

// WithContext puts a node into a context that several share. Without it a node has its own.
func WithContext(c *Context) Option { return func(o *options) { o.context = c } }

// WithNamespace gives a node's namespace, instead of "/". The arguments may change it.
func WithNamespace(ns string) Option { return func(o *options) { o.namespace = ns } }

// WithEnclave gives the enclave, instead of "/". The arguments may change it.
func WithEnclave(name string) Option { return func(o *options) { o.enclave = name } }

// WithLoggerService lets requests ask for and set the levels of the program's loggers: ~/get_logger_levels and ~/set_logger_levels of a node.
func WithLoggerService() Option { return func(o *options) { o.loggers = true } }

// WithParameterAuthorization has f asked before a request sets parameters or log levels of a node; its error is the reason given for refusing. Without it
// everybody may, as in any ROS node.
func WithParameterAuthorization(f func(RequestInfo) error) Option {
	return func(o *options) { o.authorize = f }
}
