// Package registrar is the protocol logic of an RSerPool registrar, which the
// RFCs call ENRP server or name server: the server side of ASAP (RFC 5352) and
// the supervision of the pool elements that it owns.
//
// A [Registrar] is a deterministic state machine. The host gives it events and
// the time, and performs the actions that it returns: it has no goroutine, no
// lock, no socket, no clock and no random source but the one in its Config.
// With the same Config, the same random source and the same events it returns
// the same actions.
//
// The host's duties, in this order, for each event: call Handle, perform the
// actions in their order, and see that Handle is called with a [Tick] no later
// than NextDeadline. Package host does so with real sockets and a real clock.
package registrar
