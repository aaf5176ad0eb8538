// Package watch looks at the DDS traffic on hnet0: which topic takes how much, what is sent again and what is lost, for each peer and in both
// directions; and it says which topics are urgent.
//
// It stands where packets are in the clear, in the engine's goroutines (see engine.Inspector), and only looks: UDP datagrams that begin with "RTPS" are
// taken apart down to the headers of their submessages (DDSI-RTPS 2.3, 8.3); payloads are read of discovery alone, whose DATA(w) and DATA(r) (SEDP)
// name the topics. What was announced before the watch began is called by its GUID until it is announced again.
//
// # What a peer cannot do
//
// A whitelisted peer may be compromised. What it says of its writers is kept under its own address: it names neither this host's writers nor another
// peer's, and what it counts is counted as its own. Every table is bounded:
//
//	peers                1024; the one longest silent goes
//	topics of a peer     1024, of all 8192; then what is new is counted as "more topics", until some have been silent for a minute
//	writers of a peer    2048, both directions; one not seen lately goes (a clock hand). Of all 16384; then one of the peer with the most goes
//	ports of a writer    8 windows of 2048 sequence numbers; the oldest goes
//	fragment windows     256 in all, of 4 samples of 8192 fragments; writers without one are counted by sample alone
//	names of a peer      2048 (of this host 8192); any one goes
//	submessages          256 of a datagram are looked at, and GAP sets of 1024 numbers
//
// Nothing is allocated for a packet of a writer that is known.
//
// # Locks
//
// An Inspector belongs to one goroutine and finds peers and writers in maps of its own. The counters of a topic have a lock for each direction, held for
// the few instructions that count a submessage. Most packets take none: the next sample of a writer, or the next fragment of its sample, belongs to a run
// (see run), which is one atomic addition by the goroutine that carries the packets, and is counted in the row when the run's second is over, when anything
// else happens to the writer, or when someone takes a Snapshot. An Inspector has up to 256 runs at once; every window of sequence numbers belongs to one at
// most. TestRuns holds what they count against what is counted packet by packet.
package watch
