// Package lookup remembers selections, so that the questions of one lookup share one.
//
// A client that looks up a pool asks several questions: for A and AAAA, or for A and then
// SRV if a resolver minimises names (RFC 9156), and again by TCP if an answer was cut. They
// are one lookup: the policy selects, and counts, once, and all of them are answered with
// the same elements.
//
// A question belongs to a selection for the same client and pool by the first of these
// rules that applies:
//
//  1. By TCP, to one of the last second that has answered this kind of question by UDP.
//  2. From the same address and port, to one of the last second that has not answered this
//     kind. In the first 50 ms it may have answered it to another port: questions overtake
//     one another.
//  3. From another port, to the oldest one of the last 200 ms that has not answered this
//     kind.
//  4. Otherwise the policy selects.
//
// Of several, the oldest one of the last 200 ms counts, or else the newest one. A client
// with more than 16 such selections is a large resolver, and shares its newest one.
//
// [Memory] never grows. It is a table of buckets, each with the latest 32 selections of 8
// pairs of a client and a pool, at most 17 of a pair; the oldest ones go first. With
// [Buckets] buckets these are 32768 pairs and 131072 selections in 4 MiB, and more with
// selections of several elements. A question takes the lock of one bucket. A Memory may be
// used by any number of goroutines.
//
// memory.go is the table, share.go has the rules, and pick.go and set.go the selections.
package lookup
