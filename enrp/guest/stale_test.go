package guest

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// script is a registrar that sends to the n-th request what the n-th entry has.
type script struct {
	t      *testing.T
	mu     sync.Mutex
	ep     sctp.Endpoint
	lines  [][][]byte
	askers []rserpool.ServerID
}

func (r *script) handle(ev sctp.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ev.Type != sctp.Received {
		return
	}
	m, _, err := enrp.Parse(ev.Message.Data)
	q, ok := m.(*enrp.ListRequest)
	if !ok || len(r.lines) == 0 {
		r.t.Errorf("the guest sends %T, %v", m, err)
		return
	}
	r.askers = append(r.askers, q.Sender)
	for _, data := range r.lines[0] {
		if err := r.ep.Send(ev.Assoc, sctp.Message{Data: data, PPID: enrp.PPID}); err != nil {
			r.t.Error(err)
		}
	}
	r.lines = r.lines[1:]
}

// wire is a message's wire form.
func wire(t *testing.T, m enrp.Message) []byte {
	t.Helper()
	data, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestAnswerToFormerRequest: an answer that comes after a request has failed is not taken for that
// to the next one.
func TestAnswerToFormerRequest(t *testing.T) {
	for name, c := range map[string]struct {
		first   func(t *testing.T) []byte
		refused bool
	}{
		"unreadable message": {first: func(*testing.T) []byte { return []byte{1, 2, 3} }},
		"error": {refused: true, first: func(t *testing.T) []byte {
			return wire(t, &enrp.Error{Sender: 1, Causes: []rserpool.Cause{{Code: rserpool.CauseUnrecognizedParameter}}})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nw := sctptest.NewNetwork()
				former, next := wire(t, &enrp.ListResponse{Sender: 1}), wire(t, &enrp.ListResponse{Sender: 2})
				r := &script{t: t, lines: [][][]byte{{c.first(t), former}, {next}, {next}}}
				r.mu.Lock()
				var err error
				r.ep, err = nw.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:9901")}}, r.handle)
				r.mu.Unlock()
				if err != nil {
					t.Fatal(err)
				}
				defer r.ep.Close()
				g, err := Open(Config{
					Registrars: []string{"10.0.0.1"}, Local: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.21:0")}, listen: nw.Listen,
				})
				if err != nil {
					t.Fatal(err)
				}
				defer g.Close()
				_, _, err = g.Peers(t.Context())
				var refused *RefusedError
				if err == nil || errors.As(err, &refused) != c.refused {
					t.Errorf("the first request gives %v", err)
				}
				for range 2 {
					if id, _, err := g.Peers(t.Context()); err != nil || id != 2 {
						t.Errorf("got the answer of registrar %v, %v, want that of 2", id, err)
					}
				}
				r.mu.Lock()
				defer r.mu.Unlock()
				if a := r.askers; len(a) != 3 || a[0] == a[1] || a[1] != a[2] {
					t.Errorf("asked as %v, want a new identifier after the failure and only then", a)
				}
			})
		})
	}
}
