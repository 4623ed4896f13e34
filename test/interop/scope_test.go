package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// scope are three registrars that share a handlespace, each on a host of its own
// with a host of elements beside it, and the host of a user. The elements are in
// the pool web.
type scope struct {
	*lab
	members []*member
	pu      *node
	names   []string // of the elements
	// keepAlive is the time between two keep-alives to an element.
	keepAlive time.Duration
	// group is the multicast group by which registrars find one another, if any.
	group string
}

// member is a registrar of a scope.
type member struct {
	*node
	s         *scope
	id        string
	reference bool // it is RSPLIB's
	proc      *proc
	pe        *node    // the host of elements beside it
	names     []string // of the elements there
}

// newScope makes the hosts. ids are the registrars' identifiers; those behind a
// * run RSPLIB's.
func newScope(t *testing.T, ids ...string) *scope {
	t.Helper()
	s := &scope{lab: newLab(t), keepAlive: 2 * time.Second}
	for i, id := range ids {
		m := &member{s: s}
		m.id, m.reference = strings.CutPrefix(id, "*")
		m.node = s.node(fmt.Sprintf("r%d", i+1), fmt.Sprintf("10.99.0.%d/24", i+1))
		m.pe = s.node(fmt.Sprintf("pe%d", i+1), fmt.Sprintf("10.99.0.1%d/24", i+1))
		s.sh("ip -n " + m.name + " route add 224.0.0.0/4 dev eth0")
		s.members = append(s.members, m)
	}
	s.pu = s.node("pu", "10.99.0.21/24")
	s.capture()
	return s
}

// newMixedScope has two registrars of ours and one of RSPLIB. A registrar
// that takes the greatest identifier for the winner of a takeover, or the smallest,
// disagrees with one of the others.
func newMixedScope(t *testing.T) *scope {
	t.Helper()
	return newScope(t, "10000001", "20000002", "*30000003")
}

// start starts the registrar; peers are those that it is told of.
func (m *member) start(peers ...*member) {
	m.s.t.Helper()
	if m.reference {
		args := slices.Concat(m.s.quickReference(m.s.keepAlive), []string{"-identifier=0x" + m.id, "-maxhresitems=1000"})
		for _, p := range peers {
			args = append(args, "-peer="+p.ip+":9901")
		}
		if m.s.group != "" {
			args = append(args, "-enrpannounce="+m.s.group)
		}
		m.proc = m.rspregistrar(m.ip, args...)
		return
	}
	options := slices.Concat(m.s.quickOptions(m.s.keepAlive), []string{"server_id 0x" + m.id, "enrp " + m.ip, "answers 128"})
	for _, p := range peers {
		options = append(options, "peer "+p.ip)
	}
	if m.s.group != "" {
		options = append(options, "enrp_announce "+m.s.group)
	}
	m.proc = m.coredns(m.ip, corefileAt(m.ip, options...))
}

// others are all registrars of the scope but these.
func (s *scope) others(those ...*member) []*member {
	return slices.DeleteFunc(slices.Clone(s.members), func(m *member) bool { return slices.Contains(those, m) })
}

// startAll starts all registrars, each of which is told of all others.
func (s *scope) startAll() {
	s.t.Helper()
	for _, m := range s.members {
		m.start(s.others(m)...)
	}
}

// register starts an element of each implementation that knows only this
// registrar.
func (m *member) register() {
	m.s.t.Helper()
	theirs, ours := "0a0000"+m.ip[len(m.ip)-1:]+"1", "0a0000"+m.ip[len(m.ip)-1:]+"2"
	m.pe.rspserverAt(m.ip, "web", "0x"+theirs, "-echo")
	m.pe.start(m.s.bin("rsp"), "serve", "echo", "--registrar", m.ip, "--via", "kernel", "--pool", "web", "--port", "7777", "--id", ours)
	m.names = []string{theirs, ours}
	m.s.names = append(m.s.names, m.names...)
}

// homes are the elements of web that the registrar hands out over ASAP, with
// the home registrar of each.
func (m *member) homes() (map[string]string, error) { return m.resolve("web", 100) }

