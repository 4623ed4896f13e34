// Package asap holds the messages of the Aggregate Server Access Protocol (RFC
// 5352), by which pool elements and pool users speak with registrars and with
// each other, and their form on the wire. What an endpoint or a registrar does
// with them is not here.
//
// [Parse] reads one message and [Message.Append] writes one; the parameters
// inside are those of package rserpool. Parse takes what comes from the network:
// it never panics, does not keep its input, and allocates no more than the
// input backs (a fixed multiple of its length). What it refuses is a
// *[rserpool.ParseError], which [ErrorReply], in a registrar, or [ErrorReport] turns
// into the answer that is owed to the sender, if one is.
//
// Append writes each message in one form: parameters in the order of the RFC,
// unknown ones last, all flags and padding that mean nothing zero. Parse is
// liberal in these, so that a message may come in another form than it would
// be written in; written and read again it is the same message.
//
// Messages are plain values. Functions and methods of this package may be
// called from any goroutine, as long as no other changes the same message.
package asap
