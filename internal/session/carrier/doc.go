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
package carrier
