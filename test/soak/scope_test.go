package soak

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// deregisteredFor is how long an answer of another registrar than the home may
// still name an element that knows to be deregistered.
const deregisteredFor = 100 * time.Millisecond

// lefts are the elements that have deregistered, and when they knew it.
type lefts struct{ ids sync.Map }

func (l *lefts) add(id string) { l.ids.Store(id, time.Now()) }

// check is for answers that have to name all of some elements, and none that had
// left when the question went out.
func (l *lefts) check(stay []string) func(m *dns.Msg, sent time.Time) error {
	return func(m *dns.Msg, sent time.Time) error {
		if m.Rcode != dns.RcodeSuccess || m.Truncated {
			return fmt.Errorf("no whole answer:\n%v", m)
		}
		named := make(map[string]bool)
		for _, rr := range m.Answer {
			id, _, _ := strings.Cut(strings.TrimPrefix(rr.(*dns.SRV).Target, "pe-"), ".")
			named[id] = true
			if at, ok := l.ids.Load(id); ok && sent.After(at.(time.Time).Add(deregisteredFor)) {
				return fmt.Errorf("element %s is named %v after it has left", id, sent.Sub(at.(time.Time)))
			}
		}
		for _, id := range stay {
			if !named[id] {
				return fmt.Errorf("element %s is missing:\n%v", id, m)
			}
		}
		return nil
	}
}

// TestScopeUnderLoad: three registrars share a handlespace over SCTP in UDP. One
// is killed while the others are asked, and comes back: they answer every query
// with all elements that stay, those of the killed one among them, and never with
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
	var stay []string
	for i, p := range scope {
		for j := range each {
			id := uint32(16*(i+1) + j)
			p.member(t, "web", id, fmt.Sprintf("127.9.%d.%d", i+1, j+1))
			stay = append(stay, fmt.Sprintf("%08x", id))
		}
	}
	have := func(n int) {
		t.Helper()
		for _, s := range servers {
			eventually(t, fmt.Sprintf("%d elements at %s", n, s.host), func() error {
				got, err := s.total()
				if err == nil && got != n {
					err = fmt.Errorf("%d elements", got)
				}
				return err
			})
		}
	}
	have(len(stay))

	var left lefts
	next := uint32(0x100)
	// churn has an element come and go at each of these registrars.
	churn := func(at ...int) {
		t.Helper()
		for _, i := range at {
			next++
			m := scope[i].member(t, "web", next, "127.9.9.9")
			for _, j := range at {
				eventually(t, fmt.Sprintf("element %x at %s", next, servers[j].host), func() error {
					if ok, err := servers[j].present("web", next); err != nil || !ok {
						return fmt.Errorf("%v, %v", ok, err)
					}
					return nil
				})
			}
			m.leave(t)
			left.add(fmt.Sprintf("%08x", next))
		}
	}
	const victim = 0
	var askers []*asker
	var perfs []*dnsPerf
	for _, s := range servers[1:] {
		askers = append(askers, ask(t, s.dnsAddr(), rate, 8, func(int64) question {
			return question{"web." + zone, dns.TypeSRV, left.check(stay)}
		}))
		perfs = append(perfs, startDNSPerf(t, s.ports, rate))
	}
	for range rounds {
		churn(0, 1, 2)
		_ = servers[victim].cmd.Process.Kill()
		killed := time.Now()
		<-servers[victim].exited
		for moved := false; !moved; {
			churn(1, 2)
			moved = true
			for _, s := range servers[1:] {
				moved = moved && s.metric("coredns_rserpool_elements_by_home", fmt.Sprintf(`home="1000000%d"`, victim+1)) == 0
			}
			if time.Since(killed) > patience {
				t.Fatal("the killed registrar's elements are not taken over")
			}
		}
		took := time.Since(killed)
		servers[victim] = start(victim)
		churn(0, 1, 2)
		have(len(stay))
		t.Logf("killed: its %d elements have other homes within %v; back after %v", each, took.Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
	}
	for i := range askers {
		perfs[i].judge(t)
		askers[i].judge(t)
	}
}
