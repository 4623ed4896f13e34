package endpoint

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// ListenFunc opens an SCTP endpoint.
type ListenFunc func(sctp.ListenConfig, sctp.Handler) (sctp.Endpoint, error)

// TransportConfig configures a Transport.
type TransportConfig struct {
	// Via says what carries the associations that are called.
	Via Via
	// Local are the addresses to bind, all with the same port; port 0 takes a
	// free one. Without one, all addresses of the machine are bound.
	Local []netip.AddrPort
	// EncapPort is the local UDP port for SCTP in UDP; 0 takes a free one.
	EncapPort uint16
	// AnnounceGroup, if valid, is the multicast group and port where
	// registrars announce themselves.
	AnnounceGroup netip.AddrPort
	// Logf, if set, is told in one line what an operator wants to know.
	Logf func(format string, args ...any)
	// Listen, if set, opens the SCTP endpoint in place of the machine's
	// transports, for tests.
	Listen ListenFunc
}

// Event is an event of the SCTP endpoint, or a datagram of the announce group
// if Announce is not nil.
type Event struct {
	sctp.Event
	Announce []byte
	From     netip.AddrPort
}

// Transport is the sockets of a pool element or a pool user.
type Transport struct {
	via    Via
	ep     sctp.Endpoint
	stop   func() error // what was opened below ep
	hear   *listener    // nil without announces
	events chan Event
	done   chan struct{}
	once   sync.Once
}

// Open opens the sockets. The caller reads Events until it calls Close.
func Open(cfg TransportConfig) (*Transport, error) {
	t := &Transport{
		via:    cfg.Via,
		events: make(chan Event, 64),
		done:   make(chan struct{}),
		stop:   func() error { return nil },
	}
	listen := cfg.Listen
	if listen == nil {
		var err error
		if listen, t.stop, err = openStack(cfg); err != nil {
			return nil, err
		}
	}
	ep, err := listen(sctp.ListenConfig{Addrs: cfg.Local}, func(ev sctp.Event) { t.deliver(Event{Event: ev}) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot listen on %v: %w", cfg.Local, err), t.stop())
	}
	t.ep = ep
	if cfg.AnnounceGroup.IsValid() {
		if t.hear, err = listenAnnounces(cfg.AnnounceGroup, t.deliver); err != nil {
			return nil, errors.Join(err, t.Close())
		}
	}
	return t, nil
}

func (t *Transport) deliver(ev Event) {
	select {
	case t.events <- ev:
	case <-t.done:
	}
}

// Events gives what happens.
func (t *Transport) Events() <-chan Event { return t.events }

// LocalAddrs are the addresses and the port that are bound.
func (t *Transport) LocalAddrs() []netip.AddrPort { return t.ep.LocalAddrs() }

// Perform performs actions. The core is told the names of new associations by
// connecting, and of messages that could not be queued by sendFailed, before
// Perform returns; both may call Perform again.
func (t *Transport) Perform(actions []Action, connecting func(ref uint64, a sctp.AssocID), sendFailed func(a sctp.AssocID, err error)) {
	for _, action := range actions {
		switch a := action.(type) {
		case Connect:
			kind := t.via.kind()
			if a.To.TCP {
				kind = sctp.TCP
			}
			connecting(a.Ref, t.ep.Connect(sctp.Dest{Addrs: a.To.Addrs, Kind: kind, EncapPort: a.To.EncapPort}))
		case Send:
			if err := t.ep.Send(a.Assoc, sctp.Message{Data: a.Data, PPID: cmp.Or(a.PPID, asap.PPID)}); err != nil {
				sendFailed(a.Assoc, err)
			}
		case Close:
			if a.Abort {
				t.ep.Abort(a.Assoc)
			} else {
				t.ep.Shutdown(a.Assoc)
			}
		}
	}
}

// Close closes the sockets and waits for their goroutines. Events are given no
// more.
func (t *Transport) Close() error {
	var err error
	t.once.Do(func() {
		close(t.done)
		if t.hear != nil {
			err = t.hear.close()
		}
		err = errors.Join(err, t.ep.Close(), t.stop())
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
