// Package integrity sends random data between real daemons in every mode that the data path has, and compares the hashes of what was sent and of
// what arrived; also while sessions are renewed, ends move, and strangers replay and flood.
//
// By default each mode carries 60 MB. `go test ./test/integrity -gb 1 -timeout 30m` carries 3 GB in each: 1 GB by one TCP stream, half of that by four in
// both directions, 1 GB by UDP in superpackets, and half of that in single datagrams; and it waits for a session to be renewed because of its age.
package integrity

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

var gigabytes = flag.Float64("gb", 0.02, "how much each mode carries by one TCP stream, and again by UDP, in GB")

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == samplesCommand {
		os.Exit(samplesMain(os.Args[2:]))
	}
	lab.Main(m)
}

// patience is for what comes, if it comes: CI has two loaded cores.
const patience = 60 * time.Second

// volume is how much each mode carries by one TCP stream, and again by UDP, in bytes.
func volume() int64 { return int64(*gigabytes * 1e9) }
