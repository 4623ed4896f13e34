package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/load"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// policies are the policies that an element can register with, and the values
// that each takes from it (RFC 5356; the last ones are RSPLIB's).
var policies = []struct {
	typ    rserpool.PolicyType
	short  string
	values []string
}{
	{rserpool.RoundRobin, "RR", nil},
	{rserpool.WeightedRoundRobin, "WRR", []string{"weight"}},
	{rserpool.Random, "RAND", nil},
	{rserpool.WeightedRandom, "WRAND", []string{"weight"}},
	{rserpool.Priority, "PRIO", []string{"priority"}},
	{rserpool.LeastUsed, "LU", []string{"load"}},
	{rserpool.LeastUsedDegradation, "LUD", []string{"load", "degradation"}},
	{rserpool.PriorityLeastUsed, "PLU", []string{"load", "degradation"}},
	{rserpool.RandomizedLeastUsed, "RLU", []string{"load"}},
	{rserpool.RandomizedPriorityLeastUsed, "RPLU", []string{"load", "degradation"}},
	{rserpool.RandomizedLeastUsedDegradation, "RLUD", []string{"load", "degradation"}},
	{rserpool.PriorityLeastUsedDegradation, "PLUD", []string{"load", "degradation"}},
	{rserpool.RandomizedPriorityLeastUsedDegradation, "RPLUD", []string{"load", "degradation"}},
	{rserpool.WeightedRandomDPF, "WRAND-DPF", []string{"weight", "dpf"}},
	{rserpool.LeastUsedDPF, "LU-DPF", []string{"load", "dpf"}},
	{rserpool.LeastUsedDegradationDPF, "LUD-DPF", []string{"load", "degradation", "dpf"}},
}

// policyHelp lists the policies for help texts.
func policyHelp() string {
	var b strings.Builder
	for _, p := range policies {
		fmt.Fprintf(&b, "  %-40s%-11s%s\n", p.typ, p.short, strings.Join(p.values, ", "))
	}
	return b.String()
}

// parsePolicy reads NAME, NAME:VALUE or NAME:KEY=VALUE,KEY=VALUE.
func parsePolicy(s string) (rserpool.Policy, error) {
	name, rest, given := strings.Cut(s, ":")
	var p rserpool.Policy
	for _, known := range policies {
		if strings.EqualFold(name, known.short) {
			p.Type = known.typ
		}
	}
	if p.Type == 0 {
		var err error
		if p.Type, err = rserpool.ParsePolicyType(name); err != nil {
			return p, err
		}
	}
	keys, ok := policyValues(p.Type)
	if !ok {
		return p, fmt.Errorf("policy %s: its values are not known here, so that no element can be registered with it", name)
	}
	if slices.Contains(keys, "weight") {
		p.Weight = 1
	}
	if !given {
		return p, nil
	}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, named := strings.Cut(part, "=")
		if !named {
			if len(keys) == 0 {
				return p, fmt.Errorf("policy %s: no value is wanted: %s", s, valuesHelp(p.Type, keys))
			}
			if len(keys) > 1 {
				return p, fmt.Errorf("policy %s: name each value: %s", s, valuesHelp(p.Type, keys))
			}
			key, value = keys[0], part
		}
		if !slices.Contains(keys, key) {
			return p, fmt.Errorf("policy %s: no value %q: %s", s, key, valuesHelp(p.Type, keys))
		}
		if err := setValue(&p, key, value); err != nil {
			return p, fmt.Errorf("policy %s: %w", s, err)
		}
	}
	return p, nil
}

func policyValues(t rserpool.PolicyType) ([]string, bool) {
	for _, known := range policies {
		if known.typ == t {
			return known.values, true
		}
	}
	return nil, false
}

func valuesHelp(t rserpool.PolicyType, keys []string) string {
	if len(keys) == 0 {
		return fmt.Sprintf("%v has none", t)
	}
	return fmt.Sprintf("want %v:%s=...", t, strings.Join(keys, "=...,"))
}

func setValue(p *rserpool.Policy, key, value string) error {
	switch key {
	case "weight", "priority":
		n, err := strconv.ParseUint(value, 0, 32)
		if err != nil {
			return fmt.Errorf("%s %q is not a number from 0 to 4294967295", key, value)
		}
		if key == "weight" {
			p.Weight = uint32(n)
		} else {
			p.Priority = uint32(n)
		}
		return nil
	}
	f, err := load.ParseFraction(value)
	if err != nil {
		return fmt.Errorf("%s %w", key, err)
	}
	v := load.ToWire(f)
	switch key {
	case "load":
		p.Load = v
	case "degradation":
		p.LoadDegradation = v
	case "dpf":
		p.DPF = v
	}
	return nil
}

// hasLoad reports whether elements tell their load under a policy.
func hasLoad(t rserpool.PolicyType) bool {
	keys, _ := policyValues(t)
	return slices.Contains(keys, "load")
}
