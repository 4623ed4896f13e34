// Package rserpool is a CoreDNS plugin that answers queries for the pools of
// an RSerPool registrar, which it runs in the same process.
//
// The plugin knows DNS and CoreDNS: it turns names into pool handles, has the
// pool select elements, and makes records of them ([Handler]). The registrar
// (package registrar/host) knows ASAP and ENRP. The two meet only in the
// handlespace, so that no query waits for the registrar.
//
// Handlers belong to a CoreDNS instance, which a reload replaces; registrars
// belong to the process and are leased by instances (package internal/registrars).
// A Handler may be used by any number of goroutines.
//
// Start reading at setup.go, then handler.go, query.go and select.go. parse.go reads
// the Corefile, and pools.go the options by pool; name.go finds what a name stands
// for; addresses.go, records.go, rank.go, naptr.go, svcb.go, dnssd.go, reverse.go
// and text.go make the records, and reply.go the message. Package internal/lookup
// has the questions of one lookup share a selection. transfer.go and zonecopy.go
// copy the zone for secondaries, and notify.go notifies them. denial.go makes what
// the dnssec plugin signs in negative answers, and metadata.go the labels for other
// plugins.
package rserpool
