package rserpool

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/registrars"
	core "github.com/rserpool/coredns-rserpool/registrar"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// forRegistrar returns those options of the pools that are the registrar's. A later option
// is a field of registrar.PoolRule and a row in poolOptionTable.
func (t *poolTable) forRegistrar() (p registrars.Pools) {
	p.Lines = slices.DeleteFunc(t.block.registrarLines(""), func(line string) bool { return line == usualGuard })
	names := slices.Sorted(maps.Keys(t.names))
	for _, name := range names {
		p.Lines = append(p.Lines, t.names[name].registrarLines("pool "+t.names[name].glob.String()+" ")...)
	}
	for _, r := range t.globs {
		p.Lines = append(p.Lines, r.registrarLines("pool "+r.glob.String()+" ")...)
	}
	if len(p.Lines) == 0 {
		return p
	}
	p.Rules = func(h rsp.PoolHandle) core.PoolRule { return t.of(h).rule }
	if !t.sets("metrics") {
		return p
	}
	p.Listed = func(h rsp.PoolHandle) string {
		if !t.of(h).metrics {
			return ""
		}
		return labelOf(h)
	}
	for _, name := range names {
		if t.empty[name].metrics {
			p.Declared = append(p.Declared, rsp.PoolHandle(name))
			p.Lines = append(p.Lines, "pool "+t.names[name].glob.String()) // it has metrics while it is empty
		}
	}
	return p
}

// usualGuard is a line of the block that says what a block without it does.
const usualGuard = "guard 100%"

// registrarLines are the lines of the rule that are about the registrar, in one spelling and
// in the order of the table. before is what each of them begins with.
func (r *poolRule) registrarLines(before string) (lines []string) {
	for i := range poolOptionTable {
		option := &poolOptionTable[i]
		for _, l := range r.lines {
			if l.option == option && option.ruled {
				lines = append(lines, before+r.spelling(option.name))
			}
		}
	}
	return lines
}

// spelling is the one spelling of an option that is set.
func (r *poolRule) spelling(option string) string {
	rule := &r.checked.rule
	switch option {
	case "guard":
		return "guard " + guardText(rule.Guard)
	case "policy":
		return "policy " + rule.Policy.String()
	case "transport":
		return "transport " + rule.Transport.String()
	case "timer":
		return "timer KEEP-ALIVE-INTERVAL " + rule.KeepAliveInterval.String()
	}
	return option
}

// sets reports whether a rule for pools sets an option.
func (t *poolTable) sets(name string) bool {
	for r := range t.all {
		if slices.ContainsFunc(r.lines, func(l poolLine) bool { return l.option.name == name }) {
			return true
		}
	}
	return false
}

// labelOf is how metrics name a pool: by its name without the zone, or in its _ph- form.
// No two pools have the same.
func labelOf(h rsp.PoolHandle) string {
	if !hasPrefixFold([]byte(h), encodedPrefix) {
		if name, ok := plainName(string(h), "."); ok {
			return name[:len(name)-1]
		}
	}
	return encodeHandle(h)
}

// parseGuard reads from which share of suspects on a pool's answers have them.
func (o *poolOptions) parseGuard(args []string) error {
	o.rule.Guard = core.Guard{}
	if args[0] == "off" {
		o.rule.Guard.Off = true
		return nil
	}
	share, err := rsp.ParseFraction(args[0])
	if err != nil || share == 0 {
		return fmt.Errorf("%q is not a share of the pool's elements, such as 50%%, and not off", args[0])
	}
	if share < 1 { // all of them is the default
		o.rule.Guard.Share = share
	}
	return nil
}

// guardText is the one spelling of a guard.
func guardText(g core.Guard) string {
	switch {
	case g.Off:
		return "off"
	case g.Share == 0:
		return "100%"
	}
	return fmt.Sprintf("%.4g%%", 100*g.Share)
}

// parsePolicy reads the policy that the pool's elements must have.
func (o *poolOptions) parsePolicy(args []string) (err error) {
	o.rule.Policy, err = rsp.ParsePolicyType(args[0])
	return err
}

// parseTransport reads the user transport that the pool's elements must have.
func (o *poolOptions) parseTransport(args []string) error {
	for _, p := range protocols {
		if strings.EqualFold(args[0], p.String()) {
			o.rule.Transport = p
			return nil
		}
	}
	return fmt.Errorf("%q is not a transport of pool elements; use tcp, udp, sctp, dccp or udplite", args[0])
}

// parseTimer reads a timer. It has the bounds of the registrar's timer of that name.
func (o *poolOptions) parseTimer(args []string) error {
	const name = "KEEP-ALIVE-INTERVAL"
	if !strings.EqualFold(args[0], name) {
		return fmt.Errorf("a pool has no timer '%s', only %s, such as: timer %s 1s", args[0], name, name)
	}
	usual := registrars.DefaultOptions()
	if err := usual.Set("timer", name, args[1]); err != nil {
		return err
	}
	o.rule.KeepAliveInterval = usual.Timers.KeepAliveInterval
	return nil
}
