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
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
)

// guestFlags are the flags of the commands that ask a registrar by ENRP.
type guestFlags struct {
	registrarFlags
	logFlags
	timeout time.Duration
	json    bool
	role    string // why the certificate does not let rsp ask; "" if it does, and without TLS
}

const guestHelp = `rsp can ask every registrar that serves ENRP, including other implementations. rsp asks
like a registrar that joins the scope, so the registrar may list rsp as a peer for some
seconds. rsp changes nothing. CoreDNS serves ENRP only with one of the options peer,
enrp_announce and enrp.

Registrars:
  --registrar ADDRESS[:PORT][/UDPPORT] names one. The default ports are 9901 for
  ENRP and 9899 for SCTP in UDP. ADDRESS is a host name or an IP address. Repeat the
  option for more registrars: rsp uses the first that answers.

` + tlsHelp + `
  Only registrars may ask by ENRP, so the certificate must be that of a registrar.`

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
	if r.tls.Set() {
		if f.role, err = f.roleOf(r.tls); err != nil {
			return nil, usage(cmd, err)
		}
	}
	return guest.Open(guest.Config{
		Registrars: r.registrars, Via: r.via, Local: r.local, EncapPort: f.encap, Timeout: f.timeout,
		TLS: r.tls, TLSRegistrars: f.tls.registrars,
		Logger: f.logger(cmd.ErrOrStderr()).transport(),
	})
}

// onlyRegistrars says which certificates a registrar demands by ENRP.
const onlyRegistrars = "peers and dump speak ENRP, which only certificates of registrars may (rsp ca issue registrar/NAME): "

// roleOf says that a certificate is not that of a registrar. It is an error if there is none,
// because no Corefile lets such a peer ask. With one, the option registrars may name it.
func (f *guestFlags) roleOf(files rserpool.TLSFiles) (string, error) {
	if files.Cert == "" && files.Secret == "" {
		return "", fmt.Errorf("%sthere is none beside %s", onlyRegistrars, files.CA)
	}
	own, err := trust.Open(trust.Files(files), time.Now, func(string) {})
	if err != nil {
		return "", nil // it has ended, or has not begun: what fails then says so
	}
	rights, err := identity.New(identity.Rules{Registrars: f.tls.registrars})
	if err != nil || rights.Registrar(own.Name()) {
		return "", err
	}
	return fmt.Sprintf("%sthe one in %s is that of %s", onlyRegistrars, files.Cert, own.Name()), nil
}

// unreached marks the error of a guest that has reached no registrar, or was shut out.
func (f *guestFlags) unreached(err error) error {
	var (
		none   *rserpool.UnreachableError
		untold *guest.RefusedError
	)
	if errors.As(err, &none) || f.role != "" && !errors.As(err, &untold) {
		return &noENRPError{err, f.role}
	}
	return err
}

// noENRPError says that no registrar could be reached by ENRP.
type noENRPError struct {
	error
	role string // guestFlags.role
}

// Unwrap gives the *rserpool.UnreachableError, if it is one.
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
				return f.unreached(err)
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

STATE is member, or suspect with the time when the element's home found it silent: its
last sign of life was earlier. That time is computed from whole seconds, so that it may
differ by a second from call to call. Suspects are left out of answers, unless the guard
of the registrar's Corefile says otherwise; without one, they are in the answers of a pool
that has no members. Other implementations have no suspects. rsp remove removes an
element.

In a trusted scope, IDENTITY is that of the certificate with which the element has
registered: allow and deny of the Corefile are about it.

rsp holds the handlespace in memory to sort it, about 500 bytes for each element.

` + jsonHandleHelp + `

` + guestHelp + `

