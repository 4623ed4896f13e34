// Package param holds the parameters that ASAP and ENRP have in common (RFC
// 5354, with the policies of RFC 5356) and their form on the wire.
//
// Values are plain structs without pointers to live state. A [Cursor] reads
// them from a message and a [Builder] writes them; those two hold all that
// there is to know about lengths, padding and nesting, about unknown
// parameters and about errors, and packages asap and enrp build their messages
// from them. The Append functions write one parameter on its own, for an error
// cause or a message written by hand.
//
// Reading never keeps the input, never panics and never allocates more than a
// fixed multiple of the input's length. Writing allocates nothing but what the
// buffer needs to grow, and refuses what could not be read again.
//
// Nothing here is safe for concurrent change, all of it for concurrent use.
package param
