package registrars

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Options are the options of a registrar in a Corefile. Blocks with the same options share
// a registrar. Addresses are sorted.
type Options struct {
	host.Config
	Pools Pools
	// Control is the path of the socket for the operator's commands, or Off. The zero value
	// stands for defaultControl in the directory State, and for none without that.
	Control string
}

const (
	// Off is a Control without socket.
	Off = "off"
	// defaultControl is the name of the socket in the directory of the state.
	defaultControl = "control.sock"
)

// controlPath is where the socket is, "" if there is none.
func (o *Options) controlPath() string {
	switch {
	case o.Control == Off, o.Control == "" && o.State == "":
		return ""
	case o.Control == "":
		return filepath.Join(o.State, defaultControl)
	}
	return o.Control
}

// DefaultOptions has the defaults of all options.
func DefaultOptions() Options {
	c, _ := host.Config{}.Complete() // the defaults are allowed
	return Options{Config: bare(c)}
}

// Check completes the options, and refuses options that contradict each other.
func (o *Options) Check() error {
	if a := o.AnnounceGroup; a.IsValid() && a == o.ENRPAnnounceGroup {
		return fmt.Errorf("announce and enrp_announce both have %s; give one of them another group or port", a)
	}
	if err := o.checkTrust(); err != nil {
		return err
	}
	if l := o.Limits; l.DefaultItems > l.ResolutionItems {
		return fmt.Errorf("limit default_items %d is above limit resolution_items %d", l.DefaultItems, l.ResolutionItems)
	}
	c, err := o.Complete()
	if err != nil {
		return err
	}
	o.Config = bare(c)
	if named := o.Control; named == (&Options{Config: o.Config}).controlPath() || named == Off && o.State == "" {
		o.Control = "" // the default is named
	}
	if a, b, ok := overlap(o.ASAP, o.ENRP, true); ok {
		return fmt.Errorf("asap %s overlaps with enrp %s; give one of them another port", a, b)
	}
	return nil
}

// bare leaves out the fields that no option sets.
func bare(c host.Config) host.Config {
	c.Rand, c.Logger, c.Discover, c.Rules, c.Rights = nil, nil, false, nil, nil
	return c
}

// config returns the configuration of a registrar with these options, which logs.
func (o Options) config() host.Config {
	c := o.Config
	c.Rules = o.Pools.Rules
	c.Logger = slog.New(logHandler{})
	return c
}

// String names the registrar by where it serves.
func (o Options) String() string { return joinAddrs(o.ASAP) }

// sameAddresses reports whether both options are of one registrar.
func (o Options) sameAddresses(p Options) bool { return slices.Equal(o.ASAP, p.ASAP) }

// clash is why two registrars cannot both run, or two blocks share one, and what to do.
type clash struct{ why, advice string }

func (c *clash) Error() string { return c.why + "; " + c.advice }

// conflict returns why registrars with o and p cannot both run, or share one: a *clash.
func (o Options) conflict(p Options) error {
	if c := o.clash(p); c != nil {
		return c
	}
	return nil
}

func (o Options) clash(p Options) *clash {
	if o.sameAddresses(p) {
		if diff := o.differences(p); len(diff) > 0 {
			return &clash{fmt.Sprintf("registrar at %s already runs with other options (%s)", o, strings.Join(diff, ", ")), "give all blocks of a registrar the same options, or this one another asap address or port"}
		}
		return nil
	}
	if o.State != "" && o.State == p.State {
		return &clash{fmt.Sprintf("state %s is that of the registrar at %s", o.State, p), "give each registrar a directory of its own"}
	}
	if path := o.controlPath(); path != "" && path == p.controlPath() {
		return &clash{fmt.Sprintf("control %s is the socket of the registrar at %s", path, p), "give each registrar a path of its own"}
	}
	if a, b, ok := overlap(o.ASAP, p.ASAP, true); ok {
		return &clash{fmt.Sprintf("asap %s overlaps with asap %s of another registrar", a, b), "use the same addresses to share it, or another port"}
	}
	if a, b, ok := overlap(o.ENRP, slices.Concat(p.ASAP, p.ENRP), true); ok {
		return &clash{fmt.Sprintf("enrp %s overlaps with %s of the registrar at %s", a, b, p), "give one of them another port"}
	}
	if a, b, ok := overlap(o.ASAP, p.ENRP, true); ok {
		return &clash{fmt.Sprintf("asap %s overlaps with enrp %s of the registrar at %s", a, b, p), "give one of them another port"}
	}
	inUserSpace := o.Via != rserpool.ViaKernel && p.Via != rserpool.ViaKernel
	if a, b, ok := overlap(slices.Concat(o.ASAP, o.ENRP), slices.Concat(p.ASAP, p.ENRP), false); ok && inUserSpace && o.EncapPort == p.EncapPort {
		return &clash{fmt.Sprintf("encap %d on %s is taken by the registrar at %s", o.EncapPort, a.Addr(), b), "give one of them another port, or transport kernel"}
	}
	return nil
}

// overlap finds addresses of as and bs that cannot both be bound.
func overlap(as, bs []netip.AddrPort, ports bool) (a, b netip.AddrPort, ok bool) {
	for _, a := range as {
		for _, b := range bs {
			if ports && (a.Port() != b.Port() || a.Port() == 0) {
				continue
			}
			if Overlap(a.Addr(), b.Addr()) {
				return a, b, true
			}
		}
	}
	return a, b, false
}

// Overlap reports whether two sockets bound to a and to b, with the same port, exclude
// each other. The unspecified IPv6 address stands for those of both families.
func Overlap(a, b netip.Addr) bool { return covers(a, b) || covers(b, a) }

// covers reports whether a socket bound to a also receives what is sent to b.
func covers(a, b netip.Addr) bool {
	return a == b || a == netip.IPv6Unspecified() || a == netip.IPv4Unspecified() && b.Is4()
}

// differences lists the options that differ, with the values in o and, behind "not", in p.
func (o Options) differences(p Options) []string {
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
func (o Options) list() []string {
	l := []string{
		o.mode(),
		"enrp " + offOrAddrs(o.ENRP),
		"peer " + offOrAddrs(o.Peers),
		"transport " + o.Via.String(),
		"encap " + strconv.Itoa(int(o.EncapPort)),
		"server_id " + idName(o.ServerID),
		"announce " + announceName(o.AnnounceGroup),
		"enrp_announce " + announceName(o.ENRPAnnounceGroup),
		"state " + cmp.Or(o.State, Off),
		"control " + cmp.Or(o.Control, "default"),
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

// SetTransport sets the SCTP to serve: auto, kernel or udp.
func (o *Options) SetTransport(name string) error {
	v, err := rserpool.ParseVia(name)
	if err != nil || v == rserpool.ViaTCP {
		return fmt.Errorf("%q is not a transport; use auto, kernel or udp", name)
	}
	o.Via = v
	return nil
}
