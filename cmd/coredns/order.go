package main

import (
	"errors"
	"slices"
)

// before is the stock plugin that rserpool stands in front of: behind cache,
// dnssec, minimal and transfer, which work on its answers, and hosts, with
// which an operator overrides them; before kubernetes, file and forward, to
// which its fallthrough leads.
const before = "kubernetes"

// directives returns stock, CoreDNS's order of plugins, with rserpool in its
// place.
func directives(stock []string) ([]string, error) {
	at := slices.Index(stock, before)
	if at < 0 {
		return nil, errors.New("this CoreDNS has no " + before + " plugin to put rserpool in front of: choose another place in order.go")
	}
	return slices.Insert(slices.Clone(stock), at, "rserpool"), nil
}
