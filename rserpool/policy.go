package rserpool

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// To add a policy: a constant, a row in policies, and rows in the tables of the tests.
// Package registrar/handlespace selects elements by it.

// PolicyType is a pool member selection policy's type (RFC 5356, Section
// 3.1). Bit 31 marks private ones, bit 30 the adaptive ones of the RFC; the
// private ones of RSPLIB do not use bit 30.
type PolicyType uint32

// The policies of RFC 5356, and RSPLIB's private ones that have a wire format.
const (
	RoundRobin                             PolicyType = 0x00000001
	WeightedRoundRobin                     PolicyType = 0x00000002
	Random                                 PolicyType = 0x00000003
	WeightedRandom                         PolicyType = 0x00000004
	Priority                               PolicyType = 0x00000005
	LeastUsed                              PolicyType = 0x40000001
	LeastUsedDegradation                   PolicyType = 0x40000002
	PriorityLeastUsed                      PolicyType = 0x40000003
	RandomizedLeastUsed                    PolicyType = 0x40000004
	RandomizedPriorityLeastUsed            PolicyType = 0xb0001001
	RandomizedLeastUsedDegradation         PolicyType = 0xb0001002
	PriorityLeastUsedDegradation           PolicyType = 0xb0001003
	RandomizedPriorityLeastUsedDegradation PolicyType = 0xb0001004
	WeightedRandomDPF                      PolicyType = 0xb0002001
	LeastUsedDPF                           PolicyType = 0xb0002002
	LeastUsedDegradationDPF                PolicyType = 0xb0002003
)

// reservedPolicy is the one type beside 0 that RFC 5356, Section 3.1, reserves.
const reservedPolicy PolicyType = 0x40000000

// PolicyField names a value of a policy.
type PolicyField uint8

// The values that policies have (RFC 5356), as the fields of [Policy] of the same
// name.
const (
	FieldWeight PolicyField = iota
	FieldPriority
	FieldLoad
	FieldLoadDegradation
	FieldDPF
	FieldDistance
)

var fieldNames = [...]string{"weight", "priority", "load", "degradation", "dpf", "distance"}

// String returns the word that [ParsePolicy] reads: "weight", "priority", "load",
// "degradation", "dpf" or "distance".
func (f PolicyField) String() string {
	if int(f) < len(fieldNames) {
		return fieldNames[f]
	}
	return fmt.Sprintf("PolicyField(%d)", uint8(f))
}

// fraction reports whether the value is one of 0xffffffff.
func (f PolicyField) fraction() bool {
	return f == FieldLoad || f == FieldLoadDegradation || f == FieldDPF
}

// policies are the known policies with their values in the order on the wire.
var policies = [...]struct {
	typ    PolicyType
	name   string
	short  string
	fields []PolicyField
}{
	{RoundRobin, "RoundRobin", "RR", nil},
	{WeightedRoundRobin, "WeightedRoundRobin", "WRR", []PolicyField{FieldWeight}},
	{Random, "Random", "RAND", nil},
	{WeightedRandom, "WeightedRandom", "WRAND", []PolicyField{FieldWeight}},
	{Priority, "Priority", "PRIO", []PolicyField{FieldPriority}},
	{LeastUsed, "LeastUsed", "LU", []PolicyField{FieldLoad}},
	{LeastUsedDegradation, "LeastUsedDegradation", "LUD", []PolicyField{FieldLoad, FieldLoadDegradation}},
	{PriorityLeastUsed, "PriorityLeastUsed", "PLU", []PolicyField{FieldLoad, FieldLoadDegradation}},
	{RandomizedLeastUsed, "RandomizedLeastUsed", "RLU", []PolicyField{FieldLoad}},
	{RandomizedPriorityLeastUsed, "RandomizedPriorityLeastUsed", "RPLU", []PolicyField{FieldLoad, FieldLoadDegradation}},
	{RandomizedLeastUsedDegradation, "RandomizedLeastUsedDegradation", "RLUD", []PolicyField{FieldLoad, FieldLoadDegradation}},
	{PriorityLeastUsedDegradation, "PriorityLeastUsedDegradation", "PLUD", []PolicyField{FieldLoad, FieldLoadDegradation}},
	{RandomizedPriorityLeastUsedDegradation, "RandomizedPriorityLeastUsedDegradation", "RPLUD", []PolicyField{FieldLoad, FieldLoadDegradation}},
	{WeightedRandomDPF, "WeightedRandomDPF", "WRAND-DPF", []PolicyField{FieldWeight, FieldDPF, FieldDistance}},
	{LeastUsedDPF, "LeastUsedDPF", "LU-DPF", []PolicyField{FieldLoad, FieldDPF, FieldDistance}},
	{LeastUsedDegradationDPF, "LeastUsedDegradationDPF", "LUD-DPF", []PolicyField{FieldLoad, FieldLoadDegradation, FieldDPF, FieldDistance}},
}

// policyTypes are the types in policies, side by side to be searched fast.
var policyTypes = func() (all [len(policies)]PolicyType) {
	for i := range policies {
		all[i] = policies[i].typ
	}
	return all
}()

// index is the policy's place in policies, -1 if it is unknown.
func (t PolicyType) index() int {
	for i, known := range &policyTypes {
		if known == t {
			return i
		}
	}
	return -1
}

