package rserpool

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	core "github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// options are what a Corefile says of a registrar. Blocks with the same
// options share one.
type options struct {
	// asap are the addresses with their port, sorted; at least one.
	asap []netip.AddrPort
	// enrp are where ENRP is served, sorted; none if it is not. peers are other
	// registrars, sorted.
	enrp, peers []netip.AddrPort

	transport sctp.Mode
	encap     uint16
	serverID  rserpool.ServerID // 0: random
	// The groups by which elements and users, and other registrars, find the
	// registrar; zero: none.
	announce, enrpAnnounce netip.AddrPort

	timers core.Timers
	limits core.Limits
	// sctp are the transport's limits; some are not to be set.
	sctp sctp.Limits
}

func defaultOptions() options {
	d := core.DefaultConfig()
	return options{
		asap:   []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), asap.Port)},
		encap:  sctp.EncapPort,
		timers: d.Timers,
		limits: d.Limits,
		sctp:   sctp.Limits{Associations: 65536, HalfOpen: 1024},
	}
}

// config returns the configuration of a registrar with these options.
func (o options) config() host.Config {
	return host.Config{
		Config:            core.Config{ServerID: o.serverID, Peers: o.peers, Timers: o.timers, Limits: o.limits},
		ASAP:              o.asap,
		ENRP:              o.enrp,
		Transport:         o.transport,
		Encap:             o.encap,
		SCTP:              o.sctp,
		AnnounceGroup:     o.announce,
		ENRPAnnounceGroup: o.enrpAnnounce,
		Logf: func(warn bool, text string) {
			if warn {
				log.Warning(text)
			} else {
				log.Info(text)
			}
		},
	}
}

// completeENRP has ENRP served where ASAP is, if there are peers, or are to be
// found, but no option enrp.
func (o *options) completeENRP() {
	if len(o.enrp) > 0 || len(o.peers) == 0 && !o.enrpAnnounce.IsValid() {
		return
	}
	for _, a := range o.asap {
		o.enrp = append(o.enrp, netip.AddrPortFrom(a.Addr(), enrp.Port))
	}
}

// String names the registrar by where it serves.
func (o options) String() string { return joinAddrs(o.asap) }

// sameAddresses reports whether both sets of options are of one registrar.
func (o options) sameAddresses(p options) bool { return slices.Equal(o.asap, p.asap) }

// conflict tells why registrars with o and p cannot both run, and are not the
// same one either.
func (o options) conflict(p options) error {
	if o.sameAddresses(p) {
		if diff := o.differences(p); len(diff) > 0 {
			return fmt.Errorf("registrar at %s is already there with other options (%s); blocks that share a registrar need the same ones, or another asap address or port", o, strings.Join(diff, ", "))
		}
		return nil
	}
	if a, b, ok := overlap(o.asap, p.asap, true); ok {
		return fmt.Errorf("asap %s overlaps with asap %s of another registrar; use the same addresses to share it, or another port", a, b)
	}
	if a, b, ok := overlap(o.enrp, slices.Concat(p.asap, p.enrp), true); ok {
		return fmt.Errorf("enrp %s overlaps with %s of the registrar at %s; give one of them another port", a, b, p)
	}
	if a, b, ok := overlap(o.asap, p.enrp, true); ok {
		return fmt.Errorf("asap %s overlaps with enrp %s of the registrar at %s; give one of them another port", a, b, p)
	}
	inUserSpace := o.transport != sctp.KernelOnly && p.transport != sctp.KernelOnly
	if a, b, ok := overlap(slices.Concat(o.asap, o.enrp), slices.Concat(p.asap, p.enrp), false); ok && inUserSpace && o.encap == p.encap {
		return fmt.Errorf("encap %d on %s is taken by the registrar at %s; give one of them another port, or transport kernel", o.encap, a.Addr(), b)
	}
	return nil
}

// overlap finds addresses of a and b that cannot both be bound.
func overlap(as, bs []netip.AddrPort, ports bool) (a, b netip.AddrPort, ok bool) {
	for _, a := range as {
		for _, b := range bs {
			if ports && (a.Port() != b.Port() || a.Port() == 0) {
				continue
			}
			if covers(a.Addr(), b.Addr()) || covers(b.Addr(), a.Addr()) {
				return a, b, true
			}
		}
	}
	return a, b, false
}

// covers reports whether a socket bound to a also has what comes to b. The
// unspecified IPv6 address stands for those of both families.
func covers(a, b netip.Addr) bool {
	return a == b || a == netip.IPv6Unspecified() || a == netip.IPv4Unspecified() && b.Is4()
}

// differences lists the options in which o and p differ, as o has them and,
// behind "not", as p does.
func (o options) differences(p options) []string {
	mine, others := o.list(), p.list()
	var diff []string
	for i := range mine {
		if mine[i] != others[i] {
			diff = append(diff, fmt.Sprintf("%s, not %s", mine[i], strings.TrimPrefix(others[i], commonOption(mine[i], others[i]))))
		}
	}
	return diff
}

// commonOption returns the words that a and b begin with.
func commonOption(a, b string) string {
	end := 0
	for i := 0; i < min(len(a), len(b)) && a[i] == b[i]; i++ {
		if a[i] == ' ' {
			end = i + 1
		}
	}
	return a[:end]
}

