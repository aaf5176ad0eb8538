package integrity

import (
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// unsegmented takes the segmentation offload from the underlay, as a plain network card has none: each datagram crosses alone. joined says whether the
// receiver joins what it can (GRO).
func (w *world) unsegmented(joined bool) *world {
	w.t.Helper()
	for _, e := range []end{w.a, w.b} {
		link, err := e.Netlink().LinkByName("lan0")
		if err == nil {
			// The kernel cuts what has more segments than a device takes before it gets there.
			err = e.Netlink().LinkSetGSOMaxSegs(link, 1)
		}
		if err == nil {
			err = e.Do(func() error { return lab.SetOffload("lan0", unix.ETHTOOL_SGRO, joined) })
		}
		if err != nil {
			w.t.Fatalf("offloads of %s: %v", e.Name(), err)
		}
	}
	return w
}
