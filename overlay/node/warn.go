package node

import "github.com/hnet-robotics/hnet_bridge/overlay/health"

// Raise has the node warn of something that what runs beside it in the daemon has found: in the log, by events and in
// 'hnet status'.
func (n *Node) Raise(w health.Warning) { n.warnings.Raise(w) }

// Clear ends a warning of Raise.
func (n *Node) Clear(code health.Code, subject string) { n.warnings.Clear(code, subject) }
