package main

import (
	"fmt"
	"strings"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// policyHelp lists the policies for help texts, with the values that each takes from an
// element.
func policyHelp() string {
	var b strings.Builder
	for _, t := range rserpool.Policies() {
		var values []string
		for _, f := range t.Fields() {
			if f != rserpool.FieldDistance { // registrars write it
				values = append(values, f.String())
			}
		}
		fmt.Fprintf(&b, "  %-40s%-11s%s\n", t, t.Short(), strings.Join(values, ", "))
	}
	return b.String()
}

// parsePolicy reads NAME, NAME:VALUE or NAME:KEY=VALUE,KEY=VALUE.
func parsePolicy(s string) (rserpool.Policy, error) {
	p, err := rserpool.ParsePolicy(s)
	if err == nil && !p.Type.Known() {
		err = fmt.Errorf("policy %s: its values are not known here, so that no element can be registered with it", s)
	}
	return p, err
}
