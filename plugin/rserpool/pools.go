package rserpool

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
	"github.com/rserpool/coredns-rserpool/internal/glob"
	core "github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// To add an option by pool:
//
//  1. a field in poolOptions, whose zero value is the default, or else the default in
//     defaultPoolOptions
//  2. a row in poolOptionTable with a function that reads the values of one line into that
//     field, and checks them
//  3. its line in the README: in the section Syntax, in the order of the table, and an item
//  4. rows in TestParsePools and TestParsePoolErrors
//
// The option then exists as a line of the block, for all pools, and as pool GLOB OPTION
// VALUE... The records of an answer read it as q.field: a query has the options of its pool,
// or those of the block if its name belongs to no pool. Elsewhere, Handler.optionsOf has the
// options of a pool.

// poolOptions are the options of one pool. They are shared and read only.
type poolOptions struct {
	answerOptions
	// services are the labels _svc that exist, in lower case; none: all.
	services []string
	naptr    []naptrService
	https    *binding // nil: none
	svcb     []*binding
	dnssd    string     // the service, such as _http; "" for none
	txt      [][]string // the strings of each TXT record

	// Those of the registrar, which all blocks that share it have to agree on.
	rule    core.PoolRule
	metrics bool
}

// answerOptions are the options of the answers.
type answerOptions struct {
	ttl       uint32 // seconds
	answers   int    // elements in an SRV answer
	addresses int    // elements in an A or AAAA answer, or allAddresses
	srv       srvMode
}

func defaultPoolOptions() poolOptions {
	return poolOptions{answerOptions: answerOptions{ttl: defaultTTL, answers: defaultAnswers, addresses: defaultAddresses}}
}

// poolOption is an option of pools.
type poolOption struct {
	name  string
	args  string // as in the manual
	least int    // number of values
	most  int    // -1 for any number
	parse func(*poolOptions, []string) error
	// repeats: the option may be given more than once, and its values add up. A line for a
	// pool replaces all lines of a less specific rule.
	repeats bool
	// ruled: the option is one of the registrar's, see poolTable.forRegistrar.
	ruled bool
	// poolsOnly: the block has no such line.
	poolsOnly bool
}

var poolOptionTable = []poolOption{
	{name: "ttl", args: "SECONDS", least: 1, most: 1, parse: (*poolOptions).parseTTL},
	{name: "answers", args: "N|all", least: 1, most: 1, parse: (*poolOptions).parseAnswers},
	{name: "addresses", args: "N|all", least: 1, most: 1, parse: (*poolOptions).parseAddresses},
	{name: "srv", args: "policy|rank", least: 1, most: 1, parse: (*poolOptions).parseSRV},
	{name: "service", args: "NAME...", least: 1, most: -1, parse: (*poolOptions).parseService, repeats: true},
	{name: "naptr", args: "SERVICE [s|a [LABEL]]", least: 1, most: 3, parse: (*poolOptions).parseNAPTR, repeats: true},
	{name: "https", args: "[PARAM...]|off", least: 0, most: -1, parse: (*poolOptions).parseHTTPS},
	{name: "svcb", args: "SCHEME [PARAM...]", least: 1, most: -1, parse: (*poolOptions).parseSVCB, repeats: true},
	{name: "dnssd", args: "SERVICE|off", least: 1, most: 1, parse: (*poolOptions).parseDNSSD},
	{name: "txt", args: "STRING...", least: 1, most: -1, parse: (*poolOptions).parseText, repeats: true},
	{name: "guard", args: "SHARE|off", least: 1, most: 1, parse: (*poolOptions).parseGuard, ruled: true},
	{name: "policy", args: "TYPE", least: 1, most: 1, parse: (*poolOptions).parsePolicy, ruled: true, poolsOnly: true},
	{name: "transport", args: "tcp|udp|sctp|dccp|udplite", least: 1, most: 1, parse: (*poolOptions).parseTransport, ruled: true, poolsOnly: true},
	{name: "timer", args: "KEEP-ALIVE-INTERVAL DURATION", least: 2, most: 2, parse: (*poolOptions).parseTimer, ruled: true, poolsOnly: true},
	{name: "metrics", args: "", least: 0, most: 0, parse: func(o *poolOptions, _ []string) error { o.metrics = true; return nil }, ruled: true, poolsOnly: true},
}

