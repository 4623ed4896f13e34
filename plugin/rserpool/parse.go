package rserpool

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/fall"
	coreparse "github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/coredns/coredns/plugin/pkg/transport"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/control"
	"github.com/rserpool/coredns-rserpool/internal/netaddr"
	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/registrars"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// config is the content of an rserpool directive.
type config struct {
	options registrars.Options
	zones   []string // fully qualified, in lower case
	// reverse are its reverse zones, reverseKeys those of the server block.
	reverse, reverseKeys []string
	servers              []nameserver
	pools                poolRules
	inspect              *inspectors // nil: everybody
	fall                 fall.F
	where                string // file and line of the directive
	line                 string // file and line of the property that is being read
	root                 string // directory of relative paths
	anyResolves          bool   // resolvers any
}

// Defaults and bounds of the DNS side.
const (
	defaultTTL = 5
	maxTTL     = 3600
	// defaultAnswers: BIND keeps no more records of one type and name.
	defaultAnswers = 100
	// maxAnswers are more SRV records than DNS can carry over TCP.
	maxAnswers       = 2000
	defaultAddresses = 1
)

// announceGroup is the multicast address that IANA has assigned to ASAP server
// announces (RFC 5352, Section 8.4).
var announceGroup = netip.AddrPortFrom(netip.AddrFrom4([4]byte{224, 0, 1, 185}), asap.Port)

// enrpAnnounceGroup is the default of the reference implementation; IANA has assigned
// no group.
var enrpAnnounceGroup = netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 0, 0, 51}), enrp.Port)

// property is a line of the directive's block.
type property struct {
	name  string
	args  string // as in the manual
	least int    // number of arguments
	most  int    // -1 for any number
	parse func(*config, []string) error
	// repeats: the property may be given more than once.
	repeats bool
	// named: each line sets what its first argument names, whose case does not count.
	named bool
}

// properties are the lines of the block: those of the registrar, those that also a pool can
// have, and those of the zones.
func properties() []property {
	all := []property{
		{name: "asap", args: "ADDRESS[:PORT]...", least: 1, most: -1, parse: (*config).parseASAP},
		{name: "enrp", args: "ADDRESS[:PORT]...", least: 1, most: -1, parse: (*config).parseENRP},
		{name: "peer", args: "ADDRESS[:PORT]...", least: 1, most: -1, parse: (*config).parsePeer, repeats: true},
		{name: "transport", args: "auto|kernel|udp", least: 1, most: 1, parse: func(c *config, a []string) error { return c.options.SetTransport(a[0]) }},
		{name: "encap", args: "PORT", least: 1, most: 1, parse: (*config).parseEncap},
		{name: "server_id", args: "ID", least: 1, most: 1, parse: (*config).parseServerID},
		{name: "announce", args: "[MULTICAST:PORT]", least: 0, most: 1, parse: func(c *config, a []string) error { return parseGroup(&c.options.AnnounceGroup, a, announceGroup) }},
		{name: "enrp_announce", args: "[MULTICAST:PORT]", least: 0, most: 1, parse: func(c *config, a []string) error {
			return parseGroup(&c.options.ENRPAnnounceGroup, a, enrpAnnounceGroup)
		}},
		{name: "tls", args: "CERT KEY CA", least: 3, most: 3, parse: (*config).parseTLS},
		{name: "tls_secret", args: "FILE", least: 1, most: 1, parse: (*config).parseTLSSecret},
		{name: "allow", args: "POOLGLOB IDENTITYGLOB", least: 2, most: 2, parse: (*config).parseAllow, repeats: true},
		{name: "deny", args: "IDENTITYGLOB", least: 1, most: 1, parse: (*config).parseDeny, repeats: true},
		{name: "registrars", args: "IDENTITYGLOB", least: 1, most: 1, parse: (*config).parseRegistrars, repeats: true},
		{name: "resolvers", args: "IDENTITYGLOB|any", least: 1, most: 1, parse: (*config).parseResolvers, repeats: true},
		{name: "state", args: "DIR", least: 1, most: 1, parse: func(c *config, a []string) (err error) {
			c.options.State, err = parsePath(a[0], "/var/lib/rserpool")
			return err
		}},
		{name: "control", args: "PATH|off", least: 1, most: 1, parse: (*config).parseControl},
		{name: "timer", args: "NAME DURATION", least: 2, most: 2, parse: func(c *config, a []string) error { return c.options.Set("timer", a[0], a[1]) }, repeats: true, named: true},
		{name: "limit", args: "NAME N", least: 2, most: 2, parse: func(c *config, a []string) error { return c.options.Set("limit", a[0], a[1]) }, repeats: true, named: true},
	}
	for i := range poolOptionTable {
		o := &poolOptionTable[i]
		if o.poolsOnly {
			continue
		}
		all = append(all, property{name: o.name, args: o.args, least: o.least, most: o.most, repeats: o.repeats, parse: func(c *config, a []string) error { return c.pools.block.set(o, a) }})
	}
	return append(all,
		property{name: "pool", args: "GLOB [OPTION VALUE...]", least: 1, most: -1, parse: (*config).parsePool, repeats: true},
		property{name: "reverse", args: "ZONE...", least: 1, most: -1, parse: (*config).parseReverse, repeats: true},
		property{name: "nameserver", args: "NAME [ADDRESS...]", least: 1, most: -1, parse: (*config).parseNameserver, repeats: true},
		property{name: "inspect", args: "NETWORK...|off", least: 1, most: -1, parse: (*config).parseInspect, repeats: true},
		property{name: "fallthrough", args: "[ZONES...]", least: 0, most: -1, parse: (*config).parseFallthrough},
	)
}

