// Package guest asks a registrar for its peers and its handlespace by ENRP (RFC
// 5353), as a registrar does that joins its scope, but without becoming one: it
// has no pool elements, and refuses all requests of other registrars. It sends a
// presence only to registrars that require one, such as RSPLIB. A registrar may count
// the guest among its peers until MAX-TIME-NO-RESPONSE after the guest's end; there is
// nothing to take over.
package guest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Config configures a Guest. Registrars is required; other zero fields stand for the
// defaults.
type Config struct {
	// Registrars are where registrars serve ENRP, in the form of
	// [rserpool.ParseRegistrar] with 9901 as the default port, or 9902 with TLS. The first that can be
	// reached is asked.
	Registrars []string
	// Via is the transport; not TCP.
	Via rserpool.Via
	// Local are the addresses to bind, all of the machine without one.
	Local []netip.AddrPort
	// EncapPort is the local UDP port for SCTP in UDP; 0 takes a free one.
	EncapPort uint16
	// TLS are the files of a trusted scope (RFC 5355), in which only registrars may ask by
	// ENRP; the default port is 9902 then. The zero value is no TLS.
	TLS rserpool.TLSFiles
	// TLSRegistrars are the identities of registrars, as patterns of [path.Match]; none
	// stands for spiffe://*/rserpool/registrar/*.
	TLSRegistrars []string
	// Timeout is how long a registrar may take to accept the association, and for
	// each answer; default 10 s.
	Timeout time.Duration
	// Logger, if set, gets what an operator wants to know of the transport.
	Logger *slog.Logger

	registrars []rserpool.Registrar
	listen     client.ListenFunc // for tests
}

// Validate says what is wrong with the configuration, nil if nothing is. [Open]
// checks it, too.
func (c Config) Validate() error { return c.prepare() }

func (c *Config) prepare() error {
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if err := c.trust().Check(); err != nil {
		return err
	}
	port := uint16(enrp.Port)
	if c.TLS.Set() {
		port = enrp.TLSPort
	}
	var err error
	if c.registrars, err = client.ParseRegistrars(c.Registrars, port, errTCP); err != nil {
		return err
	}
	c.Local, c.TLSRegistrars = slices.Clone(c.Local), slices.Clone(c.TLSRegistrars)
	switch {
	case len(c.registrars) == 0:
		return errors.New("no registrar: set Registrars")
	case c.Via == rserpool.ViaTCP:
		return errTCP
	case c.Timeout < 0:
		return fmt.Errorf("field Timeout is %v: it must not be negative", c.Timeout)
	}
	return client.CheckVia(c.Via)
}

// trust is the trusted scope.
func (c *Config) trust() client.Trust {
	return client.Trust{TLSFiles: c.TLS, Registrars: c.TLSRegistrars}
}

var errTCP = errors.New("ENRP runs over SCTP, not TCP (RFC 5353, Section 7.2)")

// RefusedError says that the registrar has answered, and refuses the request.
type RefusedError struct {
	// What was requested.
	What string
	// Causes are those of an ENRP_ERROR; none if the registrar has rejected the
	// request, as it does before it has a handlespace.
	Causes []rserpool.Cause
}

// Error says what was refused and why.
func (e *RefusedError) Error() string {
	if len(e.Causes) > 0 {
		return fmt.Sprintf("the registrar reports an error to the request for %s: %v", e.What, e.Causes[0].Code)
	}
	return fmt.Sprintf("the registrar refuses the request for %s: it has no handlespace yet, or gives it to too many others now", e.What)
}

// Is reports whether target is a [rserpool.CauseCode] among the causes.
func (e *RefusedError) Is(target error) bool { return rserpool.HasCause(e.Causes, target) }

// Guest asks a registrar by ENRP. [Open] makes one; the zero value cannot be used. Its
// methods are for one goroutine at a time.
type Guest struct {
	cfg    Config
	t      *client.Transport
	id     rserpool.ServerID
	assoc  sctp.AssocID // 0 without an association
	to     rserpool.Registrar
	at     netip.AddrPort
	server rserpool.ServerID
	// presented tells that a presence has been sent.
	presented bool
	// stale tells that the registrar may still send a response to an earlier request,
	// or has a download of this guest's half done.
	stale  bool
	closed bool
}

// Open checks the configuration and opens the sockets. The first request connects to
// a registrar.
func Open(cfg Config) (*Guest, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	t, err := client.Open(client.Config{Via: cfg.Via, Local: cfg.Local, EncapPort: cfg.EncapPort, Trust: cfg.trust(), PPID: enrp.PPID, Logger: cfg.Logger, Listen: cfg.listen})
	if err != nil {
		return nil, err
	}
	return &Guest{cfg: cfg, t: t, id: drawID()}, nil
}

