// Package sim runs many registrars and pool elements in one thread and in virtual time.
// The network delays messages, loses packets, and is cut in both directions or in one, or
// between two registrars only. A lost packet delays the ordered messages behind it. The two sides of an association end
// at different times, and each hears why. Processes crash, with a word or without, come
// back under another identifier, and stand still: one, all of a pool, most of a
// registrar's, or most of the registrars. Machines have no power, and registrars lose
// their own link. Elements move while their former process stands still. Clocks are wrong
// and run at different speeds. Registrars refuse their handlespace or have tables without
// end. Some registrars keep their state over a restart: all but what was told in the last
// second, or nothing if the disk is lost. A seed fixes all of it, so that what fails once fails again. Half of the seeds have
// only some kinds of faults; see faults.
//
// The registrars are the real ones, and what they say goes over the simulated
// network as the bytes of their messages. The elements are simple models of what
// RFC 5352 has elements do, and so is reference, of what the reference
// implementation does as a registrar.
//
// # What has to hold
//
// Silence alone never empties a pool in any registrar's answers, unless the operator's
// rule for the pool says so; see answers.go. What a registrar has kept is in its answers
// from its start, and nothing that is too old. A home that has heard an element has it as
// a member. An element that is silent is out in time, unless the registrar or the pool is
// guarded, and the registrar's guard ends after its cause.
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
// # Trust
//
// In some seeds all processes have identities, as TLS would prove them, and the registrars
// look at them; see trust. Some elements may not register in their pool. Rights change while
// things go wrong, a thief with a certificate for the pool tries to get the identifiers of
// living elements, and one registrar may be lax: it lets everybody register, and announces
// them. No answer names an element that may not register in the pool, soon after each registrar
// has the rights. Registrars and users lose their rights, too, and get them back: from the moment at which a
// registrar has the rights, it sends nothing to a registrar that may not be one, and handles
// nothing from it, and it names no element to a user that may not resolve. An element that is only silent keeps its identifier from the thief.
// A squatter runs where an element was, and acknowledges keep-alives: it does not pass for the
// element. At rest
// the registrars agree about all that may register, and there is no more to say than
// without lax ones.
//
// Partitions, takeovers and identifiers that move are looked at closely in scenarios
// of their own: see the functions takeover, orphans, partition, partialCut, oneLink, rolling, moving,
// strangers, mentors, refusers, endlessAudits and withdrawal.
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
// SIM_SEEDS has so many seeds run, and SIM_LARGE so many registrars in TestLarge.
package sim
