// Package registrars runs the registrars of a process, which CoreDNS instances share.
//
// Registrars outlive the instances that use them: a reload starts the new instance
// before it stops the old one, while a port can be bound only once and the
// registrations must not be lost. So a [Set] has the registrars, by their ASAP
// addresses; each [Instance] holds a lease on those that its blocks name, and a
// registrar without leases is closed. The package also has the [Options] of registrars,
// and their metrics ([Collector]). It knows no DNS.
//
// A Set may be used by any number of goroutines. An Instance belongs to the goroutine
// that sets up and reloads CoreDNS.
package registrars
