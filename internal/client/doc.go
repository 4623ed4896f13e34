// Package client is what pool elements, pool users and guests of registrars have in
// common: the sockets toward registrars ([Transport]) and the one goroutine that drives
// a protocol ([Driver]). The multicast group where registrars announce themselves, the
// lookup of names and changes of the machine's addresses belong to the Transport.
// Sockets can be bound again to other addresses; associations from the former addresses
// live on until they end.
package client
