// Package ledger is a registrar's account of all pool elements of its scope: which
// elements there are, which registrar is the home of each, and which of them the
// handlespace serves. It is the only writer of the handlespace.
//
// Each element is an [Entry]. The entries of one home registrar are its [Roster],
// in the order in which they became its own, with their PE checksum (RFC 5353,
// Section 3.6.2). The entries of one handle are a pool.
//
// An element changes hands by three calls only:
//
//   - Put adds an element, or describes it anew, or moves it to another home. It is
//     refused if the limits have no room.
//   - Move gives an element that is there to another home. It never fails: no limit,
//     and no conflict with the rest of the pool, can lose a living element.
//   - Remove takes an element out.
//
// Suspect and Confirm change the state of an element, which stays where it is. Each of these
// calls returns one [Change]. The caller makes of it what others are to know: updates
// for peers, notices for subscribers, counters and log lines. The Entry of an element
// stays the same from Put to Remove, whatever its home, and carries the caller's Note.
//
// # Elements that are set aside
//
// All elements of a pool have one policy type and one kind of user transport, which
// the first one fixes (RFC 5352, Section 3.1). Two registrars that cannot see one
// another can each let another one be the first. No rule says which kind is right,
// and no element may be lost. So each registrar continues with the kind that it had
// first, and sets the others aside: they are in the roster of their home and in its
// checksum, are sent to peers and taken over, but are not in the handlespace, where
// clients would find them. When the last element of the pool's kind leaves, those
// set aside become the pool. The caller may also exclude elements from a pool whatever its
// first element is ([Ledger.Check]): they are set aside as well.
//
// # Suspects and the guard
//
// Each entry has a [State]. A suspect is silent, which does not say that it is dead: perhaps
// the registrar itself is cut off. It keeps all that the registrar knows of it, but is no
// member of its roster any more: checksum and audits do without it. The handlespace does
// without it as well, unless the pool is guarded. By the zero [GuardRule] that is so while
// only suspects could serve: then all of them are in the handlespace, as if they were
// members. So silence alone never empties a pool, and no reader finds it empty in between.
// While a suspect is out of the handlespace, its turn and its sum of degradations are kept.
//
// The guard of a large pool moves many elements. One call moves some of them; the caller
// calls Step for the next ones, so that it is never held up for long.
//
// # Readers of rosters
//
// Downloads and audits read rosters in parts, while elements come and go. A [Cursor]
// stays valid: an entry that leaves its roster is skipped, one that joins a roster
// which is not finished is read.
//
// The ledger knows no messages, associations, timers or peers, and is for one
// goroutine.
package ledger