// Fields returns the values that policies of the type have, in their order on the wire.
// The caller must not change the slice.
func (t PolicyType) Fields() []PolicyField {
	if i := t.index(); i >= 0 {
		return policies[i].fields
	}
	return nil
}

// Known reports whether the type is one of the constants above.
func (t PolicyType) Known() bool { return t.index() >= 0 }

// String returns the policy's name, such as "WeightedRoundRobin", or the type
// in hexadecimal digits if it is unknown. [ParsePolicyType] reads both.
func (t PolicyType) String() string {
	if i := t.index(); i >= 0 {
		return policies[i].name
	}
	return fmt.Sprintf("0x%08x", uint32(t))
}

// Valid reports whether the type is not reserved (RFC 5356, Section 3.1).
func (t PolicyType) Valid() bool { return t != 0 && t != reservedPolicy }

// Policies returns the types of the known policies, those of RFC 5356 first.
func Policies() []PolicyType {
	return slices.Clone(policyTypes[:])
}

// Short returns the policy's abbreviation, such as "WRR", "" if it is unknown.
func (t PolicyType) Short() string {
	if i := t.index(); i >= 0 {
		return policies[i].short
	}
	return ""
}

// Has reports whether policies of the type have the value.
func (t PolicyType) Has(f PolicyField) bool { return slices.Contains(t.Fields(), f) }

// ParsePolicyType reads a policy's name, in any case and with or without '-'
// or '_' between its words, its abbreviation ("WRR"), or its number in Go's
// notation ("0xb0001001").
func ParsePolicyType(s string) (PolicyType, error) {
	name := strings.NewReplacer("-", "", "_", "").Replace(s)
	for i := range policies {
		if strings.EqualFold(name, policies[i].name) || strings.EqualFold(s, policies[i].short) {
			return policies[i].typ, nil
		}
	}
	if n, err := strconv.ParseUint(s, 0, 32); err == nil {
		if t := PolicyType(n); t.Valid() {
			return t, nil
		}
		return 0, fmt.Errorf("policy type %s is reserved and names no policy", s)
	}
	var all []string
	for i := range policies {
		all = append(all, policies[i].name)
	}
	return 0, fmt.Errorf("unknown policy %q: want one of %s, or a number such as 0x40000001", s, strings.Join(all, ", "))
}

// MarshalText returns what String returns, and nothing for the zero value.
func (t PolicyType) MarshalText() ([]byte, error) {
	if t == 0 {
		return nil, nil
	}
	return []byte(t.String()), nil
}

// UnmarshalText reads what [ParsePolicyType] reads, and the zero value from no text.
func (t *PolicyType) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*t = 0
		return nil
	}
	*t, err = ParsePolicyType(string(text))
	return err
}

// Policy is a pool member selection policy with its values (RFC 5354, Section
// 3.8; RFC 5356). Only the fields that the type has are on the wire. Policies
// are comparable.
type Policy struct {
	Type PolicyType
	// Weight is the relative capacity; 0 means that the element cannot
	// serve (RFC 5356, Section 3.2).
	Weight uint32
	// Priority: an element with a higher value is preferred.
	Priority uint32
	// Load runs from 0 (idle) to 0xffffffff (100 %).
	Load uint32
	// LoadDegradation is what one more user adds to Load, in its unit.
	LoadDegradation uint32
	// DPF is the Load DPF or Weight DPF of the distance-sensitive policies:
	// the fraction of 0xffffffff that a unit of Distance costs.
	DPF uint32
	// Distance is written by registrars, in milliseconds.
	Distance uint32
	// Extra has the bytes after the known fields; for an unknown type, all data.
	Extra string
}

// Field returns a pointer to the value f in p.
func (p *Policy) Field(f PolicyField) *uint32 {
	switch f {
	case FieldWeight:
		return &p.Weight
	case FieldPriority:
		return &p.Priority
	case FieldLoad:
		return &p.Load
	case FieldLoadDegradation:
		return &p.LoadDegradation
	case FieldDPF:
		return &p.DPF
	case FieldDistance:
	}
	return &p.Distance
}

// String returns the policy's name with the values that it has, for example
// "WeightedRoundRobin weight 7" or "LeastUsed load 25.0%".
func (p Policy) String() string {
	if p.Type == 0 {
		return "no policy"
	}
	s := p.Type.String()
	for _, f := range p.Type.Fields() {
		switch f {
		case FieldWeight:
			s += fmt.Sprintf(" weight %d", p.Weight)
		case FieldPriority:
			s += fmt.Sprintf(" priority %d", p.Priority)
		case FieldLoad:
			s += " load " + percent(p.Load)
		case FieldLoadDegradation:
			s += " degradation " + percent(p.LoadDegradation)
		case FieldDPF:
			s += " dpf " + percent(p.DPF)
		case FieldDistance:
			s += fmt.Sprintf(" distance %d", p.Distance)
		}
	}
	if p.Extra != "" {
		s += fmt.Sprintf(" and %x", p.Extra)
	}
	return s
}

func percent(v uint32) string {
	return strconv.FormatFloat(float64(v)/0xffffffff*100, 'f', 1, 64) + "%"
}
