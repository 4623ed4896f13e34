package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/enrp/guest"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
)

// guestFlags are the flags of the commands that ask a registrar by ENRP.
type guestFlags struct {
	registrarFlags
	logFlags
	timeout time.Duration
	json    bool
}

const guestHelp = `rsp can ask every registrar that serves ENRP, including other implementations. rsp asks
like a registrar that joins the scope, so the registrar may list rsp as a peer for some
seconds. rsp changes nothing. CoreDNS serves ENRP only with one of the options peer,
enrp_announce and enrp.

Registrars:
  --registrar ADDRESS[:PORT][/UDPPORT] names one. The default ports are 9901 for
  ENRP and 9899 for SCTP in UDP. ADDRESS is a host name or an IP address. Repeat the
  option for more registrars: rsp uses the first that answers.`

func (f *guestFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.SortFlags = false
	f.port = enrp.Port
	fl.BoolVar(&f.json, "json", false, "print JSON, one object")
	fl.StringArrayVarP(&f.registrars, "registrar", "r", nil, "a `REGISTRAR`, ADDRESS[:PORT][/UDPPORT] (repeatable; default 127.0.0.1)")
	noFiles(cmd, "registrar")
	f.addTransport(cmd, overSCTP)
	fl.DurationVar(&f.timeout, "timeout", 10*time.Second, "time to wait for each answer")
	f.logFlags.add(cmd)
}

// open opens a guest.
func (f *guestFlags) open(cmd *cobra.Command) (*guest.Guest, error) {
	if f.timeout <= 0 {
		return nil, usage(cmd, fmt.Errorf("--timeout must be positive, got %v", f.timeout))
	}
	r, err := f.reach(cmd)
	if err != nil {
		return nil, err
	}
	if r.via == rserpool.ViaTCP {
		return nil, usage(cmd, errors.New("--via: ENRP does not run over tcp; use auto, kernel or udp"))
	}
	return guest.Open(guest.Config{
		Registrars: r.registrars, Via: r.via, Local: r.local, EncapPort: f.encap, Timeout: f.timeout,
		Logger: f.logger(cmd.ErrOrStderr()).transport(),
	})
}

// unreached marks the error of a guest that has reached no registrar.
func unreached(err error) error {
	if e := (*rserpool.UnreachableError)(nil); errors.As(err, &e) {
		return &noENRPError{err}
	}
	return err
}

// noENRPError says that no registrar could be reached by ENRP.
type noENRPError struct{ error }

// Unwrap gives the *rserpool.UnreachableError.
func (e *noENRPError) Unwrap() error { return e.error }

func newPeers() *cobra.Command {
	f := new(guestFlags)
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "ask a registrar for the other registrars of its scope",
		Long: `Ask a registrar for the other registrars that it shares the handlespace with
(ENRP: RFC 5353).

` + guestHelp + `

` + exitHelp,
		Example: `  rsp peers --registrar 192.0.2.53
  rsp peers --json --registrar 192.0.2.53 | jq -r '.peers[].id'`,
		Args: namedArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			g, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer g.Close()
			id, peers, err := g.Peers(cmd.Context())
			if err != nil {
				return unreached(err)
			}
			slices.SortFunc(peers, func(a, b rserpool.ServerInformation) int { return cmp.Compare(a.ID, b.ID) })
			return f.printPeers(cmd.OutOrStdout(), id, g.At().String(), peers)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.add(cmd)
	return cmd
}

// jsonPeers and jsonPeer are the output of peers --json.
type jsonPeers struct {
	Registrar string     `json:"registrar"`
	At        string     `json:"at"`
	Peers     []jsonPeer `json:"peers"`
}

type jsonPeer struct {
	ID        string   `json:"id"`
	Port      uint16   `json:"port"`
	Addresses []string `json:"addresses"`
}

func (f *guestFlags) printPeers(w io.Writer, id rserpool.ServerID, at string, peers []rserpool.ServerInformation) error {
	if f.json {
		out := jsonPeers{Registrar: id.String(), At: at, Peers: []jsonPeer{}}
		for i := range peers {
			p := &peers[i]
			out.Peers = append(out.Peers, jsonPeer{p.ID.String(), p.Transport.Port, addresses(&p.Transport)})
		}
		return json.NewEncoder(w).Encode(out)
	}
	fmt.Fprintf(w, "registrar %v at %s, %s\n", id, at, count(len(peers), "peer"))
	if len(peers) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tPORT\tADDRESSES")
	for i := range peers {
		p := &peers[i]
		fmt.Fprintf(t, "%v\t%d\t%s\n", p.ID, p.Transport.Port, strings.Join(addresses(&p.Transport), ","))
	}
	return t.Flush()
}

// count returns a number with its noun.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

type dumpFlags struct {
	guestFlags
	own bool
}

