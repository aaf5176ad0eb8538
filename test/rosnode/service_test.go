package rosnode

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/rosdds"
)

// node makes a node of this process on a host.
func node(t *testing.T, h *lab.Host, name string) *ros.Node {
	t.Helper()
	var n *ros.Node
	err := h.Do(func() (err error) {
		n, err = ros.NewNode(name, ros.WithArgs(nil), ros.WithEnvironment(func(string) string { return "" }), ros.WithLogHandler(slog.DiscardHandler))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// TestService has clients of both vendors call one service at the same time, from its host and from another one, from their first request on.
func TestService(t *testing.T) {
	const requests = 20
	for _, loss := range []float64{0, 0.05} {
		t.Run(fmt.Sprintf("loss_%g", loss), func(t *testing.T) {
			l := lab.New(t)
			a, b := l.Host("a"), l.Host("b")
			l.LAN(lab.Link{Loss: loss}, a, b)
			s, err := ros.NewService(node(t, a, "server"), "/echo", func(_ context.Context, q *echoRequest, _ ros.RequestInfo) (*echoResponse, error) {
				return &echoResponse{q.sample}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			var clients []*lab.Process
			for _, v := range vendors {
				for i, h := range []*lab.Host{a, b, b} {
					size := []int{64, 64, 5000}[i]
					clients = append(clients, rosdds.Start(t, h, v, fields("client --count %d --rate 0 --size %d --timeout 50 --reply-timeout 20", requests, size)...))
				}
			}
			for _, c := range clients {
				ends(t, c)
				c.WaitLine(fmt.Sprintf(`^done answered=%d unanswered=0$`, requests), patience)
			}
			if st := s.Stats(); st.Broken+st.Refused+st.Failed+st.Unheard > 0 || st.Replies != uint64(len(clients)*requests) {
				t.Errorf("%+v", st)
			}
		})
	}
}
