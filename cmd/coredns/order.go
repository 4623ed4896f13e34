package main

import (
	"errors"
	"slices"
)

// before is the stock plugin before which rserpool is inserted. rserpool comes after cache,
// dnssec, minimal and transfer, which work on its answers, and after hosts, by which an
// operator overrides them. It comes before kubernetes, file and forward, to which its
// fallthrough leads.
const before = "kubernetes"

// directives returns stock, the order of plugins in CoreDNS, with rserpool in it.
func directives(stock []string) ([]string, error) {
	at := slices.Index(stock, before)
	if at < 0 {
		return nil, errors.New("this CoreDNS has no " + before + " plugin to put rserpool in front of: choose another place in order.go")
	}
	return slices.Insert(slices.Clone(stock), at, "rserpool"), nil
}
