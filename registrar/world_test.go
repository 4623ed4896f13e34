package registrar

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// world runs a Registrar in virtual time and notes what it does.
type world struct {
	t       testing.TB
	r       *Registrar
	start   time.Time
	now     time.Time
	trace   []string // what has been done since the last want
	logs    bool     // whether log lines belong to the trace
	repeats bool     // whether repeated keep-alives do
	removed uint64   // see removals
	kept    keptWorld
}

const testServer = 0x10000001

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	cfg := Config{ServerID: testServer, Rand: rand.New(rand.NewPCG(1, 2)), Keep: true}
	cfg.Timers.KeepAliveInterval, cfg.Timers.KeepAliveTimeout = 5*time.Second, 5*time.Second
	for _, c := range change {
		c(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Unix(1000, 0)
	return &world{t: t, r: r, start: start, now: start}
}

// handle gives an event to the registrar, checks the invariants and notes the actions.
func (w *world) handle(ev Event) []Action {
	w.t.Helper()
	acts := w.r.Handle(w.now, ev)
	w.kept.note(acts)
	for _, a := range acts {
		if text := w.text(a); text != "" {
			w.trace = append(w.trace, text)
		}
	}
	w.check()
	return acts
}

func (w *world) check() {
	w.t.Helper()
	if err := w.r.checkInvariants(); err != nil {
		w.t.Fatalf("at %v: %v", w.now.Sub(w.start), err)
	}
	if err := w.kept.check(w.r); err != nil {
		w.t.Fatalf("at %v: %v", w.now.Sub(w.start), err)
	}
}

// up establishes an association. The first address is its primary one; the default port
// is 40000.
func (w *world) up(id AssocID, via rserpool.Via, addrs ...string) {
	w.t.Helper()
	w.handle(AssocUp{Assoc: id, Peer: peers(addrs...), Via: via})
}

func peers(addrs ...string) []netip.AddrPort {
	var list []netip.AddrPort
	for _, a := range addrs {
		ap, err := netip.ParseAddrPort(a)
		if err != nil {
			ap = netip.AddrPortFrom(netip.MustParseAddr(a), 40000)
		}
		list = append(list, ap)
	}
	return list
}

func (w *world) down(id AssocID) {
	w.t.Helper()
	w.handle(AssocDown{Assoc: id})
}

// left ends an association by the peer.
func (w *world) left(id AssocID) {
	w.t.Helper()
	w.handle(AssocDown{Assoc: id, Reason: DownByPeer})
}

// refused has a call fail, for which the host has chosen the association, because nobody
// serves the port.
func (w *world) refused(call uint64, id AssocID) {
	w.t.Helper()
	w.handle(Connecting{Ref: call, Assoc: id})
	w.handle(AssocDown{Assoc: id, Reason: DownRefused})
}

func (w *world) recv(id AssocID, m asap.Message) {
	w.t.Helper()
	w.handle(Received{Assoc: id, PPID: asap.PPID, Data: encode(w.t, m)})
}

func encode(t testing.TB, m asap.Message) []byte {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatalf("%T: %v", m, err)
	}
	return b
}

// members is how many members a roster has.
func members(r *roster) int { return r.LenOf(ledger.Member) }

// pass lets time pass, with a Tick at each deadline.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	end := w.now.Add(d)
	for {
		at, ok := w.r.NextDeadline()
		if !ok || at.After(end) {
			break
		}
		if at.After(w.now) {
			w.now = at
		}
		w.handle(Tick{})
	}
	w.now = end
}

// until lets time pass until something is done, for max at most.
func (w *world) until(max time.Duration) {
	w.t.Helper()
	end := w.now.Add(max)
	for len(w.trace) == 0 {
		at, ok := w.r.NextDeadline()
		if !ok || at.After(end) {
			w.t.Fatalf("nothing happens within %v", max)
		}
		if at.After(w.now) {
			w.now = at
		}
		w.handle(Tick{})
	}
}

