package rserpool

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

const guardCorefile = `rserpool pool.example.org {
	addresses all
	https alpn=h2
	svcb dns alpn=dot
	naptr x-test a
	dnssd http
	reverse 192.0.2.0/24
}`

// guarded is a pool of three elements, some of which are suspects.
type guarded struct {
	t    *testing.T
	f    *fakeRegistrar
	away map[rsp.PEID]suspended
}

type suspended struct {
	*handlespace.Element
	handlespace.Standing
}

func newGuarded(t *testing.T) *guarded {
	f := newFake()
	for id := rsp.PEID(1); id <= 3; id++ {
		put(t, f.space, "web", element(id, 80, fmt.Sprintf("192.0.2.%d 2001:db8::%[1]d", id)))
	}
	return &guarded{t, f, map[rsp.PEID]suspended{}}
}

// leave makes an element a suspect that is not served.
func (g *guarded) leave(id rsp.PEID) {
	e, st := g.f.space.Suspend("web", id)
	g.away[id] = suspended{e, st}
	g.f.space.SetDoubt("web", len(g.away), false)
}

// guard serves all suspects.
func (g *guarded) guard() {
	g.t.Helper()
	for _, s := range g.away {
		if err := g.f.space.Resume("web", s.Element, s.Standing); err != nil {
			g.t.Fatal(err)
		}
	}
	g.f.space.SetDoubt("web", len(g.away), true)
}

var elementOf = regexp.MustCompile(`pe-0000000(\d)\.|192\.0\.2\.(\d)$|2001:db8::(\d)$`)

