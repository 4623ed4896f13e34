// Package host runs a registrar on real sockets: one goroutine takes events
// from the transport and the clock, drives the deterministic core and performs
// its actions. Readers of the handlespace do not pass through it.
//
// What comes from the network waits in one bounded queue. When it is full the
// transport's readers wait, so the peers' receive windows close; what goes out
// lies in the transport's bounded queue for each peer, and is dropped and
// counted when that is full. So neither side can stop the loop or grow without
// bound. A panic of the core is logged and counted, and the loop goes on: no
// message can end the process.
package host
