// Package sctp carries messages over SCTP, whatever the machine offers: the
// kernel's SCTP, SCTP in UDP in user space (RFC 6951, with pion/sctp), TCP for
// pool users, and a network in memory for tests. It knows nothing of ASAP and
// ENRP and imports no other package of this module.
package sctp
