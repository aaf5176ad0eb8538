package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"

	"github.com/hnet-robotics/hnet_bridge/overlay/host"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

const (
	// forwardCommand has this program forward.
	forwardCommand = "forward"
	// socketBuffer and batch are as large as those of hnet_base.
	socketBuffer = 4 << 20
	batch        = 32
)

// forward is what hnet_base is compared with: the same sockets, buffers and calls, and between them nothing. What comes to the port that the first
// argument names goes to the endpoint that is the second.
func forward(args []string) {
	err := func() error {
		if len(args) != 2 {
			return fmt.Errorf("%s PORT ENDPOINT", forwardCommand)
		}
		port, err := strconv.ParseUint(args[0], 10, 16)
		if err != nil {
			return err
		}
		to, err := netip.ParseAddrPort(args[1])
		if err != nil {
			return err
		}
		sock, err := listen(uint16(port))
		if err != nil {
			return err
		}
		fmt.Println("forwarding to", to)
		in, out := make([]underlay.Message, batch), make([]underlay.Message, 0, batch)
		for i := range in {
			in[i].Buf = make([]byte, underlay.MaxRead)
		}
		for {
			n, err := sock.ReadBatch(in)
			if err != nil {
				return err
			}
			out = out[:0]
			for i := range in[:n] {
				m := &in[i]
				out = append(out, underlay.Message{Buf: m.Buf[:m.N], Segment: m.Segment, Remote: to, Local: m.Local, TOS: m.TOS})
			}
			for rest := out; len(rest) > 0; {
				sent, err := sock.WriteBatch(rest)
				if err == nil {
					break
				}
				rest = rest[min(sent+1, len(rest)):]
			}
		}
	}()
	fmt.Fprintln(os.Stderr, "relay:", err)
	os.Exit(1)
}

// listen opens a socket as hnet_base does.
func listen(port uint16) (*underlay.UDP, error) {
	sock, err := underlay.Listen("udp4", port, underlay.Options{RecvTTL: true})
	if err != nil {
		return nil, err
	}
	_ = host.New(slog.New(slog.DiscardHandler)).GrowBuffers(sock, socketBuffer)
	return sock, nil
}