func poolOptionNames() string {
	names := make([]string, len(poolOptionTable))
	for i := range poolOptionTable {
		names[i] = poolOptionTable[i].name
	}
	return strings.Join(names, ", ")
}

// poolRule is what the lines with one GLOB say, or the lines of the block itself.
type poolRule struct {
	glob    glob.Glob
	matcher glob.Matcher // of glob
	where   string       // file and line of the first one
	lines   []poolLine
	// checked is what the lines set, so that a line can be checked against those before.
	checked poolOptions
}

// poolLine is an option with its values.
type poolLine struct {
	option *poolOption
	values []string
}

// add reads an option of a line for pools.
func (r *poolRule) add(option *poolOption, values []string) error {
	if len(values) < option.least || option.most >= 0 && len(values) > option.most {
		return fmt.Errorf("%s: got %d arguments, want: %s", option.name, len(values), strings.TrimSpace(option.name+" "+option.args))
	}
	if !option.repeats && r.sets(option) {
		return fmt.Errorf("%s is set twice", option.name)
	}
	if err := r.set(option, values); err != nil {
		return fmt.Errorf("%s: %w", option.name, err)
	}
	return nil
}

func (r *poolRule) set(option *poolOption, values []string) error {
	if err := option.parse(&r.checked, values); err != nil {
		return err
	}
	r.lines = append(r.lines, poolLine{option, values})
	return nil
}

func (r *poolRule) sets(option *poolOption) bool {
	return slices.ContainsFunc(r.lines, func(l poolLine) bool { return l.option == option })
}

// apply sets what the lines with an option say.
func (r *poolRule) apply(o *poolOptions, option *poolOption) {
	for _, l := range r.lines {
		if l.option == option {
			_ = option.parse(o, l.values) // it was checked when it was read
		}
	}
}

// maxGlobs is the most GLOBs with wildcards in a block: the bits of a set of them.
const maxGlobs = 64

// poolRules are the options of all pools of a block.
type poolRules struct {
	block poolRule
	names map[string]*poolRule // by handle, folded
	globs []*poolRule          // those with wildcards, in their order
}

func newPoolRules() poolRules {
	return poolRules{block: poolRule{checked: defaultPoolOptions()}, names: make(map[string]*poolRule)}
}

// add reads the arguments of a line pool GLOB [OPTION VALUE...].
func (rs *poolRules) add(args []string, where string) error {
	g, err := parseGlob(args[0])
	if err != nil {
		return err
	}
	r, err := rs.rule(g, where)
	if err != nil || len(args) == 1 {
		return err
	}
	i := slices.IndexFunc(poolOptionTable, func(o poolOption) bool { return o.name == args[1] })
	if i < 0 {
		return fmt.Errorf("%s: a pool has no option '%s'; its options are: %s; such as: %s ttl 30", args[0], args[1], poolOptionNames(), asLine([]string{"pool", args[0]}))
	}
	if err := r.add(&poolOptionTable[i], args[2:]); err != nil {
		return fmt.Errorf("%s: %w (the lines of this pool begin at %s)", args[0], err, r.where)
	}
	return nil
}

// rule returns the rule of a GLOB, a new one at its first line.
func (rs *poolRules) rule(g glob.Glob, where string) (*poolRule, error) {
	r := &poolRule{glob: g, matcher: g.Matcher(), where: where, checked: defaultPoolOptions()}
	if name, ok := g.Name(); ok {
		if had := rs.names[name]; had != nil {
			return had, nil
		}
		rs.names[name] = r
		return r, nil
	}
	if i := slices.IndexFunc(rs.globs, func(o *poolRule) bool { return slices.Equal(o.glob, g) }); i >= 0 {
		return rs.globs[i], nil
	}
	if len(rs.globs) == maxGlobs {
		return nil, fmt.Errorf("a block can have %d patterns with '*' or '?', and this is one more; names of pools do not count", maxGlobs)
	}
	rs.globs = append(rs.globs, r)
	return r, nil
}

// all yields all rules for pools, in no particular order.
func (rs *poolRules) all(yield func(*poolRule) bool) {
	for _, r := range rs.names {
		if !yield(r) {
			return
		}
	}
	for _, r := range rs.globs {
		if !yield(r) {
			return
		}
	}
}

