package rserpool

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParsePolicy reads NAME, NAME:VALUE or NAME:KEY=VALUE,KEY=VALUE. NAME is what
// [ParsePolicyType] reads, KEY a [PolicyField] of the policy. Weight, priority and
// distance are numbers; load, degradation and dpf are fractions such as 0.25 or
// 25%. A weight that is not given is 1, other values are 0.
func ParsePolicy(s string) (Policy, error) {
	name, rest, given := strings.Cut(s, ":")
	t, err := ParsePolicyType(name)
	if err != nil {
		return Policy{}, err
	}
	p := Policy{Type: t}
	if t.Has(FieldWeight) {
		p.Weight = 1
	}
	if !given {
		return p, nil
	}
	seen := make(map[string]bool)
	for part := range strings.SplitSeq(rest, ",") {
		key, _, _ := strings.Cut(part, "=")
		if seen[key] {
			return Policy{}, fmt.Errorf("policy %s: %s is given twice", s, key)
		}
		seen[key] = true
		if err := p.set(part); err != nil {
			return Policy{}, fmt.Errorf("policy %s: %w", s, err)
		}
	}
	return p, nil
}

// MustParsePolicy is [ParsePolicy] for constants in programs and tests; it panics on
// an error.
func MustParsePolicy(s string) Policy { return must(ParsePolicy(s)) }

// set takes VALUE or KEY=VALUE.
func (p *Policy) set(part string) error {
	fields := p.Type.Fields()
	key, value, named := strings.Cut(part, "=")
	switch {
	case named && key == "extra":
		b, err := hex.DecodeString(value)
		p.Extra = string(b)
		return err
	case named:
	case len(fields) == 0:
		return fmt.Errorf("no value allowed: %s", p.Type.usage())
	case len(fields) > 1:
		return fmt.Errorf("name each value: %s", p.Type.usage())
	default:
		key, value = fields[0].String(), part
	}
	for _, f := range fields {
		if f.String() == key {
			v, err := f.parse(value)
			*p.Field(f) = v
			return err
		}
	}
	return fmt.Errorf("no value %q: %s", key, p.Type.usage())
}

// usage says which values the policy has. Registrars, not users, set the distance.
func (t PolicyType) usage() string {
	var keys []string
	for _, f := range t.Fields() {
		if f != FieldDistance {
			keys = append(keys, f.String()+"=...")
		}
	}
	if len(keys) == 0 {
		return fmt.Sprintf("%v has none", t)
	}
	return fmt.Sprintf("want %v:%s", t, strings.Join(keys, ","))
}

// parse reads one value.
func (f PolicyField) parse(s string) (uint32, error) {
	if f.fraction() {
		v, err := ParseFraction(s)
		if err != nil {
			return 0, fmt.Errorf("%v %w", f, err)
		}
		return FromFraction(v), nil
	}
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("%v %q is not a number from 0 to 4294967295", f, s)
	}
	return uint32(n), nil
}

// ParseFraction reads a number from 0 to 1 ("0.25") or from 0% to 100%.
func ParseFraction(s string) (float64, error) {
	number, percent := strings.CutSuffix(s, "%")
	f, err := strconv.ParseFloat(number, 64)
	if percent {
		f /= 100
	}
	if err != nil || !(f >= 0 && f <= 1) { // not NaN
		return 0, fmt.Errorf("%q is not a fraction: 0 to 1, or 0%% to 100%%", s[:min(len(s), 40)])
	}
	return f, nil
}

// FromFraction turns a fraction into a Load, LoadDegradation or DPF of a [Policy].
// Less than 0 counts as 0, more than 1 as 1.
func FromFraction(f float64) uint32 {
	return uint32(math.Round(max(0, min(1, f)) * math.MaxUint32))
}

// ToFraction is the inverse of [FromFraction].
func ToFraction(v uint32) float64 { return float64(v) / math.MaxUint32 }

// MarshalText returns the policy with all its values in the form that
// [ParsePolicy] reads, and nothing for the zero value.
func (p Policy) MarshalText() ([]byte, error) {
	if p.Type == 0 {
		return nil, nil
	}
	b, sep := []byte(p.Type.String()), byte(':')
	add := func(key, value string) {
		b = append(append(append(append(b, sep), key...), '='), value...)
		sep = ','
	}
	for _, f := range p.Type.Fields() {
		v := *p.Field(f)
		if f.fraction() {
			add(f.String(), strconv.FormatFloat(ToFraction(v), 'g', -1, 64))
		} else {
			add(f.String(), strconv.FormatUint(uint64(v), 10))
		}
	}
	if p.Extra != "" {
		add("extra", hex.EncodeToString([]byte(p.Extra)))
	}
	return b, nil
}

// UnmarshalText reads what [ParsePolicy] reads, and the zero value from no text.
func (p *Policy) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*p = Policy{}
		return nil
	}
	*p, err = ParsePolicy(string(text))
	return err
}
