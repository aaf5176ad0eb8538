package ros

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Main runs a program that is one node: it makes the node with the program's arguments and calls f, whose context ends on an interrupt (SIGINT, SIGTERM) or when the node
// has to leave its domain. When f returns the node is closed and the program exits, with 1 if f returned an error that is not the context's end.
//
//	func main() {
//		ros.Main("listener", func(ctx context.Context, node *ros.Node) error {
//			…
//			<-ctx.Done()
//			return nil
//		})
//	}
func Main(name string, f func(ctx context.Context, node *Node) error, opts ...Option) {
	if err := run(name, f, opts...); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func run(name string, f func(ctx context.Context, node *Node) error, opts ...Option) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	n, err := NewNode(name, opts...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-n.c.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	err = f(ctx, n)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, n.Close())
}