// resolve asks over an association of its own. The test does so itself, since to start rsp
// takes the lab's processor as long as the rest of a test's round.
func (m *member) resolve(pool string, n uint32) (map[string]string, error) {
	u, err := pu.Open(pu.Config{
		Registrars: []string{m.ip}, Via: rserpool.ViaKernel, Local: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.254:0")},
	})
	if err != nil {
		return nil, err
	}
	defer u.Close()
	ctx, cancel := context.WithTimeout(m.s.t.Context(), 10*time.Second)
	defer cancel()
	r, err := u.Resolve(ctx, rserpool.PoolHandle(pool), n)
	if errors.Is(err, pu.ErrUnknownPool) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	homes := map[string]string{}
	for _, e := range r.Elements {
		homes[e.ID.String()] = e.Home.String()
	}
	return homes, nil
}

// has gives the homes of the elements that the registrar hands out, if these are
// exactly the scope's elements, in DNS and over ASAP, and the home of each is one
// of those given.
func (m *member) has(homes ...*member) (map[string]string, error) {
	want := slices.Sorted(slices.Values(m.s.names))
	if !m.reference {
		r, err := large(m.ip, "web.pool.example.org.", dns.TypeSRV)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		if got := slices.Sorted(maps.Keys(elementsOf(r))); !slices.Equal(got, want) {
			return nil, fmt.Errorf("%s answers with %v, want %v", m.name, got, want)
		}
	}
	got, err := m.homes()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.name, err)
	}
	if list := slices.Sorted(maps.Keys(got)); !slices.Equal(list, want) {
		return nil, fmt.Errorf("%s resolves to %v, want %v", m.name, list, want)
	}
	for id, home := range got {
		if !slices.ContainsFunc(homes, func(h *member) bool { return h.id == home }) {
			return nil, fmt.Errorf("%s says that the home of %s is %s", m.name, id, home)
		}
	}
	return got, nil
}

// agree waits until these registrars hand out the same elements with the same
// homes, which are among them, and says how long that took.
func (s *scope) agree(ms ...*member) time.Duration {
	s.t.Helper()
	return eventually(s.t, "the registrars agree", func() error {
		var first map[string]string
		for i, m := range ms {
			homes, err := m.has(ms...)
			if err != nil {
				return err
			}
			if i == 0 {
				first = homes
			} else if !maps.Equal(first, homes) {
				return fmt.Errorf("%s has %v, %s has %v", ms[0].name, first, m.name, homes)
			}
		}
		return nil
	})
}

// fill starts all registrars and the elements, and waits until all know all.
func (s *scope) fill() {
	s.t.Helper()
	s.startAll()
	for _, m := range s.members {
		m.register()
	}
	s.agree(s.members...)
}

// watchOurs watches our registrars among these.
func (s *scope) watchOurs(ms ...*member) []*watch {
	var list []*watch
	for _, m := range ms {
		if !m.reference {
			list = append(list, s.watch(m.ip, "web", 1))
		}
	}
	return list
}

// TestScopeMentors: two registrars of ours and one of RSPLIB share a handlespace,
// each with an element of each implementation that knows no other registrar.
// A registrar of each kind is the mentor of one of the other kind, and one of ours of the
// other; in the long form each registrar of each other one.
func TestScopeMentors(t *testing.T) {
	for _, order := range []struct {
		name   string
		starts [][]int
	}{
		{"1, 2 from 1, 3 from 2", [][]int{{0}, {1, 0}, {2, 1}}},
		{"3, 1 from 3, 2 from 3", [][]int{{2}, {0, 2}, {1, 2}}},
		{"2, 1 from 2, 3 from 1", [][]int{{1}, {0, 1}, {2, 0}}},
	}[:often(3, 2)] { // 1 and 2 are alike
		t.Run(order.name, func(t *testing.T) { newMixedScope(t).mentors(order.starts) })
	}
}

// mentors: each registrar is started with one other as its peer, its mentor.
// All that are up hand out the same, with the elements of each.
func (s *scope) mentors(starts [][]int) {
	t := s.t
	var up []*member
	for _, start := range starts {
		m := s.members[start[0]]
		if len(start) == 1 {
			m.start()
		} else {
			m.start(s.members[start[1]])
		}
		// A registrar of ours that answers DNS has the handlespace. RSPLIB's
		// serves before.
		if !m.reference && len(up) > 0 {
			if _, err := m.has(up...); err != nil {
				t.Errorf("right after the start: %v", err)
			}
		}
		up = append(up, m)
		joined := s.agree(up...)
		m.register()
		t.Logf("%s has joined after %v; all know its elements after %v", m.name, joined.Round(time.Millisecond), s.agree(up...).Round(time.Millisecond))
	}
}