// poolKey says which rules apply to a pool.
type poolKey struct {
	name  *poolRule // the exact one; nil if there is none
	globs uint64    // a bit for each of poolRules.globs
}

// keyOf finds the rules of a pool. It does not allocate.
func (rs *poolRules) keyOf(h rsp.PoolHandle) (k poolKey) {
	if len(rs.names) > 0 {
		k.name = rs.names[string(h)]
		if k.name == nil && ascii.HasUpper(string(h)) {
			var buf [maxName]byte
			k.name = rs.names[string(foldInto(buf[:0], h))]
		}
	}
	for i, r := range rs.globs {
		if r.matcher.Match(string(h)) {
			k.globs |= 1 << i
		}
	}
	return k
}

// options returns the options of the pools to which these rules apply. Each option comes
// from the most specific rule that sets it: the exact one, the last GLOB, the block.
func (rs *poolRules) options(k poolKey) *poolOptions {
	o := defaultPoolOptions()
	for i := range poolOptionTable {
		option := &poolOptionTable[i]
		from := &rs.block
		for i, r := range rs.globs {
			if k.globs&(1<<i) != 0 && r.sets(option) {
				from = r
			}
		}
		if k.name != nil && k.name.sets(option) {
			from = k.name
		}
		from.apply(&o, option)
	}
	return &o
}

// poolTable has the options of the pools by their rules. Without rules, all pools have the
// options of the block.
type poolTable struct {
	poolRules
	blockOptions *poolOptions
	ruled        bool // there are rules for pools
	// empty are the options of the declared pools by their handles, folded. aboveNames are
	// the names above those that are names.
	empty      map[string]*poolOptions
	aboveNames map[string]bool
	// browser finds the instances of DNS-SD; nil if there can be none.
	browser *browser

	// known are the options for the combinations of rules that were asked for, at most
	// maxKnown. It is replaced to add one.
	known atomic.Pointer[map[poolKey]*poolOptions]
	mu    sync.Mutex // held to replace known
}

// maxKnown bounds the combinations of rules that are kept. Others are put together for each
// question.
const maxKnown = 1024

func newPoolTable(rs poolRules) *poolTable {
	t := &poolTable{
		poolRules:    rs,
		blockOptions: rs.options(poolKey{}),
		ruled:        len(rs.names)+len(rs.globs) > 0,
		empty:        make(map[string]*poolOptions),
		aboveNames:   make(map[string]bool),
	}
	t.known.Store(&map[poolKey]*poolOptions{{}: t.blockOptions})
	for name := range rs.names {
		t.empty[name] = rs.options(rs.keyOf(rsp.PoolHandle(name)))
		if _, ok := plainName(name, "."); !ok {
			continue
		}
		for _, above, more := strings.Cut(name, "."); more; _, above, more = strings.Cut(above, ".") {
			t.aboveNames[above] = true
		}
	}
	t.browser = newBrowser(t)
	return t
}

// declared returns the options of the declared pool with this handle, whose case does not
// count; nil if it is not declared.
//
//go:noinline // its array would be on the stack of all answers
func (t *poolTable) declared(handle []byte) *poolOptions {
	if len(t.empty) == 0 {
		return nil
	}
	var buf [maxName]byte
	return t.empty[string(foldInto(buf[:0], handle))]
}

// aboveDeclared reports whether a declared pool lies below the name.
func (t *poolTable) aboveDeclared(name []byte) bool {
	if len(t.aboveNames) == 0 {
		return false
	}
	var buf [maxName]byte
	return t.aboveNames[string(foldInto(buf[:0], name))]
}

// foldInto appends b in lower case.
func foldInto[T ascii.Octets](buf []byte, b T) []byte {
	buf = append(buf, b...)
	ascii.ToLower(buf)
	return buf
}

// of returns the options of a pool. It allocates only for the first pool with this
// combination of rules.
func (t *poolTable) of(h rsp.PoolHandle) *poolOptions {
	if !t.ruled {
		return t.blockOptions
	}
	k := t.keyOf(h)
	if o := (*t.known.Load())[k]; o != nil {
		return o
	}
	return t.learn(k)
}

