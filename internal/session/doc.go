// Package session has the two sides of a session between a pool user and pool elements (RFC
// 5352, Sections 3.8, 3.9 and 6.5) as deterministic state machines: without clock,
// goroutine, lock and socket. Packages asap/pu and asap/pe drive them, and the simulation.
//
// A [User] has one association at a time, with one element of a pool. When the element
// fails, it selects another one and goes on there.
//
// An [Element] is the element's side. It has one association, and ends with it.
//
// # How to drive a machine
//
// Call the method of an event with the time at which it happens. Afterwards:
//
//  1. Perform the actions that Take returns, in their order.
//  2. Send messages: as long as Next has one and the association has room for it, send it
//     and call Sent. If the association has no room, go on when it has some again.
//  3. Wake those who wait: for a message if Readable, for room if MaySend has no error.
//  4. Call Tick no later than NextDeadline.
//
// The order of 1 and 2 does not matter: an association that is to be shut down has no
// message left.
package session