var ownership = regexp.MustCompile(`(?m)^ +- \$([0-9a-f]{8}) -> "web" / \$([0-9a-f]{8}) `)

// TestScopeDump: RSPLIB's tool and ours read the handlespace of each registrar by
// ENRP, as a registrar that joins would do, and find the same in all. Ours also
// learns which other registrars there are.
func TestScopeDump(t *testing.T) {
	s := newMixedScope(t)
	s.fill()
	want, err := s.members[0].homes()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range s.members {
		out, err := s.pu.run("hsdump", m.ip+":9901", "-logcolor=off", "-loglevel=3")
		got := map[string]string{}
		for _, line := range ownership.FindAllStringSubmatch(out, -1) {
			got[line[2]] = line[1]
		}
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("hsdump of %s finds %v, %v, want %v\n%s", m.name, got, err, want, out)
		}
		var d struct {
			Registrar string
			Pools     []struct{ Elements []struct{ ID, Home string } }
		}
		out, err = s.pu.run(s.bin("rsp"), "dump", "--json", "--via", "kernel", "--registrar", m.ip)
		if err == nil {
			err = json.Unmarshal([]byte(out), &d)
		}
		clear(got)
		for _, p := range d.Pools {
			for _, e := range p.Elements {
				got[e.ID] = e.Home
			}
		}
		if err != nil || d.Registrar != m.id || !maps.Equal(got, want) {
			t.Errorf("rsp dump of %s finds %v, %v, want %v\n%s", m.name, got, err, want, out)
		}
		var p struct {
			Registrar string
			Peers     []struct {
				ID        string
				Port      int
				Addresses []string
			}
		}
		out, err = s.pu.run(s.bin("rsp"), "peers", "--json", "--via", "kernel", "--registrar", m.ip)
		if err == nil {
			err = json.Unmarshal([]byte(out), &p)
		}
		var others, known []string
		for _, o := range s.others(m) {
			others = append(others, fmt.Sprintf("%s at [%s]:9901", o.id, o.ip))
		}
		for _, k := range p.Peers {
			known = append(known, fmt.Sprintf("%s at %v:%d", k.ID, k.Addresses, k.Port))
		}
		// RSPLIB still remembers its own tool.
		strange := slices.DeleteFunc(slices.Clone(known), func(k string) bool { return slices.Contains(others, k) })
		if err != nil || p.Registrar != m.id || len(known)-len(strange) != len(others) || len(strange) > 0 && !m.reference {
			t.Errorf("rsp peers of %s finds %v, %v, want %v\n%s", m.name, known, err, others, out)
		}
	}
}

// TestScopeKilled: each registrar in turn is killed, and comes back. The others take its
// elements over, which are in all answers all the time.
func TestScopeKilled(t *testing.T) {
	s := newMixedScope(t)
	s.fill()
	for _, victim := range s.members {
		rest := s.others(victim)
		watches := s.watchOurs(rest...)
		victim.proc.kill(syscall.SIGKILL)
		took := s.agree(rest...)
		for _, w := range watches {
			t.Logf("%s killed: its elements have new homes after %v; missing at %s for %v", victim.name, took.Round(time.Millisecond), w.server, w.judge(t, s.names, 0))
		}
		victim.proc.wait()
		victim.start(rest...)
		t.Logf("%s is back: all agree after %v", victim.name, s.agree(s.members...).Round(time.Millisecond))
	}
}

// TestScopeOrphans: both of ours are killed, and only the reference is left. It
// takes nothing over then: the elements of the dead stay in its handlespace
// without a home. Those of ours that come back adopt them, one under the
// identifier that it had, and one under another.
func TestScopeOrphans(t *testing.T) {
	s := newMixedScope(t)
	s.fill()
	one, two, theirs := s.members[0], s.members[1], s.members[2]
	one.proc.kill(syscall.SIGKILL)
	two.proc.kill(syscall.SIGKILL)
	two.proc.wait()
	theirs.proc.says("Takeover of peer $" + one.id + " has expired")
	theirs.proc.says("Takeover of peer $" + two.id + " has expired")
	if homes, err := theirs.has(s.members...); err != nil {
		t.Errorf("alone: %v, %v", homes, err)
	}
	two.start(theirs)
	t.Logf("%s is back: all elements have homes after %v", two.name, s.agree(two, theirs).Round(time.Millisecond))
	one.id = "40000004"
	one.start(theirs)
	t.Logf("%s is back under another identifier: all agree after %v", one.name, s.agree(s.members...).Round(time.Millisecond))
}