// want compares what was done since the last call.
func (w *world) want(lines ...string) {
	w.t.Helper()
	got := w.trace
	w.trace = nil
	w.removals() // wanted lines show them
	if diff := cmp.Diff(lines, got); diff != "" && len(lines)+len(got) > 0 {
		w.t.Fatalf("at %v: actions (-want +got):\n%s", w.now.Sub(w.start), diff)
	}
}

// skip drops what was done since the last want or skip, for instance in the preparation
// of a test. It names all kinds of lines that there may be, see kind; "removed" stands
// for the removal of elements. Anything else is an error.
func (w *world) skip(kinds ...string) {
	w.t.Helper()
	for _, line := range w.trace {
		if k := kind(line); !slices.Contains(kinds, k) {
			w.t.Errorf("at %v: %q has happened, expected was only %q", w.now.Sub(w.start), line, kinds)
		}
	}
	if n := w.removals(); n > 0 && !slices.Contains(kinds, "removed") {
		w.t.Errorf("at %v: %d elements were removed, expected was only %q", w.now.Sub(w.start), n, kinds)
	}
	w.trace = nil
}

// removals returns the number of elements that were removed since the last call.
func (w *world) removals() uint64 {
	var n uint64
	for _, r := range w.r.stats.Removed {
		n += r
	}
	n, w.removed = n-w.removed, n
	return n
}

// kind is the kind of a line, without its receiver and content: "keep-alive",
// "registration granted", "handle_update ADD_PE", "connect", "close".
func kind(line string) string {
	words := strings.Fields(line)
	switch {
	case len(words) > 2 && words[1] == "<":
		words = words[2:]
	case len(words) > 1 && words[1] == "close" || len(words) > 1 && words[1] == "abort":
		words = words[1:]
	}
	switch words[0] {
	case "registration":
		return words[0] + " " + words[1]
	case "handle_update":
		i := slices.IndexFunc(words, func(w string) bool { return strings.HasSuffix(w, "_PE") })
		return words[0] + " " + words[i]
	}
	return words[0]
}

// wantElements compares the handlespace, as "POOL:ID ...".
func (w *world) wantElements(want ...string) {
	w.t.Helper()
	var got []string
	for _, k := range w.r.sortedElements() {
		got = append(got, fmt.Sprintf("%s:%x", k.Handle(), uint32(k.ID())))
	}
	if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
		w.t.Fatalf("at %v: elements (-want +got):\n%s", w.now.Sub(w.start), diff)
	}
}

// wantSuspects compares the own elements that are suspects, as "POOL:ID ...".
func (w *world) wantSuspects(want ...string) {
	w.t.Helper()
	var got []string
	for x := w.r.roster.FirstOf(ledger.Suspect); x != nil; x = w.r.roster.Next(x) {
		got = append(got, fmt.Sprintf("%s:%x", x.Handle(), uint32(x.ID())))
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
		w.t.Fatalf("at %v: suspects (-want +got):\n%s", w.now.Sub(w.start), diff)
	}
}

// text describes an action in one line, "" if it is not looked at.
func (w *world) text(a Action) string {
	switch a := a.(type) {
	case *Send:
		if a.PPID == enrp.PPID {
			return fmt.Sprintf("%d < %s", a.Assoc, w.enrpText(a.Data))
		}
		m, _, err := asap.Parse(a.Data)
		if err != nil {
			w.t.Errorf("sent to %d: %v (%x)", a.Assoc, err, a.Data)
			return ""
		}
		if m, ok := m.(*asap.EndpointKeepAlive); ok && !w.repeats {
			if e := w.r.find(m.Handle, m.ID); e != nil && e.waiting && e.tries > 0 {
				return ""
			}
		}
		return fmt.Sprintf("%d < %s", a.Assoc, messageText(m))
	case Connect:
		text := fmt.Sprintf("connect #%d via %d to %v", a.Ref, a.Via, a.To)
		if a.EncapPort != 0 {
			text += fmt.Sprintf(" in UDP %d", a.EncapPort)
		}
		return text
	case Close:
		if a.Abort {
			return fmt.Sprintf("%d abort", a.Assoc)
		}
		return fmt.Sprintf("%d close", a.Assoc)
	case Announce:
		if a.ENRP {
			return "announce " + w.enrpText(a.Data)
		}
		return "announce"
	case Keep, KeepPeers:
		return "" // see keptWorld
	case Log:
		if w.logs {
			return "log " + a.Text
		}
		return ""
	}
	return fmt.Sprintf("%T", a)
}

