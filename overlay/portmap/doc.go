// Package portmap asks the routers in front of this host to pass one UDP port through to it: by PCP (RFC 6887), by NAT-PMP
// (RFC 6886) where the router is older than that, or by UPnP-IGD (versions 1 and 2). Over IPv6 it asks by PCP for pinholes
// to the host's global addresses.
//
// A [Mapper] has one worker per [Gateway], which is a pair of a router and the address that this host has towards it. A
// worker looks for a protocol once, keeps to it, renews at half life, looks in between whether the router forgot, and asks
// rarely and ever more rarely where nobody answers. When a worker decides what is in worker.go and runs in virtual time in
// the tests; what it says is in the codecs pcp.go, natpmp.go and ssdp.go; files that do I/O are ask.go, igd.go, http.go, announce.go
// and gateway.go.
//
// # Who is believed
//
// Nobody but the gateway asked: sockets are bound to our address and connected to the router's, answers must match the
// request's nonce and port, a device found by SSDP must answer from the gateway's address and lie there with all its URLs.
// There are no redirects, and no proxies. Answers are bounded in size, number and time. What the router says of its outer
// address is a claim; [Mapping.Double] tells one that cannot be reached from the Internet.
package portmap
