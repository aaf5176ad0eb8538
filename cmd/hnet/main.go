// Command hnet looks at and steers the overlay daemon hnetd.
package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/cmd/hnet/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	code := command.Run(ctx, command.System(), os.Args[1:])
	stop()
	os.Exit(code)
}
