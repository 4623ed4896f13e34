package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/member"
	"github.com/rserpool/coredns-rserpool/internal/multicast"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// ListenFunc opens an SCTP endpoint.
type ListenFunc func(sctp.ListenConfig, sctp.Handler) (sctp.Endpoint, error)

// Config configures a Transport.
type Config struct {
	// Via says what carries the associations.
	Via rserpool.Via
	// Local are the addresses to bind, all with the same port; port 0 takes a
	// free one. Without one, all addresses of the machine are bound. Addresses
	// that the machine does not have yet are bound as soon as it has them.
	Local []netip.AddrPort
	// Unbound says that the caller calls Bind when it knows which addresses to
	// bind. Until then no association can be started.
	Unbound bool
	// EncapPort is the local UDP port for SCTP in UDP; 0 takes a free one.
	EncapPort uint16
	// AnnounceGroup, if valid, is the multicast group and port where
	// registrars announce themselves.
	AnnounceGroup netip.AddrPort
	// Trust makes a trusted scope: TLS on all associations, and only registrars as peers.
	Trust Trust
	// PPID is the payload protocol under TLS; 0 stands for ASAP.
	PPID uint32
	// Logger, if set, gets messages for an operator.
	Logger *slog.Logger
	// Listen, if set, opens the SCTP endpoint in place of the machine's
	// transports, for tests.
	Listen ListenFunc
	// LookupHost, if set, looks up names in place of the system, for tests.
	LookupHost LookupFunc
}

// Event is an event of the SCTP endpoint, or one of the following if it is set:
// a datagram of the announce group, the result of a Lookup, or a change of the
// machine's interfaces and addresses.
type Event struct {
	sctp.Event
	announce []byte
	from     netip.AddrPort
	found    *Found
	Network  bool
}

// Ended reports whether an association has ended.
func (e Event) Ended() bool { return e.Type == sctp.Down }

// Transport is the sockets of a pool element or a pool user. Its methods are
// for one goroutine.
type Transport struct {
	cfg    Config
	listen ListenFunc
	stop   func() error     // what was opened below the endpoints
	hear   *multicast.Group // nil without announces
	member *member.Member   // nil without TLS
	events chan Event
	ctx    context.Context // ends with Close
	end    context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once

	mu      sync.Mutex
	now     *binding     // nil while nothing is bound
	failed  *ListenError // of the last Bind
	former  []*binding   // with the associations that they still have, oldest first
	lookups map[string]uint64
}

// Open opens the sockets. The caller reads Events until it calls Close.
func Open(cfg Config) (*Transport, error) {
	t := &Transport{
		cfg:     cfg,
		listen:  cfg.Listen,
		events:  make(chan Event, 64),
		stop:    func() error { return nil },
		lookups: make(map[string]uint64),
	}
	t.ctx, t.end = context.WithCancel(context.Background())
	if t.listen == nil {
		var err error
		if t.member, err = cfg.Trust.open(cfg.Logger, cfg.protocol()); err == nil {
			t.listen, t.stop, err = openStack(cfg, t.member)
		}
		if err != nil {
			t.end()
			return nil, err
		}
	}
	if !cfg.Unbound {
		if err := t.Bind(cfg.Local); err != nil && !notYet(err, cfg.Local) {
			return nil, errors.Join(err, t.Close())
		}
	}
	if cfg.AnnounceGroup.IsValid() {
		var err error
		if t.hear, err = t.listenAnnounces(); err != nil {
			return nil, errors.Join(err, t.Close())
		}
	}
	if cfg.Listen == nil {
		t.wg.Go(t.watch)
	}
	if t.member != nil {
		t.wg.Go(func() { t.member.Watch(t.ctx.Done(), t.recheck) })
	}
	return t, nil
}

// listenAnnounces joins the group where registrars announce themselves.
func (t *Transport) listenAnnounces() (*multicast.Group, error) {
	g, err := multicast.Join(t.cfg.AnnounceGroup, func(from netip.AddrPort, datagram []byte) {
		t.deliver(Event{announce: datagram, from: from})
	}, func(warn bool, text string) {
		if t.cfg.Logger == nil {
			return
		}
		level := slog.LevelInfo
		if warn {
			level = slog.LevelWarn
		}
		t.cfg.Logger.Log(t.ctx, level, text)
	})
	if err != nil {
		return nil, fmt.Errorf("announce group: %w", err)
	}
	return g, nil
}

func (t *Transport) deliver(ev Event) {
	select {
	case t.events <- ev:
	case <-t.ctx.Done():
	}
}

// Events is the channel of all events.
func (t *Transport) Events() <-chan Event { return t.events }

// Perform performs actions. Before it returns, it calls connecting for each Connect, with
// the name of the association or the reason why there is none, and sendFailed for each
// message that could not be queued. Both may call Perform again.
func (t *Transport) Perform(actions []hunt.Action, connecting func(ref uint64, a sctp.AssocID, err error), sendFailed func(a sctp.AssocID, err error)) {
	for _, action := range actions {
		switch a := action.(type) {
		case hunt.Connect:
			id, err := t.connect(a.To)
			connecting(a.Ref, id, err)
		case hunt.Lookup:
			t.lookup(a.Ref, a.Of.Host)
		case hunt.Send:
			err := t.endpointOf(a.Assoc).Send(a.Assoc, sctp.Message{Data: a.Data, PPID: cmp.Or(a.PPID, asap.PPID), Unordered: a.Unordered})
			if err != nil && !errors.Is(err, sctp.ErrNoAssoc) { // otherwise Down is on its way, and says why
				sendFailed(a.Assoc, err)
			}
		case hunt.Heartbeat:
			t.endpointOf(a.Assoc).Heartbeat(a.Assoc)
		case hunt.Close:
			if a.Abort {
				t.endpointOf(a.Assoc).Abort(a.Assoc)
			} else {
				t.endpointOf(a.Assoc).Shutdown(a.Assoc)
			}
		}
	}
}

// Close closes the sockets and waits for their goroutines. There are no events after it.
func (t *Transport) Close() error {
	var err error
	t.once.Do(func() {
		t.end()
		if t.hear != nil {
			err = t.hear.Close()
		}
		err = errors.Join(err, t.closeBindings(), t.stop())
		t.wg.Wait()
	})
	return err
}

// DownError says in words how an association ended.
func DownError(ev sctp.Event) error {
	if ev.Err != nil {
		return ev.Err // it tells more than the reason
	}
	switch ev.Reason {
	case sctp.PeerShutdown:
		return errors.New("the peer has shut the association down")
	case sctp.PeerAbort:
		return errors.New("the peer has aborted the association")
	case sctp.Lost:
		return errors.New("the peer no longer answers")
	case sctp.ConnectFailed:
		return errors.New("no association comes up")
	case sctp.LocalClose:
		return errors.New("the association was closed here")
	case sctp.Overrun:
		return errors.New("the peer went past a limit")
	}
	return errors.New("the association has ended")
}
