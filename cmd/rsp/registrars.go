package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/netaddr"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
)

// announceGroup is the registered group of ASAP (RFC 5352, Section 8.4).
const announceGroup = "224.0.1.185:3863"

// registrarFlags say where registrars are and how to reach them; all commands
// that talk to one have them.
type registrarFlags struct {
	registrars []string
	port       uint16 // where none is given
	announce   string
	via        string
	encap      uint16
	local      []string
}

const registrarHelp = `Registrars:
  --registrar ADDRESS[:PORT][/UDPPORT] names one, with the ports 3863 for ASAP
  and 9899 for SCTP in UDP if not given. In place of ADDRESS, a host name stands
  for all of its addresses; rsp looks it up again each time that it looks for a
  registrar. If the lookup fails, rsp tries the other registrars, and then the
  name again. Several addresses of one registrar that has more than one are
  separated by commas. Repeat the option for more registrars: the first that
  answers is taken, and the next when that one fails.
  --announce listens for registrars that announce themselves by multicast.`

func (f *registrarFlags) add(cmd *cobra.Command, vias string) {
	fl := cmd.Flags()
	f.port = asap.Port
	fl.StringArrayVarP(&f.registrars, "registrar", "r", nil, "a registrar: ADDRESS[:PORT][/UDPPORT] (repeatable; default 127.0.0.1, without --announce)")
	fl.StringVar(&f.announce, "announce", "", "listen for announces in a multicast `GROUP:PORT`; without value "+announceGroup+" (default: do not listen)")
	fl.Lookup("announce").NoOptDefVal = announceGroup
	f.addTransport(cmd, vias)
	noFiles(cmd, "registrar", "announce")
}

// addTransport adds the flags that say how to reach a registrar.
func (f *registrarFlags) addTransport(cmd *cobra.Command, vias string) {
	fl := cmd.Flags()
	fl.StringVar(&f.via, "via", "auto", "transport to registrars: "+vias)
	fl.Uint16Var(&f.encap, "encap", 0, "local UDP `PORT` for SCTP in UDP; 0 takes a free one")
	fl.StringArrayVar(&f.local, "local", nil, "local `ADDRESS[:PORT]` to bind (repeatable, with one port)")
	_ = cmd.RegisterFlagCompletionFunc("via", cobra.FixedCompletions(strings.Split(vias, ", "), cobra.ShellCompDirectiveNoFileComp))
	noFiles(cmd, "encap", "local")
}

// noFiles keeps the shell from completing file names for flags.
func noFiles(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
}

// reach is what registrarFlags mean.
type reach struct {
	registrars []string
	announce   netip.AddrPort
	via        rserpool.Via
	local      []netip.AddrPort
}

// reach reads the flags. Host names are looked up later, in each hunt.
func (f *registrarFlags) reach(cmd *cobra.Command) (reach, error) {
	var r reach
	var err error
	if r.via, err = rserpool.ParseVia(f.via); err != nil {
		return r, usage(cmd, fmt.Errorf("--via: %w", err))
	}
	if f.announce != "" {
		if r.announce, err = parseGroup(f.announce); err != nil {
			return r, usage(cmd, fmt.Errorf("--announce: %w", err))
		}
	}
	names := f.registrars
	if len(names) == 0 && f.announce == "" {
		names = []string{"127.0.0.1"}
	}
	for _, name := range names {
		at, err := rserpool.ParseRegistrar(name)
		if err != nil {
			return r, usage(cmd, fmt.Errorf("--registrar: %w", err))
		}
		at.Port = cmp.Or(at.Port, f.port)
		r.registrars = append(r.registrars, at.String())
	}
	for _, s := range f.local {
		a, err := parseLocal(s)
		if err != nil {
			return r, usage(cmd, fmt.Errorf("--local: %w", err))
		}
		r.local = append(r.local, a)
	}
	return r, nil
}

func parseGroup(s string) (netip.AddrPort, error) {
	a, err := netaddr.ParseAddrPort(s, asap.Port)
	if err != nil || !a.Addr().IsMulticast() {
		return a, fmt.Errorf("%q is not a multicast group and port, such as %s", s, announceGroup)
	}
	return a, nil
}

func parseLocal(s string) (netip.AddrPort, error) { return netaddr.ParseAddrPort(s, 0) }