` + exitHelp,
		Example: `  rsp dump --registrar 192.0.2.53
  rsp dump --own --registrar 192.0.2.53
  rsp dump --json --registrar 192.0.2.53 | jq '[.pools[].elements[].home] | group_by(.) | map({(.[0]): length}) | add'
  rsp dump --json --registrar 192.0.2.53 | jq -r '.pools[] | .pool as $p | .elements[] | select(.state == "suspect") | $p + " " + .id'`,
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
	pools     []dumpedPool
	elements  int
	suspects  int
}

type dumpedPool struct {
	handle   rserpool.PoolHandle
	elements []dumpedElement
	suspects int
}

type dumpedElement struct {
	rserpool.PoolElement
	suspect time.Time // when it was found silent, to about a second; zero if it is none
}

func (f *dumpFlags) read(ctx context.Context, g *guest.Guest) (*dump, error) {
	d := new(dump)
	places := map[rserpool.PoolHandle]int{}
	for p, err := range g.Pools(ctx, f.own) {
		if err != nil {
			return nil, f.unreached(err)
		}
		i, ok := places[p.Handle]
		if !ok {
			i = len(d.pools)
			places[p.Handle] = i
			d.pools = append(d.pools, dumpedPool{handle: p.Handle})
		}
		d.add(&d.pools[i], p, time.Now())
	}
	d.registrar, d.at = g.ServerID(), g.At().String()
	d.sort()
	return d, nil
}

func (d *dump) sort() {
	slices.SortFunc(d.pools, func(a, b dumpedPool) int { return cmp.Compare(a.handle, b.handle) })
	for _, p := range d.pools {
		slices.SortFunc(p.elements, func(a, b dumpedElement) int { return cmp.Compare(a.ID, b.ID) })
	}
}

// add adds a part of a pool, which has come at a time.
func (d *dump) add(to *dumpedPool, part enrp.PoolEntry, now time.Time) {
	for i := range part.Elements {
		e := dumpedElement{PoolElement: part.Elements[i]}
		if silent, ok := part.Suspects[i]; ok {
			e.suspect = now.Add(-silent)
			d.suspects++
			to.suspects++
		}
		to.elements = append(to.elements, e)
	}
	d.elements += len(part.Elements)
}

// counts is a number of elements, with that of suspects among them if there are some.
func counts(elements, suspects int) string {
	if suspects == 0 {
		return count(elements, "element")
	}
	return count(elements, "element") + ", " + count(suspects, "suspect")
}

// state is the state of an element for people.
func (e *dumpedElement) state(now time.Time) string {
	at, form := e.suspect.Local(), time.TimeOnly
	switch {
	case e.suspect.IsZero():
		return "member"
	case at.Format(time.DateOnly) != now.Local().Format(time.DateOnly):
		form = time.DateTime
	}
	return "suspect since " + at.Format(form)
}

// printTable writes a handlespace for people.
func (d *dump) printTable(w io.Writer) error {
	fmt.Fprintf(w, "registrar %v at %s, %s, %s\n", d.registrar, d.at, count(len(d.pools), "pool"), counts(d.elements, d.suspects))
	now := time.Now()
	for _, p := range d.pools {
		first := p.elements[0].Policy
		fmt.Fprintf(w, "\npool %q, policy %v, %s\n", string(p.handle), first.Type, counts(len(p.elements), p.suspects))
		t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		trusted := slices.ContainsFunc(p.elements, func(e dumpedElement) bool { return e.Identity != "" })
		head := "ID\tHOME\tTRANSPORT\tADDRESSES\tVALUES\tLIFE\tASAP\tSTATE"
		if trusted {
			head += "\tIDENTITY"
		}
		fmt.Fprintln(t, head)
		for i := range p.elements {
			e := &p.elements[i]
			fmt.Fprintf(t, "%v\t%v\t%s\t%s\t%s\t%s\t%s\t%s", e.ID, e.Home, transport(&e.UserTransport),
				strings.Join(addresses(&e.UserTransport), ","), values(e.Policy, first), life(&e.PoolElement), asapAt(&e.PoolElement), e.state(now))
			if trusted {
				fmt.Fprintf(t, "\t%s", identityOf(&e.PoolElement))
			}
			fmt.Fprintln(t)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// identityOf is the identity of an element for people.
func identityOf(e *rserpool.PoolElement) string {
	if e.Identity == "" {
		return "-"
	}
	return printable(e.Identity)
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
	jsonHandle
	Policy   string       `json:"policy"`
	Elements []jsonDumped `json:"elements"`
}

type jsonDumped struct {
	jsonElement
	State string `json:"state"`
	// Since is when a suspect's home found it silent, to about a second.
	Since *time.Time `json:"since,omitempty"`
	ASAP  *jsonASAP  `json:"asap,omitempty"`
	// Identity is that of the certificate with which the element has registered.
	Identity string `json:"identity,omitempty"`
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
		j := jsonPool{jsonHandle: newJSONHandle(p.handle), Policy: p.elements[0].Policy.Type.String()}
		for i := range p.elements {
			e := &p.elements[i]
			x := jsonDumped{jsonElement: newJSONElement(&e.PoolElement), State: "member", Identity: e.Identity, Unknown: len(e.Unknown)}
			if !e.suspect.IsZero() {
				since := e.suspect.UTC().Truncate(time.Second)
				x.State, x.Since = "suspect", &since
			}
			if t := &e.ASAPTransport; t.Present() {
				x.ASAP = &jsonASAP{t.Port, addresses(t), e.EncapPort}
			}
			j.Elements = append(j.Elements, x)
		}
		out.Pools = append(out.Pools, j)
	}
	return json.NewEncoder(w).Encode(out)
}
