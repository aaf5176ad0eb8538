// Package anywhere runs real daemons behind real NATs with real Bases, as fleets in the field have them.
package anywhere

import (
	"testing"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestMain(m *testing.M) {
	lab.SideBySide(3)
	lab.Main(m)
}
