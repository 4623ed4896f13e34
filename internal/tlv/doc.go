// Package tlv reads and writes the parameters that ASAP and ENRP have in common
// (RFC 5354, with the policies of RFC 5356). Package rserpool has their values.
//
// A [Cursor] reads parameters from a message and a [Builder] writes them. The two
// hold all checks of lengths, padding and nesting, the treatment of unknown
// parameters, and the errors; packages asap and enrp build their messages from
// them. The Append functions write one parameter on its own, for an error cause or
// a message written by hand.
//
// Reading never keeps the input, never panics and never allocates more than a
// fixed multiple of the input's length. Writing allocates nothing but what the
// buffer needs to grow, and refuses what could not be read again.
//
// Nothing here is safe for concurrent change, all of it for concurrent use.
package tlv
