// Package path selects the path to a peer: a pure machine, told the time, that says which probes to send and where traffic goes.
package path
