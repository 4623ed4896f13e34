// Package hunt is the server hunt of RFC 5352, Section 3.6, by which a pool element or a
// pool user finds a registrar, and the list of registrars that it knows: those that are
// configured, and those that announce themselves by multicast. Names of registrars are
// looked up anew in each hunt.
//
// [Hunt] is deterministic like the protocols that use it: events and the time go in,
// actions come out.
package hunt
