// Package sim runs many registrars and pool elements in one thread and in
// virtual time, on a network that delays messages, loses associations, is
// partitioned, and whose hosts crash, come back under another identifier, stand
// still, have clocks that are wrong and run at different speeds, and refuse their
// handlespace or have tables without end. A seed fixes
// all of it, so that what fails once fails again.
//
// The registrars are the real ones, and what they say goes over the simulated
// network as the bytes of their messages. The elements are simple models of what
// RFC 5352 has elements do, and so is reference, of what the reference
// implementation does as a registrar.
//
// # What has to hold
//
// While things go wrong, see watch and storm: a registrar has no element twice,
// and none whose home never was; its PE checksum is that of its elements; an
// element that is sure of its home is there; one that is dead, or stands still, is
// not there for longer than its home's supervision takes; there is one update for
// each thing that is a reason for one, and no more messages in a second than if
// all elements changed hands. All of it is looked at after each event that has
// changed the handlespace, every half second, and the checksum whenever it is
// sent; in a scope that is too large for that, now and then. And no registrar gets
// ready without a handlespace while a peer has one and only refuses it.
//
// When nothing goes wrong any more, see checkRest: all handlespaces are equal,
// with all living elements and no other, each with one home that lives and that
// the element takes for its home. Each registrar sends only presences, asks one peer
// for its list in each cycle, and sends updates of elements that registered anew.
//
// Partitions, takeovers and identifiers that move are looked at closely in scenarios
// of their own: see the functions takeover, orphans, partition, rolling, moving,
// strangers, mentors, refusers and endlessAudits.
//
// # Sessions
//
// The elements can serve sessions with pool users, see sessions: both sides are the real
// cores of internal/session, on a network of their own, and the users' cache is a model.
// The service is a counter whose state is in cookies, so that the answers tell whether
// each request has had its effect once, in order. While elements and registrars crash,
// stand still, leave with a last will, and are cut off, each session gets exactly the
// right answers; none is without an element for long while one could serve it; the cookie
// comes first on each association; the last will is followed; each failure is reported
// once; and queues keep to their bounds. TestSessionMutations breaks each of these.
//
// # When it fails
//
// The test says how to run the seed again; with SIM_SEED it tells what happens.
// SIM_SEEDS has so many seeds run, and TestLarge at its full size.
package sim
