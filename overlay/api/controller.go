package api

import (
	"context"
	"net/netip"
	"time"
)

// Controller is what the server serves: the node. Its methods are called by many goroutines at once; each ends
// when its context does. An error that is not an [*Error] is shown as it is, under the code [CodeFailed].
type Controller interface {
	Status(ctx context.Context) (Status, error)
	ID(ctx context.Context) (ID, error)

	// Peers lists every known peer, those whitelisted and never seen included, in a stable order.
	Peers(ctx context.Context) ([]Peer, error)

	Whitelist(ctx context.Context) (Whitelist, error)
	// WhitelistAdd returns the entry as it is now. The server has checked the request's form: an address inside
	// fc94::/16 or a valid key or both and matching, an endpoint that is host:port, a PSK of 32 bytes or none.
	WhitelistAdd(ctx context.Context, add WhitelistAdd) (WhitelistEntry, error)
	// WhitelistRemove returns the entry that was removed; none: [CodeNotFound].
	WhitelistRemove(ctx context.Context, peer netip.Addr) (WhitelistEntry, error)
	WhitelistEnable(ctx context.Context, enabled bool) error

	Hosts(ctx context.Context) ([]HostEntry, error)
	HostAdd(ctx context.Context, add HostAdd) (HostEntry, error)
	// HostRemove returns the entry that was removed; none: [CodeNotFound].
	HostRemove(ctx context.Context, name string) (HostEntry, error)

	// Resolve finds a name or an address among the names, the whitelist's hostnames and this node itself. An
	// address without a name is returned with an empty Name; an unknown name is [CodeNotFound].
	Resolve(ctx context.Context, nameOrAddress string) (HostEntry, error)

	// Ping sends one probe through the tunnel, making contact first if need be, and waits up to timeout for the
	// answer; none: [CodeTimeout].
	Ping(ctx context.Context, peer netip.Addr, timeout time.Duration) (PingResult, error)
	// Connect starts contact and returns when the peer is connected or ctx ends ([CodeTimeout]).
	Connect(ctx context.Context, peer netip.Addr) (Peer, error)

	// Doctor looks for what is wrong with the node, and with the way to peer if it is valid; it may make contact to find
	// out, and is done in well under 30 s. That something is wrong is no error.
	Doctor(ctx context.Context, peer netip.Addr) (Diagnosis, error)

	// Subscribe delivers events until ctx ends or the reader is too slow, then closes the channel. It never makes
	// the node wait: a [Hub] does that.
	Subscribe(ctx context.Context) <-chan Event

	// Down removes the interface and stops the daemon. It returns when the interface is gone.
	Down(ctx context.Context) error
}