// TestScopePartition: packets between one of ours with its elements and all the
// others are dropped, and then no longer. Either side answers with what it
// reaches, all the time. Afterwards all have all again.
func TestScopePartition(t *testing.T) {
	s := newMixedScope(t)
	s.fill()
	one, rest := s.members[0], s.members[1:]
	sides := [][]*node{{one.node, one.pe}, {rest[0].node, rest[0].pe, rest[1].node, rest[1].pe}}
	watches := s.watchOurs(s.members...)
	all := s.names
	s.cut(sides[0], sides[1])
	s.names = one.names
	took := s.agree(one)
	s.names = slices.Concat(rest[0].names, rest[1].names)
	t.Logf("cut: one side has what it reaches after %v, the other side after %v", took.Round(time.Millisecond), (took + s.agree(rest...)).Round(time.Millisecond))
	s.names = all
	s.mend(slices.Concat(sides...))
	t.Logf("mended: all agree after %v", s.agree(s.members...).Round(time.Millisecond))
	watches[0].judge(t, one.names, 0)
	watches[1].judge(t, rest[0].names, 0)
}

// TestScopeTorn: packets between one registrar of ours and the other two are
// dropped, while the elements can reach all. Both sides take over what belongs to
// the other. An element of ours acknowledges the keep-alives of all registrars, so that
// both sides of ours name it all the time. One of RSPLIB acknowledges only those of the
// home that adopted it last, and its registrar removes elements that have gone to
// another one. Both are mended when the registrars are connected again.
func TestScopeTorn(t *testing.T) {
	s := newMixedScope(t)
	s.fill()
	one, two, theirs := s.members[0], s.members[1], s.members[2]
	watches := s.watchOurs(s.members...)
	these, those := []*node{one.node}, []*node{two.node, theirs.node}
	s.cut(these, those)
	var there map[string]string // the homes at our registrar beside RSPLIB's
	took := eventually(t, "each side has taken over the other's", func() error {
		for m, want := range map[*member][]*member{one: {one}, two: {two, theirs}} {
			homes, err := m.homes()
			if err != nil {
				return err
			}
			if m == two {
				there = homes
			}
			for id, home := range homes {
				if !slices.ContainsFunc(want, func(h *member) bool { return h.id == home }) {
					return fmt.Errorf("%s says that the home of %s is %s", m.name, id, home)
				}
			}
		}
		return nil
	})
	t.Logf("cut: each side has taken over the other's after %v", took.Round(time.Millisecond))
	s.mend(slices.Concat(these, those))
	t.Logf("mended: all agree after %v", s.agree(s.members...).Round(time.Millisecond))
	// The second of each pair is ours. One that RSPLIB's registrar has, or has taken over, is
	// removed by it, and so by its peer.
	ours := []string{one.names[1], two.names[1], theirs.names[1]}
	watches[0].judge(t, ours, 0)
	watches[1].judge(t, slices.DeleteFunc(ours, func(id string) bool { return there[id] == theirs.id }), 0)
}

// TestScopeSuspect: an element of ours hangs, beside others. Its home and the other registrar
// of ours leave it out, as a suspect; RSPLIB's registrar removes it. When it goes on, all have it
// again, in the same home.
func TestScopeSuspect(t *testing.T) {
	s := newMixedScope(t)
	s.fill()
	one := s.members[0]
	const id = "0a0000f1"
	slow := one.pe.start(s.bin("rsp"), "serve", "echo", "--registrar", one.ip, "--via", "kernel", "--pool", "web", "--port", "7778", "--id", id)
	rest := s.names
	s.names = append(slices.Clone(rest), id)
	s.agree(s.members...)
	for range 2 {
		slow.kill(syscall.SIGSTOP)
		s.names = rest
		t.Logf("stopped: all do without it after %v", s.agree(s.members...).Round(time.Millisecond))
		slow.kill(syscall.SIGCONT)
		s.names = append(slices.Clone(rest), id)
		t.Logf("continued: all have it after %v", s.agree(s.members...).Round(time.Millisecond))
		for _, m := range s.members {
			if homes, err := m.homes(); err != nil || homes[id] != one.id {
				t.Errorf("%s says that the home is %s, %v, want %s", m.name, homes[id], err, one.id)
			}
		}
	}
	one.proc.says("is a suspect")
}
