// Package rserpool holds the values of Reliable Server Pooling (RFC 5351 to 5356)
// that programs and all packages of this module share: pool handles, identifiers
// of pool elements and registrars, transports, selection policies, pool elements
// and error causes. They are plain values without sockets, goroutines or locks.
//
// Servers register with package [github.com/rserpool/coredns-rserpool/asap/pe],
// clients use package [github.com/rserpool/coredns-rserpool/asap/pu].
//
// Nothing here is safe for concurrent change, all of it for concurrent use.
package rserpool
