// Package enrp holds the messages of the Endpoint Handlespace Redundancy
// Protocol (RFC 5353), by which registrars keep their handlespaces in step,
// and their form on the wire; and the [Checksum] by which they notice when they
// are not. What registrars do with them is not here.
//
// [Parse] reads one message and [Message.Append] writes one, with the same
// contract as in package asap: Parse never panics, does not keep its input and
// allocates no more than the input backs; what it refuses is a
// *[rserpool.ParseError], which [ErrorReply] turns into the answer that is owed.
//
// The messages have the flags of the reference implementation where the RFC
// leaves them out: [Presence] asks for a reply, [HandleUpdate] suggests a
// takeover.
//
// Messages are plain values. Functions and methods of this package may be
// called from any goroutine, as long as no other changes the same value.
package enrp
