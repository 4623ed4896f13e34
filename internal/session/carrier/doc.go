// Package carrier carries sessions: it has the SCTP associations between pool users and
// pool elements.
//
// Two SCTP endpoints have at most one association (RFC 9260, Section 1.3), so that
// several sessions with one element need as many local ports. A [Carrier] uses a local
// endpoint for one association with each of many peers. It opens another endpoint when
// all have an association with the peer, and closes those that it no longer needs.
//
// Each association has a [Handler] of its own, which the transport's goroutines call.
// The Carrier has no goroutine for an association.
//
// An association that loses the last local address toward its peer ends at once, with the
// reason Lost and sctp.ErrAddrGone, so that the session can go on from another address.
package carrier