// list returns all options but asap as Corefile lines, in a fixed order.
func (o options) list() []string {
	l := []string{
		"enrp " + offOrAddrs(o.enrp),
		"peer " + offOrAddrs(o.peers),
		"transport " + modeName(o.transport),
		"encap " + strconv.Itoa(int(o.encap)),
		"server_id " + idName(o.serverID),
		"announce " + announceName(o.announce),
		"enrp_announce " + announceName(o.enrpAnnounce),
	}
	for _, t := range timers() {
		l = append(l, "timer "+t.name+" "+t.format(&o.timers))
	}
	for _, s := range limits() {
		l = append(l, "limit "+s.name+" "+strconv.Itoa(*s.of(&o)))
	}
	return l
}

func offOrAddrs(addrs []netip.AddrPort) string {
	if len(addrs) == 0 {
		return "off"
	}
	return joinAddrs(addrs)
}

func idName(id rserpool.ServerID) string {
	if id == 0 {
		return "random"
	}
	return "0x" + id.String()
}

func announceName(a netip.AddrPort) string {
	if !a.IsValid() {
		return "off"
	}
	return a.String()
}

// modes are the values of the option transport.
var modes = [...]struct {
	name string
	mode sctp.Mode
}{{"auto", sctp.Auto}, {"kernel", sctp.KernelOnly}, {"udp", sctp.UDPOnly}}

func modeName(m sctp.Mode) string {
	for _, o := range modes {
		if o.mode == m {
			return o.name
		}
	}
	return strconv.Itoa(int(m))
}

// timer is a timer or threshold by its name in the RFCs, where they have one.
type timer struct {
	name  string
	time  func(*core.Timers) *time.Duration
	count func(*core.Timers) *int // instead of time
}

func timers() []timer {
	type ts = core.Timers
	return []timer{
		{name: "KEEP-ALIVE-INTERVAL", time: func(t *ts) *time.Duration { return &t.KeepAliveInterval }},
		{name: "KEEP-ALIVE-TIMEOUT", time: func(t *ts) *time.Duration { return &t.KeepAliveTimeout }},
		{name: "PROBE-TIMEOUT", time: func(t *ts) *time.Duration { return &t.ProbeTimeout }},
		{name: "MAX-BAD-PE-REPORT", count: func(t *ts) *int { return &t.MaxBadPEReport }},
		{name: "BAD-PE-REPORT-DECAY", time: func(t *ts) *time.Duration { return &t.BadPEReportDecay }},
		{name: "T6-Serverannounce", time: func(t *ts) *time.Duration { return &t.ServerAnnounce }},
		{name: "T7-ENRPoutdate", time: func(t *ts) *time.Duration { return &t.ServerOutdate }},
		{name: "UPDATE-INTERVAL", time: func(t *ts) *time.Duration { return &t.Update }},
		{name: "PEER-HEARTBEAT-CYCLE", time: func(t *ts) *time.Duration { return &t.PeerHeartbeat }},
		{name: "MAX-TIME-LAST-HEARD", time: func(t *ts) *time.Duration { return &t.MaxTimeLastHeard }},
		{name: "MAX-TIME-NO-RESPONSE", time: func(t *ts) *time.Duration { return &t.MaxTimeNoResponse }},
		{name: "PEER-CALL-GAP", time: func(t *ts) *time.Duration { return &t.PeerCallGap }},
		{name: "MENTOR-DISCOVERY-TIMEOUT", time: func(t *ts) *time.Duration { return &t.MentorDiscovery }},
		{name: "LINGER", time: func(t *ts) *time.Duration { return &t.Linger }},
	}
}

// set reads a value.
func (t timer) set(ts *core.Timers, value string) error {
	if t.count != nil {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return fmt.Errorf("%q is not a number from 0 on, such as 3", value)
		}
		*t.count(ts) = n
		return nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a duration, such as 5s or 500ms", value)
	}
	*t.time(ts) = d
	return nil
}

func (t timer) format(ts *core.Timers) string {
	if t.count != nil {
		return strconv.Itoa(*t.count(ts))
	}
	return t.time(ts).String()
}

// limit is a bound on what peers can make the registrar hold.
type limit struct {
	name string
	of   func(*options) *int
}

func limits() []limit {
	return []limit{
		{"pools", func(o *options) *int { return &o.limits.Pools }},
		{"elements", func(o *options) *int { return &o.limits.Elements }},
		{"elements_per_association", func(o *options) *int { return &o.limits.ElementsPerAssoc }},
		{"element_size", func(o *options) *int { return &o.limits.ElementSize }},
		{"element_bytes", func(o *options) *int { return &o.limits.ElementBytes }},
		{"handle_bytes", func(o *options) *int { return &o.limits.HandleBytes }},
		{"subscriptions", func(o *options) *int { return &o.limits.Subscriptions }},
		{"subscriptions_per_association", func(o *options) *int { return &o.limits.SubscriptionsPerAssoc }},
		{"resolution_items", func(o *options) *int { return &o.limits.ResolutionItems }},
		{"default_items", func(o *options) *int { return &o.limits.DefaultItems }},
		{"claims_per_association", func(o *options) *int { return &o.limits.ClaimsPerAssoc }},
		{"probes", func(o *options) *int { return &o.limits.Probes }},
		{"servers", func(o *options) *int { return &o.limits.Servers }},
		{"peers", func(o *options) *int { return &o.limits.Peers }},
		{"peer_messages", func(o *options) *int { return &o.limits.PeerMessages }},
		{"downloads", func(o *options) *int { return &o.limits.Downloads }},
		{"errors_per_second", func(o *options) *int { return &o.limits.ErrorsPerSecond }},
		{"logs_per_second", func(o *options) *int { return &o.limits.LogsPerSecond }},
		{"associations", func(o *options) *int { return &o.sctp.Associations }},
		{"half_open", func(o *options) *int { return &o.sctp.HalfOpen }},
	}
}
