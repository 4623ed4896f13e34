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
var announceGroup = netip.MustParseAddrPort("224.0.1.185:3863")

// overSCTP are the transports of ASAP with a registration, and of ENRP.
var overSCTP = []rserpool.Via{rserpool.ViaAuto, rserpool.ViaKernel, rserpool.ViaUDP}

// registrarFlags are the registrars and the transport to them; all commands that
// connect to a registrar have these flags.
type registrarFlags struct {
	registrars []string
	port       uint16 // where none is given
	announce   string
	via        string
	vias       []string // that the command takes
	encap      uint16
	local      []string
	tls        tlsFlags
}

// registrarsHelp explains the flags of registrars.
const registrarsHelp = `Registrars:
  --registrar ADDRESS[:PORT][/UDPPORT] names one. The default ports are 3863 for
  ASAP and 9899 for SCTP in UDP. ADDRESS can be a host name, which stands for all
  of its addresses, up to 16; rsp looks the name up each time it looks for a
  registrar. If the lookup fails, rsp tries the other registrars, and then the name
  again.
  Separate several addresses of one registrar by commas. Repeat the option for
  more registrars: rsp uses the first that answers, and the next if that one fails.
  --announce listens for registrars that announce themselves by multicast.`

const registrarHelp = registrarsHelp + "\n\n" + tlsHelp

func (f *registrarFlags) add(cmd *cobra.Command, vias []rserpool.Via) {
	fl := cmd.Flags()
	f.port = asap.Port
	fl.StringArrayVarP(&f.registrars, "registrar", "r", nil, "a `REGISTRAR`, ADDRESS[:PORT][/UDPPORT] (repeatable; default 127.0.0.1, without --announce)")
	fl.StringVar(&f.announce, "announce", "", "listen for announces in the multicast group `GROUP:PORT`; without a value "+announceGroup.String()+" (default: do not listen)")
	fl.Lookup("announce").NoOptDefVal = announceGroup.String()
	f.addTransport(cmd, vias)
	noFiles(cmd, "registrar", "announce")
}

// addTransport adds the flags of the transport to a registrar.
func (f *registrarFlags) addTransport(cmd *cobra.Command, vias []rserpool.Via) {
	fl := cmd.Flags()
	for _, v := range vias {
		f.vias = append(f.vias, v.String())
	}
	fl.StringVar(&f.via, "via", "auto", "`TRANSPORT` to registrars: "+strings.Join(f.vias, ", "))
	fl.Uint16Var(&f.encap, "encap", 0, "local UDP `PORT` for SCTP in UDP; 0 selects a free one")
	fl.StringArrayVar(&f.local, "local", nil, "local `ADDRESS[:PORT]` to bind (repeatable, with one port)")
	_ = cmd.RegisterFlagCompletionFunc("via", cobra.FixedCompletions(f.vias, cobra.ShellCompDirectiveNoFileComp))
	noFiles(cmd, "encap", "local")
	f.tls.add(cmd)
}

// noFiles turns off the completion of file names for flags.
func noFiles(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
}

// reach holds the values of registrarFlags.
type reach struct {
	registrars []string
	announce   netip.AddrPort
	via        rserpool.Via
	local      []netip.AddrPort
	tls        rserpool.TLSFiles
}

// reach reads the flags. Host names are looked up later, in each hunt.
func (f *registrarFlags) reach(cmd *cobra.Command) (reach, error) {
	var r reach
	var err error
	if r.via, err = rserpool.ParseVia(f.via); err != nil {
		last := len(f.vias) - 1
		return r, usage(cmd, fmt.Errorf("--via: unknown transport %q: use %s or %s", f.via, strings.Join(f.vias[:last], ", "), f.vias[last]))
	}
	if f.announce != "" {
		if r.announce, err = netaddr.ParseGroup(f.announce, announceGroup); err != nil {
			return r, usage(cmd, fmt.Errorf("--announce: %w", err))
		}
	}
	if r.tls, err = f.tls.read(cmd); err != nil {
		return r, err
	}
	port := f.port
	if r.tls.Set() {
		port = tlsPort(port)
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
		at.Port = cmp.Or(at.Port, port)
		r.registrars = append(r.registrars, at.String())
	}
	for _, s := range f.local {
		a, err := netaddr.ParseAddrPort(s, 0)
		if err != nil {
			return r, usage(cmd, fmt.Errorf("--local: %w", err))
		}
		r.local = append(r.local, a)
	}
	return r, nil
}