func (t *poolTable) learn(k poolKey) *poolOptions {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := *t.known.Load()
	if o := known[k]; o != nil {
		return o
	}
	o := t.options(k)
	if len(known) < maxKnown {
		known = maps.Clone(known)
		known[k] = o
		t.known.Store(&known)
	}
	return o
}

// mostAddresses returns the most elements of a selection for an address answer about any
// pool.
func (t *poolTable) mostAddresses() int {
	most := t.blockOptions.selected()
	for r := range t.all {
		most = max(most, r.checked.selected())
	}
	return most
}

// selected returns how many elements the policy selects for an address answer: of a set, it
// selects only the first one.
func (o *poolOptions) selected() int {
	if o.addresses == allAddresses {
		return 1
	}
	return o.addresses
}

// optionsOf returns the options of a pool. They are shared and must not be changed.
func (h *Handler) optionsOf(p *handlespace.Pool) *poolOptions { return h.pools.of(p.Handle()) }

func (o *poolOptions) parseTTL(args []string) error {
	var ttl int
	if err := parseInt(&ttl, args[0], 0, maxTTL); err != nil {
		return err
	}
	o.ttl = uint32(ttl)
	return nil
}

func (o *poolOptions) parseAnswers(args []string) error {
	if args[0] == "all" {
		o.answers = maxAnswers
		return nil
	}
	if err := parseInt(&o.answers, args[0], 1, maxAnswers); err != nil {
		return fmt.Errorf("%w, and not all", err)
	}
	return nil
}

// allAddresses stands for the pool as a set, as in an SRV answer.
const allAddresses = maxAnswers

func (o *poolOptions) parseAddresses(args []string) error {
	if args[0] == "all" {
		o.addresses = allAddresses
		return nil
	}
	if err := parseInt(&o.addresses, args[0], 1, maxAddresses); err != nil {
		return fmt.Errorf("%w, and not all", err)
	}
	return nil
}

func (o *poolOptions) parseSRV(args []string) error {
	switch args[0] {
	case "policy":
		o.srv = srvPolicy
	case "rank":
		o.srv = srvRank
	default:
		return fmt.Errorf("%q is not a mode; use policy or rank", args[0])
	}
	return nil
}

// parseService reads names of services, such as http or _http.
func (o *poolOptions) parseService(args []string) error {
	for _, arg := range args {
		name, err := serviceLabel(arg)
		switch {
		case err != nil:
			return err
		case slices.Contains(o.services, name):
			return fmt.Errorf("%s is listed twice", name)
		}
		o.services = append(o.services, name)
	}
	return nil
}

// hasProtocol reports whether the pool, which is nil if it is a declared one without
// elements, has names below this _proto.
func (o *poolOptions) hasProtocol(p *handlespace.Pool, proto rsp.TransportType) bool {
	if p == nil {
		return o.rule.Transport == 0 || o.rule.Transport == proto
	}
	return transportOf(p) == proto
}

// serviceLabel returns the label _svc of a service, such as http or _http.
func serviceLabel(arg string) (string, error) {
	name := "_" + strings.ToLower(strings.TrimPrefix(arg, "_"))
	if len(name) < 2 || len(name) > maxLabel || strings.ContainsAny(name, ".\\") {
		return "", fmt.Errorf("%q is not the name of a service, such as http or etcd-client", arg)
	}
	return name, nil
}

// serviceLabels returns the labels _svc that exist; none: all.
func (o *poolOptions) serviceLabels() []string {
	if len(o.services) == 0 {
		return nil
	}
	labels := slices.Clone(o.services)
	for i := range o.naptr {
		if srv := o.naptr[i].srv; srv != "" && !slices.Contains(labels, srv) {
			labels = append(labels, srv)
		}
	}
	return labels
}

// hasService reports whether there is a service with this label, which begins with '_': it is one
// of the services, or NAPTR records refer to it.
func (o *poolOptions) hasService(label []byte) bool {
	return len(o.services) == 0 ||
		slices.ContainsFunc(o.services, func(s string) bool { return ascii.EqualFold(label, s) }) ||
		slices.ContainsFunc(o.naptr, func(s naptrService) bool { return ascii.EqualFold(label, s.srv) })
}
