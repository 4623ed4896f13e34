// Package endpoint is what a pool element and a pool user have in common (RFC
// 5352): the server hunt by which they find a registrar to talk to, the
// registrars that are announced by multicast, and the sockets under both. Names of
// registrars are looked up anew in each hunt. Sockets can be bound again to other
// addresses; associations from the former ones live on until they end.
//
// [Hunt] is deterministic like the cores that use it: events and the time go
// in, actions come out. [Transport] performs actions on real sockets, or on
// those of a network in memory.
package endpoint