func newDump() *cobra.Command {
	f := new(dumpFlags)
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "ask a registrar for its whole handlespace",
		Long: `Ask a registrar for all pools and pool elements that it knows, its own and those
of the other registrars of its scope (ENRP: RFC 5353).

HOME is the element's home registrar. ASAP is the address and port at which registrars
connect to the element, with /UDPPORT if it uses SCTP in UDP. LIFE is the registration
life as it is on the wire: in seconds for elements that follow RFC 5354, in
milliseconds for elements of rsp and of the reference implementation RSPLIB.

rsp holds the handlespace in memory to sort it, about 500 bytes for each element.

` + guestHelp + `

` + exitHelp,
		Example: `  rsp dump --registrar 192.0.2.53
  rsp dump --own --registrar 192.0.2.53
  rsp dump --json --registrar 192.0.2.53 | jq '[.pools[].elements[].home] | group_by(.) | map({(.[0]): length}) | add'`,
		Args: namedArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			g, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer g.Close()
			d, err := f.read(cmd.Context(), g)
			if err != nil {
				return err
			}
			if f.json {
				return d.printJSON(cmd.OutOrStdout())
			}
			return d.printTable(cmd.OutOrStdout())
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&f.own, "own", false, "only the elements whose home is this registrar")
	f.add(cmd)
	return cmd
}

// dump is a handlespace, with its pools by handle and elements by identifier.
type dump struct {
	registrar rserpool.ServerID
	at        string
	pools     []enrp.PoolEntry
	elements  int
}

func (f *dumpFlags) read(ctx context.Context, g *guest.Guest) (*dump, error) {
	d := new(dump)
	places := map[rserpool.PoolHandle]int{}
	for p, err := range g.Pools(ctx, f.own) {
		if err != nil {
			return nil, unreached(err)
		}
		i, ok := places[p.Handle]
		if !ok {
			i = len(d.pools)
			places[p.Handle] = i
			d.pools = append(d.pools, enrp.PoolEntry{Handle: p.Handle})
		}
		d.pools[i].Elements = append(d.pools[i].Elements, p.Elements...)
		d.elements += len(p.Elements)
	}
	d.registrar, d.at = g.ServerID(), g.At().String()
	slices.SortFunc(d.pools, func(a, b enrp.PoolEntry) int { return cmp.Compare(a.Handle, b.Handle) })
	for _, p := range d.pools {
		slices.SortFunc(p.Elements, func(a, b rserpool.PoolElement) int { return cmp.Compare(a.ID, b.ID) })
	}
	return d, nil
}

// printTable writes a handlespace for people.
func (d *dump) printTable(w io.Writer) error {
	fmt.Fprintf(w, "registrar %v at %s, %s, %s\n", d.registrar, d.at, count(len(d.pools), "pool"), count(d.elements, "element"))
	for _, p := range d.pools {
		first := p.Elements[0].Policy
		fmt.Fprintf(w, "\npool %q, policy %v, %s\n", string(p.Handle), first.Type, count(len(p.Elements), "element"))
		t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		fmt.Fprintln(t, "ID\tHOME\tTRANSPORT\tADDRESSES\tVALUES\tLIFE\tASAP")
		for i := range p.Elements {
			e := &p.Elements[i]
			fmt.Fprintf(t, "%v\t%v\t%s\t%s\t%s\t%s\t%s\n", e.ID, e.Home, transport(&e.UserTransport),
				strings.Join(addresses(&e.UserTransport), ","), values(e.Policy, first), life(e), asapAt(e))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// asapAt says where an element takes calls of registrars.
func asapAt(e *rserpool.PoolElement) string {
	if !e.ASAPTransport.Present() {
		return "-"
	}
	s := fmt.Sprintf("%s:%d", strings.Join(addresses(&e.ASAPTransport), ","), e.ASAPTransport.Port)
	if e.EncapPort != 0 {
		s += fmt.Sprintf("/%d", e.EncapPort)
	}
	return s
}

// jsonDump, jsonPool and jsonDumped are the output of dump --json.
type jsonDump struct {
	Registrar string     `json:"registrar"`
	At        string     `json:"at"`
	Pools     []jsonPool `json:"pools"`
}

type jsonPool struct {
	Pool     string       `json:"pool"`
	Policy   string       `json:"policy"`
	Elements []jsonDumped `json:"elements"`
}

type jsonDumped struct {
	jsonElement
	ASAP *jsonASAP `json:"asap,omitempty"`
	// Unknown is the number of parameters that rsp does not know.
	Unknown int `json:"unknown_parameters,omitempty"`
}

type jsonASAP struct {
	Port      uint16   `json:"port"`
	Addresses []string `json:"addresses"`
	EncapPort uint16   `json:"udp_port,omitempty"`
}

// printJSON writes a handlespace for programs.
func (d *dump) printJSON(w io.Writer) error {
	out := jsonDump{Registrar: d.registrar.String(), At: d.at, Pools: []jsonPool{}}
	for _, p := range d.pools {
		j := jsonPool{Pool: string(p.Handle), Policy: p.Elements[0].Policy.Type.String()}
		for i := range p.Elements {
			e := &p.Elements[i]
			x := jsonDumped{jsonElement: newJSONElement(e), Unknown: len(e.Unknown)}
			if t := &e.ASAPTransport; t.Present() {
				x.ASAP = &jsonASAP{t.Port, addresses(t), e.EncapPort}
			}
			j.Elements = append(j.Elements, x)
		}
		out.Pools = append(out.Pools, j)
	}
	return json.NewEncoder(w).Encode(out)
}
