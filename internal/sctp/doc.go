// Package sctp has the words that the parts of the transport share: messages,
// associations and their events, endpoints, limits, queues and counters. It knows
// nothing of ASAP and ENRP.
//
// An [Endpoint] is one SCTP port with all its associations. Its methods never block
// on a peer. Its [Handler] is called with what happens, for each association in
// order. Package stack makes Endpoints that use all transports of the machine.
//
//	stack      what a process has of SCTP: its Endpoints choose the transport
//	kernel     the kernel's SCTP (Linux only)
//	udp        SCTP in UDP in user space (RFC 6951), with pion/sctp for the data
//	tcp        TCP connections of pool users
//	secure     TLS on the associations of a transport: an Endpoint around its Endpoint
//	wire       packets, chunks and cookies: the bytes of RFC 9260
//	localaddr  the addresses of this machine
//	sctptest   a network in memory, and what the tests of several packages share
//
// Only stack imports kernel, udp and tcp, and they do not import each other.
//
// # Where more can be put
//
// Sessions of pool users belong above stack: they use an Endpoint as ASAP does, and
// need no change here.
package sctp
