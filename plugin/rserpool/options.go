package rserpool

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

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

	// The settings: those of their fields that have a name.
	timers     core.Timers
	limits     core.Limits
	transports host.TransportLimits
}

func defaultOptions() options {
	o := options{
		asap:  []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), asap.Port)},
		encap: sctp.EncapPort,
	}
	for _, s := range o.settings() {
		_ = s.Complete() // the defaults are allowed
	}
	return o
}

// config returns the configuration of a registrar with these options.
func (o options) config() host.Config {
	return host.Config{
		Config:            core.Config{ServerID: o.serverID, Peers: o.peers, Timers: o.timers, Limits: o.limits},
		ASAP:              o.asap,
		ENRP:              o.enrp,
		Transport:         o.transport,
		Encap:             o.encap,
		Transports:        o.transports,
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
	for _, s := range o.settings() {
		if s.Name != "" {
			l = append(l, s.option+" "+s.Name+" "+s.String())
		}
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
