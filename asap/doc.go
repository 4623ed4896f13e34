// Package asap reads and writes the messages of the Aggregate Server Access Protocol
// (RFC 5352). Pool elements and pool users exchange them with registrars and with each
// other. Packages asap/pe, asap/pu and registrar act on the messages.
//
// [Parse] reads one message, and [Message.Append] writes one. The parameters in a message
// are values of package rserpool. Parse is safe for input from the network: it never
// panics, does not keep its input, and allocates at most a fixed multiple of the input's
// length. Its errors are *[rserpool.ParseError]. Registrars get the response to such an
// error from [ErrorReply], pool elements and pool users from [ErrorReport].
//
// Append writes each message in one form: parameters in the order of the RFC, unknown
// parameters last, unused flags and padding zero. Parse accepts other forms too. A message
// that was read, written and read again has not changed.
//
// Messages are plain values. All functions and methods may be called from any goroutine,
// as long as no other goroutine changes the same message.
package asap
