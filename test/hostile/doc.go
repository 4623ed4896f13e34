// Package hostile attacks a registrar as peers on its network can, and asserts
// what that may cost: memory, goroutines and processor time of the server have
// ceilings, honest pool elements stay registered, DNS answers stay right and
// quick, and afterwards nothing is left. docs/limits.md has the table.
//
// The server is CoreDNS with the plugin rserpool in a process of its own, so
// that only the server is measured. Everything is on the loopback.
// TestKernel attacks the kernel's SCTP, in the kernel lab, and the other tests
// SCTP in UDP, and TCP. With the flag -long the attacks are larger and last longer.
package hostile
