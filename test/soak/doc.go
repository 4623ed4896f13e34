// Package soak loads the real CoreDNS process, and lets it down: reloads under
// load, elements by the thousand that come, go, die and hang, and faults of
// the machine. `go test ./test/soak` runs everything in a short form, with
// -long in the form that `make soak` is for.
package soak
