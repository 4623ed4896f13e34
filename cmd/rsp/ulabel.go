package main

import (
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// lookupName returns the name by which clients of DNS look up a pool whose handle has
// letters outside ASCII: its labels with the prefix xn-- (RFC 5891). ok is false if the
// handle is found as it is, or is no such name.
func lookupName(pool rserpool.PoolHandle) (name string, ok bool) {
	if !utf8.ValidString(string(pool)) {
		return "", false
	}
	for _, c := range pool {
		if c >= utf8.RuneSelf {
			name, err := idna.Lookup.ToASCII(string(pool))
			return name, err == nil && name != ""
		}
	}
	return "", false
}

// warnOfName logs that clients of DNS do not find a pool by its handle.
func (l *logger) warnOfName(pool rserpool.PoolHandle) {
	if name, ok := lookupName(pool); ok {
		l.log(quiet, "warning: clients look up the pool %q in DNS by the name %s, which is another pool. For clients of DNS, register the server with --pool %s", string(pool), name, name)
	}
}