// drawID draws a server identifier. 0 is none.
func drawID() rserpool.ServerID {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:]) // it never fails
		if id := binary.BigEndian.Uint32(b[:]); id != 0 {
			return rserpool.ServerID(id)
		}
	}
}

// ready makes the guest ready for a request. After a request that ended without its answer, and
// after a download that was not read to its end, it leaves the association and takes
// another identifier: the registrar would otherwise continue where it was.
func (g *Guest) ready(ctx context.Context) error {
	if g.closed {
		return rserpool.ErrClosed
	}
	if g.stale {
		if g.assoc != 0 {
			_ = g.perform(hunt.Close{Assoc: g.assoc, Abort: true})
		}
		g.assoc, g.id, g.presented, g.stale = 0, drawID(), false, false
	}
	return g.connect(ctx)
}

// connect connects to the first registrar that can be reached, unless there is an
// association.
func (g *Guest) connect(ctx context.Context) error {
	if g.assoc != 0 {
		return nil
	}
	failed := &rserpool.UnreachableError{}
	for _, named := range g.cfg.registrars {
		list, err := g.resolve(ctx, named)
		if err != nil {
			failed.Attempts = append(failed.Attempts, rserpool.Attempt{Registrar: named.Clone(), Since: time.Now(), Err: err})
		}
		for _, r := range list {
			since := time.Now()
			if err = g.connectTo(ctx, r); err == nil {
				g.to = r
				return nil
			}
			failed.Attempts = append(failed.Attempts, rserpool.Attempt{Registrar: r.Clone(), Since: since, Err: err})
		}
		if ctx.Err() != nil {
			failed.Cause = ctx.Err()
			break
		}
	}
	return failed
}

func (g *Guest) resolve(ctx context.Context, r rserpool.Registrar) ([]rserpool.Registrar, error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
	defer cancel()
	return client.Resolve(ctx, r)
}

// connectTo connects to one address.
func (g *Guest) connectTo(ctx context.Context, r rserpool.Registrar) error {
	err := g.perform(hunt.Connect{Ref: 1, To: r})
	if err == nil {
		err = g.up(ctx)
	}
	if err != nil && g.assoc != 0 {
		_ = g.perform(hunt.Close{Assoc: g.assoc, Abort: true})
		g.assoc = 0
	}
	return err
}

// Close ends the association, and closes the sockets. It may be called more than once.
// Requests after Close return [rserpool.ErrClosed].
func (g *Guest) Close() error {
	g.closed = true
	return g.t.Close()
}

// At is where the registrar was reached; the zero value before the first request.
func (g *Guest) At() netip.AddrPort { return g.at }

// ServerID is the registrar's identifier, 0 before its first answer.
func (g *Guest) ServerID() rserpool.ServerID { return g.server }

func (g *Guest) perform(a hunt.Action) (err error) {
	g.t.Perform([]hunt.Action{a},
		func(_ uint64, a sctp.AssocID, e error) { g.assoc, err = a, e },
		func(_ sctp.AssocID, e error) { err = e })
	return err
}

// up waits for the association.
func (g *Guest) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
	defer cancel()
	for {
		ev, err := g.next(ctx)
		if err != nil {
			return err
		}
		if ev.Type == sctp.Up {
			if len(ev.Peer) > 0 {
				g.at = ev.Peer[0]
			}
			return nil
		}
	}
}

// next is the association's next event, or why there is none.
func (g *Guest) next(ctx context.Context) (client.Event, error) {
	for {
		select {
		case ev := <-g.t.Events():
			switch {
			case ev.Assoc == 0: // not of an association
			case ev.Type == sctp.Down && ev.Assoc != g.assoc: // of an earlier attempt
			case ev.Assoc != g.assoc: // another registrar connects to us
				_ = g.perform(hunt.Close{Assoc: ev.Assoc, Abort: true})
			case ev.Type == sctp.Down:
				g.assoc = 0
				return ev, client.DownError(ev.Event)
			default:
				return ev, nil
			}
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return client.Event{}, errors.New("no answer in time")
			}
			return client.Event{}, ctx.Err()
		}
	}
}

