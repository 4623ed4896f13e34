// Package sim runs many registrars and pool elements in one thread and in
// virtual time, on a network that delays messages, loses associations, is
// partitioned, and whose hosts crash, come back and stand still. A seed fixes
// all of it, so that what fails once fails again.
//
// The registrars are the real ones, and what they say goes over the simulated
// network as the bytes of their messages. The elements are simple models of what
// RFC 5352 has elements do. When the faults are over and everybody had time to
// notice, all handlespaces have to be equal, with every living element and no
// other, each with one home that lives, and nobody has anything left to repair.
package sim
