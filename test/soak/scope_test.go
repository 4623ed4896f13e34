package soak

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// deregisteredFor is how long an answer of another registrar than the home may
// still name an element that knows to be deregistered.
const deregisteredFor = 100 * time.Millisecond

// attendance are the elements that every answer has to name, and since when, and
// those that none may name any more. The keys are identifiers.
type attendance struct{ here, left sync.Map }

func (a *attendance) comes(id uint32) { a.here.Store(fmt.Sprintf("%08x", id), time.Now()) }

// leave deregisters an element.
func (a *attendance) leave(t *testing.T, m *member) {
	t.Helper()
	id := fmt.Sprintf("%08x", m.id)
	a.here.Delete(id)
	m.leave(t)
	a.left.Store(id, time.Now())
}

// check checks the answer to a question that went out at a time.
func (a *attendance) check(m *dns.Msg, sent time.Time) (err error) {
	if m.Rcode != dns.RcodeSuccess || m.Truncated {
		return fmt.Errorf("no whole answer:\n%v", m)
	}
	named := make(map[any]bool)
	for _, rr := range m.Answer {
		id, _, _ := strings.Cut(strings.TrimPrefix(rr.(*dns.SRV).Target, "pe-"), ".")
		named[id] = true
		if at, ok := a.left.Load(id); ok && sent.After(at.(time.Time).Add(deregisteredFor)) {
			return fmt.Errorf("element %s is named %v after it has left", id, sent.Sub(at.(time.Time)))
		}
	}
	a.here.Range(func(id, since any) bool {
		if sent.After(since.(time.Time)) && !named[id] {
			err = fmt.Errorf("element %v is missing:\n%v", id, m)
		}
		return err == nil
	})
	return err
}

// TestScopeUnderLoad: three registrars share a handlespace over SCTP in UDP. One
// is killed while the others are asked, and comes back: they answer every query
// with all elements that live, those of the killed one among them, and never with
// one that has deregistered.
func TestScopeUnderLoad(t *testing.T) {
	outside(t)
	rounds, rate := 1, 300
	if *long {
		rounds, rate = 10, 1500
	}
	const each = 4
	var scope []ports
	for i := range 3 {
		p := freePorts(t, fmt.Sprintf("127.9.0.%d", i+1))
		p.encap = 9899 // where peers are called
		scope = append(scope, p)
	}
	start := func(i int) *server {
		options := fmt.Sprintf("ttl 0\nanswers 32\nserver_id 0x1000000%d\ntimer PEER-HEARTBEAT-CYCLE 500ms\ntimer MAX-TIME-LAST-HEARD 2s\ntimer MAX-TIME-NO-RESPONSE 1s\nenrp %s", i+1, scope[i].host)
		for j, p := range scope {
			if j != i {
				options += "\npeer " + p.host
			}
		}
		s := startServer(t, scope[i], scope[i].corefile(options, "errors"))
		eventually(t, "handlespace at "+s.host, func() error {
			m, err := s.query(zone, dns.TypeSOA)
			if err == nil && m.Rcode != dns.RcodeSuccess {
				err = fmt.Errorf("rcode %s", dns.RcodeToString[m.Rcode])
			}
			return err
		})
		return s
	}
	servers := []*server{start(0), start(1), start(2)}
	// everywhere waits until the registrars have an element.
	everywhere := func(id uint32, at ...int) {
		t.Helper()
		for _, i := range at {
			eventually(t, fmt.Sprintf("element %x at %s", id, servers[i].host), func() error {
				ok, err := servers[i].present("web", id)
				if err == nil && !ok {
					err = errors.New("not there")
				}
				return err
			})
		}
	}
	var who attendance
	next := uint32(0)
	// comes has an element register with one of these registrars.
	comes := func(home int, at ...int) *member {
		t.Helper()
		next++
		m := scope[home].member(t, "web", next, fmt.Sprintf("127.9.%d.%d", 1+home, 1+next%250))
		everywhere(next, at...)
		return m
	}
	// churn has an element come and go at each of these registrars.
	churn := func(at ...int) {
		t.Helper()
		for _, i := range at {
			who.leave(t, comes(i, at...))
		}
	}
	const victim = 0
	// owned is how many of these elements a registrar takes for the victim's.
	owned := func(s *server, ids []uint32) (n int, err error) {
		for _, id := range ids {
			m, err := s.query(fmt.Sprintf("_rserpool.pe-%08x.web.%s", id, zone), dns.TypeTXT)
			if err != nil {
				return 0, err
			}
			if strings.Contains(m.String(), fmt.Sprintf(`"home=1000000%d"`, victim+1)) {
				n++
			}
		}
		return n, nil
	}
	var stays []uint32
	for i := range servers {
		id := comes(i, 0, 1, 2).id
		who.comes(id)
		stays = append(stays, id)
	}
	var askers []*asker
	var perfs []*dnsPerf
	for _, s := range servers[1:] {
		askers = append(askers, ask(t, s.dnsAddr(), rate, 8, func(int64) question {
			return question{name: "web." + zone, qtype: dns.TypeSRV, check: who.check}
		}))
		perfs = append(perfs, startDNSPerf(t, s.ports, rate))
	}
	for range rounds {
		var members []*member
		ids := slices.Clone(stays)
		for range each {
			m := comes(victim, 0, 1, 2)
			who.comes(m.id)
			members, ids = append(members, m), append(ids, m.id)
		}
		churn(0, 1, 2)
		for _, s := range servers[1:] {
			eventually(t, "the victim's elements at "+s.host, func() error {
				n, err := owned(s, ids)
				if err == nil && n < each {
					err = fmt.Errorf("%d", n)
				}
				return err
			})
		}
		_ = servers[victim].cmd.Process.Kill()
		killed := time.Now()
		<-servers[victim].exited
		for moved := false; !moved; {
			churn(1, 2)
			moved = true
			for _, s := range servers[1:] {
				n, err := owned(s, ids)
				moved = moved && err == nil && n == 0
			}
			if time.Since(killed) > patience {
				t.Fatal("the killed registrar's elements are not taken over")
			}
		}
		took := time.Since(killed)
		servers[victim] = start(victim)
		churn(0, 1, 2)
		for _, m := range members {
			everywhere(m.id, victim)
			who.leave(t, m)
		}
		t.Logf("killed: its %d elements have other homes within %v; back after %v", each, took.Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
	}
	for i := range askers {
		perfs[i].judge(t)
		askers[i].judge(t)
	}
}