// ask sends a request and returns the answer of the type A. request makes the message when
// the guest has the identifier with which it asks.
func ask[A enrp.Message](ctx context.Context, g *Guest, what string, request func() enrp.Message) (A, error) {
	var none A
	if err := g.ready(ctx); err != nil {
		return none, err
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
	defer cancel()
	g.stale = true // until the answer: any other end leaves it to come
	if err := g.send(request()); err != nil {
		return none, fmt.Errorf("request for %s: %w", what, err)
	}
	for {
		ev, err := g.next(ctx)
		if err != nil {
			return none, &rserpool.UnreachableError{Cause: caller.Err(), Attempts: []rserpool.Attempt{{
				Registrar: g.to.Clone(), Err: fmt.Errorf("request for %s: %w", what, err),
			}}}
		}
		if ev.Type != sctp.Received || ev.Message.PPID != enrp.PPID && ev.Message.PPID != 0 {
			continue
		}
		msg, _, err := enrp.Parse(ev.Message.Data)
		if err != nil {
			return none, fmt.Errorf("the registrar's message cannot be read: %w", err)
		}
		switch m := msg.(type) {
		case A:
			g.stale = false
			return m, nil
		case *enrp.Error:
			return none, &RefusedError{What: what, Causes: m.Causes}
		case *enrp.ListRequest:
			err = g.send(&enrp.ListResponse{Sender: g.id, Receiver: m.Sender, Reject: true})
		case *enrp.HandleTableRequest:
			err = g.send(&enrp.HandleTableResponse{Sender: g.id, Receiver: m.Sender, Reject: true})
		}
		if err != nil {
			return none, err
		}
	}
}

func (g *Guest) send(m enrp.Message) error {
	b, err := m.Append(nil)
	if err != nil {
		return err
	}
	return g.perform(hunt.Send{Assoc: g.assoc, Data: b, PPID: enrp.PPID})
}

// present sends a presence, that of a registrar without pool elements.
func (g *Guest) present() error {
	addrs, err := client.LocalToward([]rserpool.Registrar{g.to})
	if err != nil {
		return err
	}
	g.presented = true
	return g.send(&enrp.Presence{
		Sender: g.id, HasChecksum: true, Checksum: (&enrp.Checksum{}).Value(),
		Info: rserpool.ServerInformation{ID: g.id, Transport: rserpool.Transport{
			Type: rserpool.SCTP, Port: g.t.LocalAddrs()[0].Port(), Addrs: addrs,
		}},
	})
}

// Peers asks for the registrars that the registrar knows (RFC 5353, Section
// 3.2.2), and returns the registrar's own identifier as well.
func (g *Guest) Peers(ctx context.Context) (rserpool.ServerID, []rserpool.ServerInformation, error) {
	const what = "its peers"
	m, err := ask[*enrp.ListResponse](ctx, g, what, func() enrp.Message { return &enrp.ListRequest{Sender: g.id} })
	if err != nil {
		return 0, nil, err
	}
	g.server = m.Sender
	if m.Reject {
		return m.Sender, nil, &RefusedError{What: what}
	}
	var peers []rserpool.ServerInformation
	for _, p := range m.Servers {
		if p.ID != g.id { // RSPLIB lists the registrar that asks, too
			peers = append(peers, p)
		}
	}
	return m.Sender, peers, nil
}

// Pools gives the pools of the registrar's handlespace with their elements, or with
// own only the elements whose home it is (RFC 5353, Section 3.2.3); the first error
// ends it. A registrar of this project gives its suspects, too, each marked in
// [enrp.PoolEntry.Suspects]. A pool may come in several parts. Elements that come and go meanwhile may or
// may not be there. Each use of the sequence starts with the first pool. No other request of the
// Guest may be made meanwhile.
func (g *Guest) Pools(ctx context.Context, own bool) iter.Seq2[enrp.PoolEntry, error] {
	return func(yield func(enrp.PoolEntry, error) bool) {
		for more := true; more; {
			m, err := g.table(ctx, own)
			if err != nil {
				yield(enrp.PoolEntry{}, err)
				return
			}
			for _, p := range m.Pools {
				if !yield(p, nil) {
					g.stale = g.stale || m.More
					return
				}
			}
			more = m.More
		}
	}
}

// table asks for the next part of the handlespace.
func (g *Guest) table(ctx context.Context, own bool) (*enrp.HandleTableResponse, error) {
	const what = "its handlespace"
	request := func() enrp.Message {
		return &enrp.HandleTableRequest{Sender: g.id, OwnChildrenOnly: own, Suspects: true}
	}
	m, err := ask[*enrp.HandleTableResponse](ctx, g, what, request)
	if err == nil && m.Reject && !g.presented {
		if err = g.present(); err == nil {
			m, err = ask[*enrp.HandleTableResponse](ctx, g, what, request)
		}
	}
	if err == nil && m.Reject {
		err = &RefusedError{What: what}
	}
	if err != nil {
		return nil, err
	}
	g.server = m.Sender
	return m, nil
}
