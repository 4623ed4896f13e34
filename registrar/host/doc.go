// Package host runs a registrar on real sockets, in any Go program: [Open] starts it,
// [Host.Close] ends it. One goroutine receives events from the transport and the clock,
// drives the deterministic core (package registrar) and performs its actions. Readers of
// the handlespace do not pass through it.
//
// Events from the network wait in one bounded queue. When it is full the transport's
// readers wait, so that the peers' receive windows close. What is sent waits in the
// transport's bounded queue for each peer, and is dropped and counted when that is full.
// So neither side can stop the loop or grow without bound. A panic of the core is logged
// and counted, and the loop continues: no message can end the process.
package host
