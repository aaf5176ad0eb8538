// Package e2e tests the programs as their users run them: hnetd and hnet on hosts in network namespaces.
package e2e

import (
	"testing"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestMain(m *testing.M) {
	lab.SideBySide(5)
	lab.Main(m)
}
