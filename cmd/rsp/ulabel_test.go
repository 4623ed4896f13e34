package main

import (
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestWarnOfName: a handle that clients of DNS turn into its xn-- form gets a warning, also
// with --quiet.
func TestWarnOfName(t *testing.T) {
	for pool, want := range map[rserpool.PoolHandle]string{
		"web":              "",
		"a.b":              "",
		"Compute Pool":     "",
		"xn--bcher-kva":    "",
		"b\xfccher":        "", // Latin-1: bytes, not letters
		"b\u00fccher":      "--pool xn--bcher-kva",
		"B\u00dcCHER.de":   "--pool xn--bcher-kva.de",
		"bu\u0308cher":     "--pool xn--bcher-kva", // in two code points
		"\u4f8b\u3048.web": "--pool xn--r8jz45g.web",
	} {
		var log strings.Builder
		(&logger{w: &log, level: quiet}).warnOfName(pool)
		if got := log.String(); got != "" != (want != "") || !strings.Contains(got, want) {
			t.Errorf("pool %q: got the log %q, want %q in it", string(pool), got, want)
		}
	}
}

// TestRegisterWarnsOfName: the command that registers a server logs the warning.
func TestRegisterWarnsOfName(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	args := register(r, "--", "/bin/sh", "-c", "while :; do sleep 0.05; done")
	for i, a := range args {
		if a == "web" {
			args[i] = "b\u00fccher"
		}
	}
	p := startRSP(t, args...)
	p.says("warning: clients look up the pool \"b\u00fccher\" in DNS by the name xn--bcher-kva")
	r.has(t, "b\u00fccher", 1)
}
