package main

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// host is a machine of pool elements: one association to a registrar, over
// which their registrations follow each other without waiting for responses.
type host struct {
	stack *stack.Stack
	ep    sctp.Endpoint
	assoc sctp.AssocID

	room chan struct{} // a token for each request that may be outstanding
	down chan error
	up   chan struct{}

	mu   sync.Mutex
	errs []error
}

// outstanding requests of a host: no more than a peer's send queue takes.
const outstanding = 512

// framing is that of ASAP, which TLS needs over SCTP, too.
var framing = sctp.Framing{HeadLen: asap.HeaderLen, Len: asap.MessageLen, Align: 4, PPID: asap.PPID}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func newHost(registrar *process) (*host, error) {
	h, err := newHostAt(registrar.dest(), registrar.tls)
	if err != nil {
		return nil, registrar.explain(err)
	}
	return h, nil
}

func newHostAt(registrar sctp.Dest, tls *secure.Config) (*host, error) {
	h := &host{room: make(chan struct{}, outstanding), down: make(chan error, 1), up: make(chan struct{})}
	for range outstanding {
		h.room <- struct{}{}
	}
	var err error
	if h.stack, err = stack.New(stack.Config{Only: sctp.UDP, TLS: tls, Framing: framing}); err != nil {
		return nil, err
	}
	if h.ep, err = h.stack.Listen(localEndpoint(), h.handle); err != nil {
		h.close()
		return nil, err
	}
	h.assoc = h.ep.Connect(registrar)
	select {
	case <-h.up:
		return h, nil
	case err := <-h.down:
		h.close()
		return nil, fmt.Errorf("the registrar refuses the association: %w", err)
	}
}

func localEndpoint() sctp.ListenConfig {
	return sctp.ListenConfig{Addrs: []netip.AddrPort{netip.AddrPortFrom(loopback, 0)}}
}

// dest is where a registrar serves ASAP.
func (p *process) dest() sctp.Dest {
	return sctp.Dest{Addrs: []netip.AddrPort{netip.AddrPortFrom(loopback, p.asap)}, Kind: sctp.UDP, EncapPort: p.encap}
}

func (h *host) close() { _ = h.stack.Close() }

func (h *host) handle(ev sctp.Event) {
	switch ev.Type {
	case sctp.Up:
		close(h.up)
	case sctp.Down:
		h.down <- ev.Err
		close(h.down)
	case sctp.Received:
		h.response(ev.Message.Data)
	}
}

// response takes what the registrar says: nothing but responses is due.
func (h *host) response(b []byte) {
	m, _, err := asap.Parse(b)
	switch m := m.(type) {
	case *asap.RegistrationResponse:
		if m.Reject {
			err = fmt.Errorf("registration is refused: %v", m.Causes)
		}
		h.room <- struct{}{}
	case *asap.DeregistrationResponse:
		h.room <- struct{}{}
	default:
		err = errors.Join(err, fmt.Errorf("unexpected message %T", m))
	}
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.errs) < 10 {
			h.errs = append(h.errs, err)
		}
	}
}

// request sends a message once there is room.
func (h *host) request(m asap.Message) error {
	b, err := m.Append(nil)
	if err != nil {
		return err
	}
	select {
	case <-h.room:
	case <-h.down:
		return errors.New("the association has ended")
	}
	return h.ep.Send(h.assoc, sctp.Message{Data: b, PPID: asap.PPID})
}

// settle waits for all responses and gives what was wrong with them.
func (h *host) settle() error {
	for range outstanding {
		select {
		case <-h.room:
		case <-h.down:
			return errors.New("the association has ended")
		}
	}
	for range outstanding {
		h.room <- struct{}{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.errs...)
}

// register registers an element, or registers it again with another load.
func (h *host) register(pool rserpool.PoolHandle, id rserpool.PEID, policy rserpool.Policy) error {
	return h.request(&asap.Registration{Handle: pool, Element: rserpool.PoolElement{
		ID:            id,
		Life:          int32((24 * time.Hour).Seconds()),
		UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: uint16(id%60000 + 1), Addrs: []netip.Addr{loopback}},
		Policy:        policy,
	}})
}

func (h *host) deregister(pool rserpool.PoolHandle, id rserpool.PEID) error {
	return h.request(&asap.Deregistration{Handle: pool, ID: id})
}

var roundRobin = rserpool.Policy{Type: rserpool.RoundRobin}

// fill registers elements in pools, and says how long it took.
func (h *host) fill(pools, each int) error {
	begin := time.Now()
	for p := range pools {
		for e := range each {
			if err := h.register(poolName(p), rserpool.PEID(p*each+e+1), roundRobin); err != nil {
				return err
			}
		}
	}
	err := h.settle()
	n := pools * each
	took := time.Since(begin)
	note("%d elements in %d pools are registered in %.1f s, %.0f a second", n, pools, took.Seconds(), float64(n)/took.Seconds())
	return err
}

func poolName(i int) rserpool.PoolHandle { return rserpool.PoolHandle(fmt.Sprintf("p%06d", i)) }

// poolQuestions ask each of the pools for a type.
func poolQuestions(pools int, qtype uint16, answers, additions int) []question {
	qs := make([]question, pools)
	for i := range qs {
		qs[i] = newQuestion(string(poolName(i))+".pool.example.org.", qtype, answers, additions)
	}
	return qs
}