// elementsIn are the elements that records name.
func elementsIn(rrs []dns.RR) string {
	ids := map[string]bool{}
	for _, rr := range rrs {
		text := rr.String()
		if rr.Header().Rrtype != dns.TypeA && rr.Header().Rrtype != dns.TypeAAAA {
			text = strings.TrimPrefix(text, rr.Header().Name)
		}
		for _, m := range elementOf.FindAllStringSubmatch(text, -1) {
			ids[m[1]+m[2]+m[3]] = true
		}
	}
	var all []string
	for id := range ids {
		all = append(all, id)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// faces are the elements in each kind of answer.
func faces(t *testing.T, h *Handler) map[string]string {
	t.Helper()
	got := map[string]string{}
	for name, types := range map[string][]uint16{
		"web.": {dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeHTTPS, dns.TypeNAPTR}, "_x._tcp.web.": {dns.TypeSRV},
		"_8443._https.web.": {dns.TypeHTTPS}, "_dns.web.": {dns.TypeSVCB}, "web._http._tcp.": {dns.TypeSRV},
	} {
		for _, qtype := range types {
			m := ask(t, h, name+zoneZ, qtype)
			got[name+" "+dns.TypeToString[qtype]] = fmt.Sprint(dns.RcodeToString[m.Rcode], " ", elementsIn(m.Answer))
		}
	}
	var names, reverse []string
	for id := 1; id <= 3; id++ {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV} {
			name := fmt.Sprintf("pe-%08x.web.%s", id, zoneZ)
			if m := ask(t, h, name, qtype); len(m.Answer) == 1 {
				names = append(names, elementsIn(m.Answer))
			} else if m.Rcode != dns.RcodeNameError {
				t.Errorf("%s %s: got\n%s\nwant NXDOMAIN", name, dns.TypeToString[qtype], m)
			}
		}
		reverse = append(reverse, elementsIn(ask(t, h, fmt.Sprintf("%d.2.0.192.in-addr.arpa.", id), dns.TypePTR).Answer))
	}
	got["element names"] = strings.Join(slices.Compact(names), " ")
	got["PTR"] = strings.Join(slices.DeleteFunc(reverse, func(s string) bool { return s == "" }), " ")
	copied, back := transferred(t, h, zoneZ, 0), transferred(t, h, "2.0.192.in-addr.arpa.", 0)
	got["AXFR"], got["reverse AXFR"] = elementsIn(copied), elementsIn(back)
	got["instances"] = lines(ask(t, h, "_http._tcp."+zoneZ, dns.TypePTR).Answer)
	return got
}

// want is what all faces have in common.
func wantFaces(got map[string]string, ids string) map[string]string {
	want := map[string]string{}
	for face := range got {
		want[face] = "NOERROR " + ids
	}
	for _, face := range []string{"element names", "PTR", "AXFR", "reverse AXFR"} {
		want[face] = ids
	}
	want["instances"] = "_http._tcp.pool.example.org. 5 IN PTR web._http._tcp.pool.example.org.\n"
	return want
}

// TestGuardInAnswers: a suspect is in no kind of answer while others are none, and in all of
// them while the pool is guarded. Each change has a new serial number.
func TestGuardInAnswers(t *testing.T) {
	g := newGuarded(t)
	h := newTestHandler(t, guardCorefile, g.f)
	at := now
	serial := g.f.space.Serial(at)
	step := func(what string, change func(), ids, text string) {
		t.Helper()
		change()
		at = at.Add(time.Minute)
		if next := g.f.space.Serial(at); (next > serial) != (what != "the number of suspects") {
			t.Errorf("%s: the serial number was %d and is %d", what, serial, next)
		} else {
			serial = next
		}
		got := faces(t, h)
		if diff := cmp.Diff(wantFaces(got, ids), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		if got := lines(ask(t, h, "_rserpool.web."+zoneZ, dns.TypeTXT).Answer); !strings.Contains(got, text) {
			t.Errorf("%s: got text %s, want %s", what, got, text)
		}
	}
	step("all are members", g.f.space.Touch, "1 2 3", `"elements=3" "transport=tcp" "suspects=0" "guarded=no"`)
	step("one suspect", func() { g.leave(2) }, "1 3", `"elements=2" "transport=tcp" "suspects=1" "guarded=no"`)
	step("two suspects", func() { g.leave(3) }, "1", `"elements=1" "transport=tcp" "suspects=2" "guarded=no"`)
	step("a guard", g.guard, "1 2 3", `"elements=3" "transport=tcp" "suspects=2" "guarded=yes"`)
	step("the number of suspects", func() { g.f.space.SetDoubt("web", 3, true) }, "1 2 3", `"elements=3" "transport=tcp" "suspects=3" "guarded=yes"`)
	if _, after, _ := labelsOf(t, traced1(h), new(dns.Msg).SetQuestion("web."+zoneZ, dns.TypeSRV)); !strings.HasPrefix(after, "web RoundRobin yes ") {
		t.Errorf("got labels %s, want the pool to be guarded", after)
	}
}

func traced1(h *Handler) *Handler {
	h.traces = true
	return h
}

// TestGuardTTL: while a guard keeps elements past their registration life, answers have the
// usual TTL: the life no longer says when they leave.
func TestGuardTTL(t *testing.T) {
	f := newFake()
	for pool, left := range map[string]time.Duration{"long": time.Hour, "last": 3 * time.Second, "late": -time.Second, "over": -time.Minute} {
		put(t, f.space, pool, element(1, 80, "192.0.2.1", expires(left)), element(2, 80, "192.0.2.2"))
	}
	h := newTestHandler(t, "rserpool pool.example.org {\n addresses all\n}", f)
	for pool, want := range map[string]uint32{"long": 5, "last": 3, "late": 0, "over": 5} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
			if m := ask(t, h, pool+"."+zoneZ, qtype); len(m.Answer) != 2 || m.Answer[0].Header().Ttl != want {
				t.Errorf("%s %s: got\n%s\nwant two records with TTL %d", pool, dns.TypeToString[qtype], lines(m.Answer), want)
			}
		}
	}
}

// TestNotifySuspect: secondaries are notified when a suspect leaves the answers, and when it is
// back, but not when only the number of suspects changes.
func TestNotifySuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t)
		_, times := notified(t, g.f, "")
		time.Sleep(time.Minute)
		times()
		for _, step := range []struct {
			what string
			do   func()
			want int
		}{
			{"a suspect leaves", func() { g.leave(2) }, 1},
			{"it is back", g.guard, 1},
			{"the guard is noted", func() { g.f.space.SetDoubt("web", 3, true) }, 0},
		} {
			step.do()
			time.Sleep(time.Minute)
			if got := times(); len(got) != step.want {
				t.Errorf("%s: got notifications at %v, want %d", step.what, got, step.want)
			}
		}
	})
}
