// Package enrp reads and writes the messages of the Endpoint Handlespace Redundancy
// Protocol (RFC 5353), by which registrars keep their handlespaces equal. [Checksum] is the
// checksum by which they notice a difference. Package registrar acts on the messages.
//
// [Parse] reads one message, and [Message.Append] writes one. Parse is safe for input from
// the network: it never panics, does not keep its input, and allocates at most a fixed
// multiple of the input's length. Its errors are *[rserpool.ParseError]. [ErrorReply] makes
// the response to such an error.
//
// Two messages have a flag of the reference implementation that RFC 5353 does not show:
// [Presence] requests a reply, and [HandleUpdate] suggests a takeover.
//
// Messages are plain values. All functions and methods may be called from any goroutine,
// as long as no other goroutine changes the same value.
package enrp
