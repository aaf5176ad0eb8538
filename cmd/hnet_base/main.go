// Command hnet_base is a Base: it helps peers find each other and relays what they cannot send directly, without being able to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/server"
	"github.com/hnet-robotics/hnet_bridge/overlay/host"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
	"github.com/hnet-robotics/hnet_bridge/overlay/systemd"
	"github.com/hnet-robotics/hnet_bridge/overlay/waiter"
)

// Exit codes: 0 done, 1 failed, 2 usage.
const (
	exitFailed = 1
	exitUsage  = 2
)

// defaultState is where a Base keeps its identity.
const defaultState = "/var/lib/hnet_base"

// options are what the command line says.
type options struct {
	state, listen  string
	udp, tcp, stun uint
	metrics        string
	relayRate      uint
	totalRate      uint
	nice           int
	level          slog.Level
}

func main() {
	waiter.Reserve()
	os.Exit(run())
}

func run() int {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "id" {
		return runID(args[1:])
	}
	var o options
	flags := newFlags("hnet_base", &o.state)
	flags.StringVar(&o.listen, "listen", "0.0.0.0", "`address` of this host to serve; 0.0.0.0, :: or \"\" = all of them, IPv4 and IPv6")
	flags.UintVar(&o.udp, "udp", 5582, "UDP `port`; 0 = no UDP, and so no STUN port either")
	flags.UintVar(&o.tcp, "tcp", 443, "TCP `port`, for clients whose network lets no UDP pass; 0 = no TCP")
	flags.UintVar(&o.stun, "stun", 3478, "second UDP `port`, by which clients learn what their NAT does (STUN); 0 = none")
	flags.StringVar(&o.metrics, "metrics", "", "`address` to serve Prometheus metrics on, as 127.0.0.1:9587; \"\" = none")
	flags.UintVar(&o.relayRate, "relay-rate", 200, "`Mbit/s` that are relayed for one client at most; 0 = no limit")
	flags.UintVar(&o.totalRate, "total-rate", 0, "`Mbit/s` that are relayed for all clients together, shared fairly; 0 = as much as goes")
	flags.IntVar(&o.nice, "nice", -4, "`priority` among this host's programs, -20 (before all) to 19; 0 = as it was started")
	flags.TextVar(&o.level, "log-level", slog.LevelInfo, "least `level` that is logged: debug, info, warn or error")
	version := flags.Bool("version", false, "print the version and exit")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Println("hnet_base helps hnet nodes find each other, and relays for those that cannot reach each other.\n\n" +
			"  hnet_base [flags]          serve\n  hnet_base id [--state D]   print the address that clients pin, also while one runs")
		fmt.Println()
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		return 0
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case err == nil:
		err = o.check()
	}
	if err != nil {
		return usage(err)
	}
	if *version {
		fmt.Println("hnet_base", api.Version())
		return 0
	}
	if err := serve(&o); err != nil {
		fmt.Fprintln(os.Stderr, "hnet_base:", err)
		return exitFailed
	}
	return 0
}

func newFlags(name string, state *string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors are told in one line
	flags.StringVar(state, "state", defaultState, "`folder` of the identity")
	return flags
}

func usage(err error) int {
	fmt.Fprintf(os.Stderr, "hnet_base: %v: try 'hnet_base -help'\n", err)
	return exitUsage
}

// check finds what no server can be made of.
func (o *options) check() error {
	for _, f := range []struct {
		name string
		port uint
	}{{"udp", o.udp}, {"tcp", o.tcp}, {"stun", o.stun}} {
		if f.port > 65535 {
			return fmt.Errorf("--%s %d is no port: use 1 to 65535, or 0 to switch it off", f.name, f.port)
		}
	}
	const most = 1_000_000 // 1 Tbit/s
	switch {
	case o.udp == 0 && o.tcp == 0:
		return errors.New("--udp 0 and --tcp 0 leave nothing to serve")
	case o.udp != 0 && o.udp == o.stun:
		return fmt.Errorf("--udp and --stun are both %d: the STUN port must be another, or 0", o.udp)
	case o.nice < -20 || o.nice > 19:
		return fmt.Errorf("--nice %d: use -20 to 19", o.nice)
	case o.relayRate > most || o.totalRate > most:
		return fmt.Errorf("--relay-rate and --total-rate are in Mbit/s, %d at most", most)
	}
	_, err := parseListen(o.listen)
	return err
}

// runID prints the address of the Base whose state folder is given. It makes the identity if there is none, so that clients can be configured
// before the Base first runs.
func runID(args []string) int {
	var state string
	flags := newFlags("hnet_base id", &state)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Println("hnet_base id prints the address of a Base, which clients pin; it makes the identity if there is none.")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		return 0
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		return usage(err)
	}
	id, _, err := identity.LoadOrCreate(identityFile(state))
	if err != nil {
		fmt.Fprintln(os.Stderr, "hnet_base:", err)
		return exitFailed
	}
	fmt.Println(id.Address())
	return 0
}

func identityFile(state string) string { return filepath.Join(state, "identity") }

func serve(o *options) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: o.level}))
	if err := host.SetNice(o.nice); err != nil {
		log.Debug("datagrams wait for the processor like any program", "err", err)
	}
	lock, err := statefile.LockDir(o.state)
	if err != nil {
		return err
	}
	defer lock.Close()
	id, created, err := identity.LoadOrCreate(identityFile(o.state))
	if err != nil {
		return err
	}
	listen, noSTUN, err := open(o)
	if err != nil {
		return err
	}
	metrics, err := listenMetrics(o.metrics)
	if err != nil {
		return err
	}
	s, err := server.New(server.Config{Identity: id, Log: log, Limits: server.Limits{
		RelayRate: perClient(o.relayRate), TotalRate: int64(o.totalRate) * 1_000_000,
	}})
	if err != nil {
		return err
	}
	announce(log, id, created, o)
	if noSTUN != nil {
		log.Warn("there is no second UDP port, so clients learn less about their NATs", "err", noSTUN)
	}
	growBuffers(log, &listen)

	signalled := untilSignal()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-signalled.Done()
		systemd.Stopping(log)
		log.Info("stopping: clients are told to register elsewhere", "for", "3s at most")
		s.Drain(ctx)
		cancel()
	}()
	if metrics != nil {
		go serveMetrics(ctx, metrics, s)
	}
	go systemd.Watchdog(signalled, log, s.Alive)
	systemd.Ready(log)
	return s.Serve(ctx, listen)
}

// perClient is a client's relay rate in bits per second.
func perClient(mbit uint) int64 {
	if mbit == 0 {
		return server.Unlimited
	}
	return int64(mbit) * 1_000_000
}

// announce says first of all what clients need.
func announce(log *slog.Logger, id *identity.Identity, created bool, o *options) {
	host := "HOST"
	if a, err := parseListen(o.listen); err == nil && a.IsValid() {
		host = a.String()
	}
	log.Info("Base "+id.Address().String()+": clients pin this address", "bases",
		fmt.Sprintf("- {host: %s, address: '%v', udp: %d, tcp: %d}", host, id.Address(), o.udp, o.tcp), "version", api.Version())
	if created {
		log.Info("a new identity was made", "file", identityFile(o.state), "fix", "keep a backup: with another identity all clients must be told the new address")
	}
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. A second one ends the process at once, whatever the first waits for.
func untilSignal() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}
