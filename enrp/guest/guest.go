// Package guest asks a registrar for its peers and its handlespace by ENRP (RFC
// 5353), as a registrar does that joins its scope, but without becoming one: it
// has no pool elements, and refuses whatever it is asked itself. It sends a
// presence only to registrars that require one, such as RSPLIB.
// A registrar may count it among its peers until MAX-TIME-NO-RESPONSE after its
// end; there is nothing to take over.
package guest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/endpoint"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Config says whom to ask, and how.
type Config struct {
	// Registrar is where it serves ENRP.
	Registrar endpoint.Registrar
	// Via is the transport; TCP is none for ENRP.
	Via rserpool.Via
	// Local are the addresses to bind, all of the machine without one.
	Local []netip.AddrPort
	// EncapPort is the local UDP port for SCTP in UDP; 0 takes a free one.
	EncapPort uint16
	// Timeout is how long the registrar may take for each answer.
	Timeout time.Duration
	// Logf, if set, is told in one line what an operator wants to know.
	Logf func(format string, args ...any)
}

// RefusedError says that the registrar has answered, and does not tell.
type RefusedError struct {
	// What was asked for.
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

// Guest is an association with a registrar's ENRP endpoint. Its methods are for
// one goroutine at a time.
type Guest struct {
	cfg   Config
	t     *endpoint.Transport
	id    rserpool.ServerID
	assoc sctp.AssocID
	at    netip.AddrPort
	// presented tells that a presence has been sent.
	presented bool
}

// Open calls the registrar. The error is an *endpoint.UnreachableError if it
// cannot be reached.
func Open(ctx context.Context, cfg Config) (*Guest, error) {
	t, err := endpoint.Open(endpoint.TransportConfig{Via: cfg.Via, Local: cfg.Local, EncapPort: cfg.EncapPort, Logf: cfg.Logf})
	if err != nil {
		return nil, err
	}
	g := &Guest{cfg: cfg, t: t}
	for g.id == 0 {
		var b [4]byte
		_, _ = rand.Read(b[:]) // it never fails
		g.id = rserpool.ServerID(binary.BigEndian.Uint32(b[:]))
	}
	since := time.Now()
	err = g.perform(endpoint.Connect{Ref: 1, To: cfg.Registrar})
	if err == nil {
		err = g.up(ctx)
	}
	if err != nil {
		_ = t.Close()
		return nil, &endpoint.UnreachableError{Attempts: []endpoint.Attempt{{Registrar: cfg.Registrar, Since: since, Err: err}}}
	}
	return g, nil
}

// Close ends the association.
func (g *Guest) Close() error { return g.t.Close() }

// At is where the registrar was reached.
func (g *Guest) At() netip.AddrPort { return g.at }

func (g *Guest) perform(a endpoint.Action) (err error) {
	g.t.Perform([]endpoint.Action{a},
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
func (g *Guest) next(ctx context.Context) (endpoint.Event, error) {
	for {
		select {
		case ev := <-g.t.Events():
			switch {
			case ev.Assoc != g.assoc: // somebody calls us
				_ = g.perform(endpoint.Close{Assoc: ev.Assoc, Abort: true})
			case ev.Type == sctp.Down:
				return ev, endpoint.DownError(ev.Event)
			default:
				return ev, nil
			}
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return endpoint.Event{}, errors.New("no answer in time")
			}
			return endpoint.Event{}, ctx.Err()
		}
	}
}

// ask sends a request and gives the answer of the type wanted.
func ask[A enrp.Message](ctx context.Context, g *Guest, what string, request enrp.Message) (A, error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
	defer cancel()
	var none A
	if err := g.send(request); err != nil {
		return none, fmt.Errorf("request for %s: %w", what, err)
	}
	for {
		ev, err := g.next(ctx)
		if err != nil {
			return none, &endpoint.UnreachableError{Attempts: []endpoint.Attempt{{
				Registrar: g.cfg.Registrar, Err: fmt.Errorf("request for %s: %w", what, err),
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
	return g.perform(endpoint.Send{Assoc: g.assoc, Data: b, PPID: enrp.PPID})
}

// present sends a presence, that of a registrar without pool elements.
func (g *Guest) present() error {
	addrs, err := endpoint.LocalToward([]endpoint.Registrar{g.cfg.Registrar})
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
// 3.2.2), and gives its own identifier as well.
func (g *Guest) Peers(ctx context.Context) (rserpool.ServerID, []rserpool.ServerInformation, error) {
	const what = "its peers"
	m, err := ask[*enrp.ListResponse](ctx, g, what, &enrp.ListRequest{Sender: g.id})
	if err != nil {
		return 0, nil, err
	}
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

// Table asks for the registrar's handlespace (RFC 5353, Section 3.2.3), or for
// the elements whose home it is, part by part. A pool may come in several parts.
// Elements that come and go meanwhile may or may not be there. An error ends it.
func (g *Guest) Table(ctx context.Context, own bool) iter.Seq2[*enrp.HandleTableResponse, error] {
	const what = "its handlespace"
	return func(yield func(*enrp.HandleTableResponse, error) bool) {
		for more := true; more; {
			request := &enrp.HandleTableRequest{Sender: g.id, OwnChildrenOnly: own}
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
				yield(nil, err)
				return
			}
			if !yield(m, nil) {
				return
			}
			more = m.More
		}
	}
}