// parse reads the rserpool directive of a server block, of which there is one.
func parse(c *caddy.Controller) (config, error) {
	cfg := config{options: registrars.DefaultOptions(), pools: newPoolRules(), root: dnsserver.GetConfig(c).Root}
	for first := true; c.Next(); first = false {
		cfg.where = fmt.Sprintf("%s:%d", c.File(), c.Line())
		switch {
		case c.Val() != pluginName:
			return cfg, c.Errf("unexpected '%s': the block begins with '{' at the end of the line %s, and ends with '}' on a line of its own", c.Val(), pluginName)
		case !first:
			return cfg, fmt.Errorf("%s - %w", cfg.where, plugin.ErrOnce)
		}
		var err error
		if cfg.zones, cfg.reverseKeys, err = parseZones(c.RemainingArgs(), c.ServerBlockKeys); err != nil {
			return cfg, c.Err(err.Error())
		}
		if err := cfg.parseLines(readLines(c)); err != nil {
			return cfg, err
		}
	}
	cfg.line = ""
	if err := cfg.check(c.ServerBlockKeys); err != nil {
		return cfg, fmt.Errorf("%s - Error during parsing: %w", cfg.where, err)
	}
	return cfg, nil
}

// line is a line of the block.
type line struct {
	at   string // file and line
	name string
	args []string
	// opens: a '{' follows, and then these words in one line.
	opens bool
	words []string
}

// readLines reads the lines of the block. Behind a '{' it stops: no option has a block.
func readLines(c *caddy.Controller) (lines []line) {
	for c.NextBlock() {
		lines = append(lines, line{at: fmt.Sprintf("%s:%d", c.File(), c.Line()), name: c.Val(), args: c.RemainingArgs()})
		if c.NextArg() { // it is a '{'
			break
		}
	}
	// Before a '{' that begins a line, NextBlock ends as if the block did.
	if len(lines) > 0 && (c.Val() == "{" || c.Val() != "}" && c.Next() && c.Val() == "{") {
		l := &lines[len(lines)-1]
		l.opens = true
		if c.Next() && c.Val() != "}" {
			l.words = append([]string{c.Val()}, c.RemainingArgs()...)
		}
	}
	return lines
}

// checkBraces refuses a line with a '{' or '}'. want is how the option is written.
func (l *line) checkBraces(want string) error {
	switch {
	case slices.Contains(l.args, "}"):
		return errors.New("write the '}' that ends the block on a line of its own")
	case !l.opens:
		return nil
	case l.name == "pool" && len(l.args) == 1 && len(l.words) > 0 && !slices.Contains(l.words, "}"):
		want = asLine(slices.Concat([]string{l.name}, l.args, l.words))
	}
	return fmt.Errorf("%s has no block of its own: write '%s' on one line, without '{'", l.name, want)
}