func messageText(m asap.Message) string {
	switch m := m.(type) {
	case *asap.RegistrationResponse:
		return fmt.Sprintf("registration %s %s:%x%s", verdict(m.Reject), m.Handle, uint32(m.ID), causesText(m.Causes))
	case *asap.DeregistrationResponse:
		return fmt.Sprintf("deregistration %s:%x%s", m.Handle, uint32(m.ID), causesText(m.Causes))
	case *asap.EndpointKeepAlive:
		h := ""
		if m.Home {
			h = " H"
		}
		return fmt.Sprintf("keep-alive %s:%x from %x%s", m.Handle, uint32(m.ID), uint32(m.Server), h)
	case *asap.HandleResolutionResponse:
		var b strings.Builder
		fmt.Fprintf(&b, "resolution %s", m.Handle)
		if m.Accept {
			b.WriteString(" A")
		}
		if m.Policy.Type != 0 {
			fmt.Fprintf(&b, " policy %x", uint32(m.Policy.Type))
		}
		for _, e := range m.Elements {
			fmt.Fprintf(&b, " %x", uint32(e.ID))
			if e.ASAPTransport.Present() {
				b.WriteString("+asap")
			}
		}
		return b.String() + causesText(m.Causes)
	case *asap.Error:
		return "error" + causesText(m.Causes)
	}
	return fmt.Sprintf("%T", m)
}

func verdict(reject bool) string {
	if reject {
		return "rejected"
	}
	return "granted"
}

func causesText(list []rserpool.Cause) string {
	var b strings.Builder
	for _, c := range list {
		fmt.Fprintf(&b, " cause %x", uint16(c.Code))
		if len(c.Info) > 0 {
			fmt.Fprintf(&b, "(%x)", c.Info)
		}
	}
	return b.String()
}

// reg returns a registration for UDP port 7 at the address, with a life of an hour and
// round robin, changed by change.
func reg(h string, id uint32, addr string, change ...func(*rserpool.PoolElement)) *asap.Registration {
	m := &asap.Registration{
		Handle: rserpool.PoolHandle(h),
		Element: rserpool.PoolElement{
			ID:   rserpool.PEID(id),
			Life: 3600,
			UserTransport: rserpool.Transport{
				Type: rserpool.UDP, Port: 7, Addrs: []netip.Addr{netip.MustParseAddr(addr)},
			},
			Policy: rserpool.Policy{Type: rserpool.RoundRobin},
		},
	}
	for _, c := range change {
		c(&m.Element)
	}
	return m
}

func dereg(h string, id uint32) *asap.Deregistration {
	return &asap.Deregistration{Handle: rserpool.PoolHandle(h), ID: rserpool.PEID(id)}
}

func ack(h string, id uint32) *asap.EndpointKeepAliveAck {
	return &asap.EndpointKeepAliveAck{Handle: rserpool.PoolHandle(h), ID: rserpool.PEID(id)}
}

func resolve(h string) *asap.HandleResolution {
	return &asap.HandleResolution{Handle: rserpool.PoolHandle(h)}
}

func unreachable(h string, id uint32) *asap.EndpointUnreachable {
	return &asap.EndpointUnreachable{Handle: rserpool.PoolHandle(h), ID: rserpool.PEID(id)}
}
