// Package param holds the parameters that ASAP and ENRP have in common (RFC
// 5354, with the policies of RFC 5356) and their form on the wire.
//
// Values are plain structs without pointers to live state. Append functions
// add a value's wire form to a buffer of the caller's; parsing never keeps the
// input and never allocates more than the input backs.
package param
