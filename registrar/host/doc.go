// Package host runs a registrar on real sockets: one goroutine takes events
// from the transport and the clock, drives the deterministic core and performs
// its actions. Readers of the handlespace do not pass through it.
package host
