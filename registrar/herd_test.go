package registrar

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// herd is a world of elements, each with an association and a host of its own, whose number
// is its identifier. They acknowledge keep-alives at once, and late when their process was
// stopped. All are in pool p unless a test says otherwise.
type herd struct {
	*world
	stopped map[AssocID]bool
	late    []*asap.EndpointKeepAlive   // to stopped elements
	calls   map[rserpool.PEID][]Connect // to their hosts, without an answer
	next    AssocID                     // for calls
	asks    map[rserpool.PEID][]time.Time
	least   int // that pool p has had
	text    []string
	events  int
	every   int // one in so many events has the invariants checked; 0 for each
}

func newHerd(t testing.TB, n int, change ...func(*Config)) *herd {
	t.Helper()
	h := &herd{world: newWorld(t, change...), stopped: map[AssocID]bool{}, calls: map[rserpool.PEID][]Connect{}, asks: map[rserpool.PEID][]time.Time{}, next: 1000, least: math.MaxInt}
	for id := 1; id <= n; id++ {
		h.join(AssocID(id), reg("p", uint32(id), h.host(id)))
	}
	h.least = n
	return h
}

func (h *herd) host(id int) string { return fmt.Sprintf("10.0.%d.%d", id/250, 1+id%250) }

// join has an element register over a new association.
func (h *herd) join(id AssocID, m *asap.Registration) {
	h.t.Helper()
	h.do(AssocUp{Assoc: id, Peer: peers(h.host(int(id))), Via: rserpool.ViaKernel})
	h.do(Received{Assoc: id, PPID: asap.PPID, Data: encode(h.t, m)})
}

// do handles an event, and what the elements do in turn.
func (h *herd) do(ev Event) {
	h.t.Helper()
	var answers []Event
	acts := h.r.Handle(h.now, ev)
	h.kept.note(acts)
	for _, a := range acts {
		switch a := a.(type) {
		case *Send:
			m, _, err := asap.Parse(a.Data)
			if err != nil || a.PPID != asap.PPID {
				continue
			}
			if m, ok := m.(*asap.EndpointKeepAlive); ok {
				h.asks[m.ID] = append(h.asks[m.ID], h.now)
				if h.stopped[AssocID(m.ID)] {
					h.late = append(h.late, m)
					continue
				}
				answers = append(answers, h.ack(a.Assoc, m))
			}
		case Connect:
			id := h.at(a.To[0].Addr())
			h.calls[id] = append(h.calls[id], a)
		case Log:
			h.text = append(h.text, a.Text)
		}
	}
	if h.events++; h.events%max(h.every, 1) == 0 {
		h.check()
	}
	if p := h.r.Space().Pool("p"); p != nil {
		h.least = min(h.least, p.Len())
	} else {
		h.least = 0
	}
	for _, ev := range answers {
		h.do(ev)
	}
}

func (h *herd) at(addr netip.Addr) rserpool.PEID {
	a := addr.As4()
	return rserpool.PEID(int(a[2])*250 + int(a[3]) - 1)
}

func (h *herd) ack(id AssocID, m *asap.EndpointKeepAlive) Event {
	return Received{Assoc: id, PPID: asap.PPID, Data: encode(h.t, &asap.EndpointKeepAliveAck{Handle: m.Handle, ID: m.ID})}
}

func (h *herd) run(d time.Duration) {
	h.t.Helper()
	end := h.now.Add(d)
	for {
		at, ok := h.r.NextDeadline()
		if !ok || at.After(end) {
			break
		}
		if at.After(h.now) {
			h.now = at
		}
		h.do(Tick{})
	}
	h.now = end
}

// stop stops the processes of elements, from one to another.
func (h *herd) stop(from, to int) {
	for id := from; id <= to; id++ {
		h.stopped[AssocID(id)] = true
	}
}

// cont has them go on: they acknowledge all that has come meanwhile.
func (h *herd) cont() {
	h.t.Helper()
	clear(h.stopped)
	late := h.late
	h.late = nil
	for _, m := range late {
		h.do(h.ack(AssocID(m.ID), m))
	}
}

// suspects is how many own elements are suspects.
func (h *herd) suspects() int { return h.r.roster.LenOf(ledger.Suspect) }

// served are the identifiers in pool p.
func (h *herd) served() (ids []rserpool.PEID) {
	if p := h.r.Space().Pool("p"); p != nil {
		for _, e := range p.Elements(nil) {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

func (h *herd) wantServed(ids ...rserpool.PEID) {
	h.t.Helper()
	if got := h.served(); !slices.Equal(got, ids) {
		h.t.Fatalf("at %v: elements %v are in the pool, want %v", h.now.Sub(h.start), got, ids)
	}
}

// said counts the log lines with a text.
func (h *herd) said(text string) (n int) {
	for _, line := range h.text {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// judged is the time within which a silent element of a herd is judged.
const judged = 7500*time.Millisecond + 5*time.Second