// asLine writes words as they are written in a Corefile.
func asLine(words []string) string {
	line := slices.Clone(words)
	for i, w := range line {
		if w == "" || strings.ContainsAny(w, " \t\r\n\"#") {
			line[i] = `"` + strings.ReplaceAll(w, `"`, `\"`) + `"`
		}
	}
	return strings.Join(line, " ")
}

// parseLines reads the lines of the block. Those that tell whether there is TLS are read
// first: other lines have other default ports then.
func (cfg *config) parseLines(lines []line) error {
	seen := map[string]bool{}
	for _, first := range []bool{true, false} {
		for _, l := range lines {
			if first != isTLS(l.name) {
				continue
			}
			cfg.line = l.at
			if err := cfg.parseProperty(&l, seen); err != nil {
				return fmt.Errorf("%s - Error during parsing: %w", l.at, err)
			}
		}
	}
	return nil
}

func (cfg *config) parseProperty(l *line, seen map[string]bool) error {
	all, name, args := properties(), l.name, l.args
	i := slices.IndexFunc(all, func(p property) bool { return p.name == name })
	if i < 0 {
		if slices.ContainsFunc(poolOptionTable, func(o poolOption) bool { return o.name == name }) {
			line := asLine(slices.Concat([]string{name}, args))
			return fmt.Errorf("unknown option '%s': it can be set only for pools, such as: pool web %s, or for all: pool * %s", name, line, line)
		}
		names := make([]string, len(all))
		for i, p := range all {
			names[i] = p.name
		}
		return fmt.Errorf("unknown option '%s'; the options are: %s", name, strings.Join(names, ", "))
	}
	p := all[i]
	if err := l.checkBraces(strings.TrimSpace(name + " " + p.args)); err != nil {
		return err
	}
	if len(args) < p.least || p.most >= 0 && len(args) > p.most {
		return fmt.Errorf("%s: got %d arguments, want: %s %s", name, len(args), name, p.args)
	}
	once := name
	if p.named {
		once += " " + strings.ToLower(args[0])
	}
	if seen[once] && (!p.repeats || p.named) {
		return fmt.Errorf("%s can be given only once in a block", once)
	}
	seen[once] = true
	if err := p.parse(cfg, args); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// parsePool reads a line for pools. A pool in it has no zone: as a handle, the whole name would
// be below the zone once more.
func (cfg *config) parsePool(args []string) error {
	for _, z := range cfg.zones {
		if name, zone := args[0]+".", "."+z; z != "." && hasSuffixName(name, z) && len(name) > len(zone) {
			return fmt.Errorf("%q ends in the zone; write the pool as its name without the zone: %s", args[0], name[:len(name)-len(zone)])
		}
	}
	return cfg.pools.add(args, cfg.line)
}

// parseZones returns the zones of the directive or else those of its server
// block.
func parseZones(args, keys []string) (zones, reverse []string, err error) {
	for _, a := range args {
		if err := checkZone(a); err != nil {
			return nil, nil, err
		}
	}
	for _, origin := range plugin.OriginsFromArgsOrServerBlock(args, keys) {
		z, ok := canonicalName(origin)
		switch {
		case !ok:
			return nil, nil, fmt.Errorf("%q is not a zone, such as pool.example.org", origin)
		case isReverse(z) && len(args) > 0:
			if whole, part := wholeZone(z); part {
				return nil, nil, fmt.Errorf("%s is a part of a reverse zone, which has no pools; use the option reverse, for the whole one: reverse %s", z, whole)
			}
			return nil, nil, fmt.Errorf("%s is a reverse zone, which has no pools; use the option reverse: reverse %s", z, z)
		case isReverse(z):
			reverse = append(reverse, z)
		case slices.Contains(zones, z) && len(args) > 0:
			return nil, nil, fmt.Errorf("zone %s is listed twice", z)
		case !slices.Contains(zones, z): // keys differ in port or transport
			zones = append(zones, z)
		}
	}
	if len(zones) == 0 {
		return nil, nil, errors.New("no zone to serve: name one, such as pool.example.org")
	}
	return zones, reverse, nil
}

// keysBeside returns how a zone is written in the first line of the server block that has keys: with the
// protocol and port of each.
func keysBeside(keys []string, zone string) string {
	var all []string
	for _, k := range keys {
		protocol, rest := coreparse.Transport(k)
		key := zone
		if protocol != transport.DNS {
			key = protocol + "://" + key
		}
		if _, port, err := plugin.SplitHostPort(rest); err == nil && port != "" && (protocol != transport.DNS || port != dnsserver.Port) {
			key += ":" + port
		}
		if !slices.Contains(all, key) {
			all = append(all, key)
		}
	}
	return strings.Join(all, " ")
}

// checkZone refuses an argument that is not a zone. CoreDNS would ignore it, or a part of it, silently.
func checkZone(arg string) error {
	if len(plugin.Host(arg).NormalizeExact()) == 0 {
		return fmt.Errorf("%q is not a zone, such as pool.example.org", arg)
	}
	if _, port, _ := plugin.SplitHostPort(arg); port != "" || strings.Contains(arg, "://") {
		return fmt.Errorf("%q is not a zone: a zone has no protocol and no port, which belong into the first line of the server block", arg)
	}
	return nil
}

func (cfg *config) parseASAP(args []string) (err error) {
	cfg.options.ASAP, err = parseServed(args, cfg.options.Trust.ASAPPort(), "announce")
	return err
}

func (cfg *config) parseENRP(args []string) (err error) {
	cfg.options.ENRP, err = parseServed(args, cfg.options.Trust.ENRPPort(), "enrp_announce")
	return err
}

func (cfg *config) parsePeer(args []string) error {
	port := cfg.options.Trust.ENRPPort()
	for _, arg := range args {
		a, err := parseAddr(arg, port)
		switch {
		case err != nil:
			return err
		case a.Addr().IsMulticast() || a.Addr().IsUnspecified() || a.Port() == 0:
			return fmt.Errorf("%s is not an address of a registrar, such as 192.0.2.1 or [2001:db8::1]:%d", arg, port)
		case slices.Contains(cfg.options.Peers, a):
			return fmt.Errorf("%s is listed twice", a)
		}
		cfg.options.Peers = append(cfg.options.Peers, a)
	}
	slices.SortFunc(cfg.options.Peers, netip.AddrPort.Compare)
	return nil
}

// parseServed reads the addresses where a protocol is served. multicast is the option
// that accepts multicast addresses.
func parseServed(args []string, port uint16, multicast string) ([]netip.AddrPort, error) {
	var addrs []netip.AddrPort
	for _, arg := range args {
		a, err := parseAddr(arg, port)
		if err != nil {
			return nil, err
		}
		if a.Port() == 0 {
			return nil, fmt.Errorf("%s has port 0, at which nobody would find the registrar; name another port, or none for port %d", a, port)
		}
		if a.Addr().IsMulticast() {
			return nil, fmt.Errorf("%s is a multicast address; use the option %s for it", a.Addr(), multicast)
		}
		for _, b := range addrs {
			switch {
			case a == b:
				return nil, fmt.Errorf("%s is listed twice", a)
			case a.Port() != b.Port():
				return nil, fmt.Errorf("%s and %s have different ports; a registrar has the same port on all its addresses", b, a)
			case registrars.Overlap(a.Addr(), b.Addr()):
				return nil, fmt.Errorf("%s and %s overlap, because one of them stands for all addresses; remove one", b, a)
			}
		}
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	return addrs, nil
}

// parseAddr reads ADDRESS, ADDRESS:PORT or :PORT.
func parseAddr(s string, port uint16) (netip.AddrPort, error) {
	if strings.HasPrefix(s, ":") && !strings.HasPrefix(s, "::") {
		s = "[::]" + s
	}
	return netaddr.ParseAddrPort(s, port)
}

func (cfg *config) parseEncap(args []string) error {
	var port int
	if err := parseInt(&port, args[0], 1, 65535); err != nil {
		return err
	}
	cfg.options.EncapPort = uint16(port)
	return nil
}

func (cfg *config) parseServerID(args []string) error {
	id, err := strconv.ParseUint(args[0], 0, 32)
	if err != nil || id == 0 {
		return fmt.Errorf("%q is not a number from 1 to 0xffffffff, such as 0x1a2b3c4d", args[0])
	}
	cfg.options.ServerID = rsp.ServerID(id)
	return nil
}

// parsePath reads the path of a file or directory, for which there is an example. A relative one
// would depend on where CoreDNS was started.
func parsePath(arg, example string) (string, error) {
	if !filepath.IsAbs(arg) {
		return "", fmt.Errorf("%q is not an absolute path, such as %s", arg, example)
	}
	return filepath.Clean(arg), nil
}

func (cfg *config) parseControl(args []string) (err error) {
	if args[0] == registrars.Off {
		cfg.options.Control = registrars.Off
		return nil
	}
	if cfg.options.Control, err = parsePath(args[0], "/run/coredns/rserpool.sock"); err != nil {
		return fmt.Errorf("%w, and not off", err)
	}
	return control.CheckPath(cfg.options.Control)
}

// parseGroup reads a multicast group, whose address and port may be left out.
func parseGroup(group *netip.AddrPort, args []string, usual netip.AddrPort) error {
	*group = usual
	if len(args) == 0 {
		return nil
	}
	var err error
	*group, err = netaddr.ParseGroup(args[0], usual)
	return err
}

func (cfg *config) parseFallthrough(args []string) error {
	for _, a := range args {
		if err := checkZone(a); err != nil {
			return err
		}
	}
	cfg.fall.SetZonesFromArgs(args)
	return nil
}

func (cfg *config) parseNameserver(args []string) error {
	if _, err := netip.ParseAddr(args[0]); err == nil {
		return fmt.Errorf("%s is an address; a name comes first, such as ns1.example.org %s", args[0], args[0])
	}
	name, ok := canonicalName(args[0])
	if !ok || name == "." {
		return fmt.Errorf("%q is not a host name, such as ns1.example.org", args[0])
	}
	s := nameserver{name: name}
	for _, other := range cfg.servers {
		if other.name == name {
			return fmt.Errorf("%s is listed twice; name all its addresses in one line", name)
		}
	}
	for _, arg := range args[1:] {
		a, err := netip.ParseAddr(arg)
		if err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			return fmt.Errorf("%q is not the IP address of a host, such as 192.0.2.53 or 2001:db8::53", arg)
		}
		if slices.Contains(s.addrs, a.Unmap()) {
			return fmt.Errorf("address %s is listed twice", a)
		}
		s.addrs = append(s.addrs, a.Unmap())
	}
	cfg.servers = append(cfg.servers, s)
	return nil
}

func parseInt(v *int, s string, least, most int) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		return fmt.Errorf("%q is not a number from %d to %d", s, least, most)
	}
	*v = n
	return nil
}

// check refuses lines that contradict each other.
func (cfg *config) check(keys []string) error {
	for _, s := range cfg.servers {
		inZone := slices.ContainsFunc(cfg.zones, func(z string) bool { return hasSuffixName(s.name, z) })
		if len(s.addrs) > 0 && !inZone {
			return fmt.Errorf("nameserver %s has addresses, but is in none of the zones %s; remove the addresses: they belong into its own zone", s.name, strings.Join(cfg.zones, " "))
		}
		if slices.Contains(cfg.zones, s.name) || slices.Contains(cfg.reverse, s.name) {
			return fmt.Errorf("nameserver %s is the zone itself; give it a name such as ns.dns.%s", s.name, s.name)
		}
	}
	if err := cmp.Or(cfg.checkTrust(), cfg.checkReverse(keys)); err != nil {
		return err
	}
	return cfg.options.Check()
}

// overlapsZone reports whether names of the zone are in one of the others.
func overlapsZone(zone string, others []string) bool {
	return slices.ContainsFunc(others, func(o string) bool {
		o = strings.ToLower(o)
		return hasSuffixName(zone, o) || hasSuffixName(o, zone)
	})
}
