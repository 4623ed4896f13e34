// Package endpoint is what a pool element and a pool user have in common (RFC
// 5352): the server hunt by which they find a registrar to talk to, the
// registrars that are announced by multicast, and the sockets under both.
//
// [Hunt] is deterministic like the cores that use it: events and the time go
// in, actions come out. [Transport] performs actions on real sockets, or on
// those of a network in memory.
package endpoint
