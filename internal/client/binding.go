package client

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// binding is an SCTP endpoint on some addresses. One that another has replaced
// lives on until its associations have ended.
type binding struct {
	sctp.Endpoint
	assocs  map[sctp.AssocID]*talk
	retired bool
}

// talk is what is known of an association until it ends.
type talk struct {
	to    rserpool.Registrar // not set unless Connect has made it
	heard bool               // the peer has sent a message
}

// ListenError says that the own addresses could not be bound, so that no registrar was asked.
type ListenError struct {
	local []netip.AddrPort
	err   error
}

func (e *ListenError) Error() string {
	if len(e.local) == 0 { // all addresses
		return fmt.Sprintf("cannot listen: %v", e.err)
	}
	return fmt.Sprintf("cannot listen on %v: %v", e.local, e.err)
}

func (e *ListenError) Unwrap() error { return e.err }

// maxFormer bounds the bindings that are kept for their associations.
const maxFormer = 4

// Bind binds other addresses, all with the same port, for the associations from
// now on. Those that there are stay where they are. Nothing is changed if it
// fails.
func (t *Transport) Bind(local []netip.AddrPort) error {
	b := &binding{assocs: make(map[sctp.AssocID]*talk)}
	t.mu.Lock()
	defer t.mu.Unlock()
	ep, err := t.listen(sctp.ListenConfig{Addrs: local, PPID: t.cfg.PPID, Renew: sctp.RenewAll}, func(ev sctp.Event) {
		t.deliver(Event{Event: t.explain(ev, t.note(b, ev))})
	})
	if err != nil {
		t.failed = &ListenError{local, err}
		return t.failed
	}
	t.failed = nil
	b.Endpoint = ep
	if t.now != nil {
		t.retire(t.now)
	}
	t.now = b
	return nil
}

// Bound reports whether any addresses are bound.
func (t *Transport) Bound() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now != nil
}

// LocalAddrs are the addresses and the port that are bound, if any.
func (t *Transport) LocalAddrs() []netip.AddrPort {
	t.mu.Lock()
	b := t.now
	t.mu.Unlock()
	if b == nil {
		return nil
	}
	return b.LocalAddrs()
}

// notYet reports whether binding has failed because the machine does not have
// the addresses, as before its network is up or while IPv6 looks for duplicates.
func notYet(err error, local []netip.AddrPort) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.ENODEV) ||
		// The interface that a zone names is not there.
		errors.Is(err, syscall.EINVAL) && slices.ContainsFunc(local, func(a netip.AddrPort) bool { return a.Addr().Zone() != "" })
}

// connect starts an association.
func (t *Transport) connect(to rserpool.Registrar) (sctp.AssocID, error) {
	if err := t.routed(to); err != nil {
		return 0, err
	}
	if !t.Bound() {
		if err := t.late(to); err != nil {
			return 0, err
		}
	}
	carrier := t.cfg.Via
	if to.TCP {
		carrier = sctp.TCP
	}
	t.mu.Lock() // so that Down does not overtake
	defer t.mu.Unlock()
	id := t.now.Connect(sctp.Dest{Addrs: to.AddrPorts(), Kind: carrier, EncapPort: to.EncapPort})
	if id != 0 {
		t.now.assocs[id] = &talk{to: to}
	}
	return id, nil
}

// routed says why no packet can be sent to any address of the registrar, nil if
// one can. SCTP itself would send again and again, and report no answer.
func (t *Transport) routed(to rserpool.Registrar) error {
	if t.cfg.Listen != nil || len(t.cfg.Local) > 0 {
		return nil // not the machine's network, or routes may depend on the address
	}
	var first error
	for _, a := range to.Addrs {
		_, err := localaddr.Source(a)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// late binds what could not be bound before, or says why it cannot.
func (t *Transport) late(to rserpool.Registrar) error {
	if !t.cfg.Unbound {
		return t.Bind(t.cfg.Local)
	}
	if _, err := LocalToward([]rserpool.Registrar{to}); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed != nil {
		return t.failed
	}
	return errNoLocalAddr
}

// endpointOf is the endpoint that has the association.
func (t *Transport) endpointOf(a sctp.AssocID) sctp.Endpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.former {
		if _, ok := b.assocs[a]; ok {
			return b
		}
	}
	if t.now == nil {
		return none{}
	}
	return t.now
}

// note follows which associations a binding has. It returns what is known of the event's, nil
// if that has ended before.
func (t *Transport) note(b *binding, ev sctp.Event) *talk {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := b.assocs[ev.Assoc]
	switch ev.Type {
	case sctp.Up:
		if a == nil {
			a = new(talk)
			b.assocs[ev.Assoc] = a
		}
	case sctp.Received:
		if a != nil {
			a.heard = true
		}
	case sctp.Down:
		delete(b.assocs, ev.Assoc)
		if b.retired && len(b.assocs) == 0 {
			t.drop(b)
		}
	default: // the association stays
	}
	return a
}

// retire keeps a binding only for the associations that it has. t.mu is held.
func (t *Transport) retire(b *binding) {
	b.retired = true
	t.former = append(t.former, b)
	if len(b.assocs) == 0 {
		t.drop(b)
	}
	if len(t.former) > maxFormer {
		t.drop(t.former[0])
	}
}

// drop closes a retired binding. t.mu is held.
func (t *Transport) drop(b *binding) {
	i := slices.Index(t.former, b)
	if i < 0 {
		return
	}
	t.former = slices.Delete(t.former, i, i+1)
	// Not here: Close waits for the handler, which may be what calls.
	t.wg.Go(func() { _ = b.Endpoint.Close() })
}

func (t *Transport) closeBindings() error {
	t.mu.Lock()
	all := t.former
	if t.now != nil {
		all = append(all, t.now)
	}
	t.now, t.former = nil, nil
	t.mu.Unlock()
	var errs []error
	for _, b := range all {
		errs = append(errs, b.Endpoint.Close())
	}
	return errors.Join(errs...)
}

// none is the endpoint while nothing is bound.
type none struct{ sctp.Endpoint }

func (none) Send(sctp.AssocID, sctp.Message) error { return sctp.ErrNoAssoc }
func (none) Shutdown(sctp.AssocID)                 {}
func (none) Abort(sctp.AssocID)                    {}
func (none) Heartbeat(sctp.AssocID)                {}
