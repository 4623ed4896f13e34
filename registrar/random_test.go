package registrar

import (
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// storm makes random events of a small network of peers, right and wrong ones.
// choose(n) is from 0 to n-1.
type storm struct {
	choose func(n int) int
	now    time.Time
	next   AssocID
	assocs []AssocID // those up, and some that are not
	calls  []uint64  // Connect actions without an answer
	asked  []*asap.EndpointKeepAlive
	trusts bool // there are identities, and rights that change
}

func (s *storm) assoc() AssocID {
	if len(s.assocs) == 0 {
		return 0
	}
	return s.assocs[s.choose(len(s.assocs))]
}

func (s *storm) peer() []netip.AddrPort {
	list := make([]netip.AddrPort, 1+s.choose(2))
	for i := range list {
		list[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + s.choose(4))}), uint16(1+s.choose(2)))
	}
	return list
}

func (s *storm) claimed() []netip.AddrPort { return s.peer()[:s.choose(2)] }

// stormNames are the identities of a trusted scope.
var stormNames = []string{"", "dns:a", "dns:b", "dns:c"}

// name is an identity; "" without choice in another scope.
func (s *storm) name() string {
	if !s.trusts {
		return ""
	}
	return stormNames[s.choose(len(stormNames))]
}

// trust are new rights.
func (s *storm) trust() Event {
	rules := identity.Rules{Resolvers: stormNames[1 : 1+s.choose(3)]}
	for range 1 + s.choose(4) {
		rules.Allow = append(rules.Allow, identity.Allow{Pools: []string{"*", "a", "b"}[s.choose(3)], Names: stormNames[1+s.choose(3)]})
	}
	if s.choose(3) == 0 {
		rules.Deny = stormNames[1+s.choose(3):][:1]
	}
	rights, err := identity.New(rules)
	if err != nil {
		panic(err)
	}
	return Trust{Rights: rights}
}

func (s *storm) event() Event {
	if s.trusts && s.choose(40) == 0 {
		return s.trust()
	}
	switch k := s.choose(32); {
	case k < 4 && len(s.assocs) < 30:
		s.next++
		s.assocs = append(s.assocs, s.next)
		return AssocUp{Assoc: s.next, Peer: s.peer(), Claimed: s.claimed(), Via: rserpool.Via(s.choose(4)), Identity: s.name()}
	case k < 6 && len(s.assocs) > 0:
		i := s.choose(len(s.assocs))
		id := s.assocs[i]
		s.assocs = append(s.assocs[:i], s.assocs[i+1:]...)
		return AssocDown{Assoc: id, Reason: downReasons[s.choose(len(downReasons))]}
	case k < 8 && len(s.calls) > 0:
		ref := s.calls[0]
		s.calls = s.calls[1:]
		if s.choose(3) == 0 {
			return Connecting{Ref: ref}
		}
		s.next++
		s.assocs = append(s.assocs, s.next)
		return Connecting{Ref: ref, Assoc: s.next}
	case k < 9:
		return AssocUp{Assoc: s.assoc(), Peer: s.peer(), Via: rserpool.Via(s.choose(4)), Identity: s.name()}
	case k < 10:
		return AssocAddrs{Assoc: s.assoc(), Peer: s.peer(), Claimed: s.claimed()}
	case k < 11:
		m := s.message()
		if n := len(s.asked); n > 0 {
			m = s.asked[s.choose(n)]
		}
		return SendFailed{Assoc: s.assoc(), Data: encodeOrNil(m)}
	case k < 12 && s.choose(8) == 0:
		return Remove{Handle: rserpool.PoolHandle([]string{"a", "b", "c"}[s.choose(3)]), ID: rserpool.PEID(s.choose(5))}
	case k < 12 && s.choose(2) == 0:
		rule := PoolRule{KeepAliveInterval: time.Duration(s.choose(3)) * time.Second}
		if k := s.choose(4); k < 2 {
			rule.Policy = rserpool.WeightedRoundRobin + rserpool.PolicyType(k)
		}
		ruled := rserpool.PoolHandle([]string{"a", "b", "c"}[s.choose(3)])
		return Rules{Of: func(h rserpool.PoolHandle) PoolRule {
			if h == ruled {
				return rule
			}
			return PoolRule{}
		}}
	case k < 12:
		return Announced{From: s.peer()[0], Data: encodeOrNil(&asap.ServerAnnounce{Server: rserpool.ServerID(s.choose(5))})}
	case k < 20:
		s.now = s.now.Add(time.Duration(s.choose(2000)) * time.Millisecond)
		return Tick{}
	}
	return s.received(asap.PPID, encodeOrNil(s.message()))
}

// received has a message come, which may be broken on the way.
func (s *storm) received(ppid uint32, b []byte) Received {
	for s.choose(8) == 0 && len(b) > 0 {
		b[s.choose(len(b))] = byte(s.choose(256))
		b = b[:s.choose(len(b)+1)]
	}
	if s.choose(20) == 0 {
		ppid = uint32(s.choose(13))
	}
	return Received{Assoc: s.assoc(), PPID: ppid, Data: b}
}

func (s *storm) message() asap.Message {
	h := rserpool.PoolHandle([]string{"a", "b", "c"}[s.choose(3)])
	id := rserpool.PEID(s.choose(5))
	switch k := s.choose(16); {
	case k < 6:
		e := rserpool.PoolElement{
			ID: id, Home: rserpool.ServerID(s.choose(2)), Life: int32(s.choose(30) - 2),
			UserTransport: rserpool.Transport{Type: rserpool.UDP, Port: 7, Addrs: []netip.Addr{s.peer()[0].Addr()}},
			Policy:        rserpool.Policy{Type: rserpool.WeightedRoundRobin + rserpool.PolicyType(s.choose(10)/9), Weight: uint32(s.choose(3))},
		}
		if s.choose(8) == 0 {
			e.ASAPTransport = rserpool.Transport{Type: rserpool.SCTP, Port: uint16(s.choose(3)), Addrs: []netip.Addr{s.peer()[0].Addr()}}
		}
		return &asap.Registration{Handle: h, Element: e}
	case k < 8:
		return &asap.Deregistration{Handle: h, ID: id}
	case k < 10 && len(s.asked) > 0:
		m := s.asked[s.choose(len(s.asked))]
		return &asap.EndpointKeepAliveAck{Handle: m.Handle, ID: m.ID}
	case k < 11:
		return &asap.EndpointKeepAliveAck{Handle: h, ID: id}
	case k < 13:
		return &asap.HandleResolution{Handle: h, Subscribe: s.choose(2) == 0, HasItems: true, Items: uint32(s.choose(5))}
	case k < 15:
		return &asap.EndpointUnreachable{Handle: h, ID: id}
	}
	return &asap.Error{Causes: []rserpool.Cause{{Code: rserpool.CauseInvalidValues}}}
}

func encodeOrNil(m asap.Message) []byte {
	b, err := m.Append(nil)
	if err != nil {
		return nil
	}
	return b
}

// heed notes what the registrar has done.
func (s *storm) heed(acts []Action) error {
	for _, a := range acts {
		switch a := a.(type) {
		case Connect:
			s.calls = append(s.calls, a.Ref)
		case *Send:
			if a.PPID != asap.PPID {
				continue
			}
			m, _, err := asap.Parse(a.Data)
			if err != nil {
				return fmt.Errorf("sent what cannot be read: %w (%x)", err, a.Data)
			}
			if ka, ok := m.(*asap.EndpointKeepAlive); ok {
				s.asked = append(s.asked, ka)
				if len(s.asked) > 20 {
					s.asked = s.asked[1:]
				}
			}
		}
	}
	return nil
}

func stormRegistrar(t testing.TB, seed uint64) *Registrar {
	t.Helper()
	l := Limits{Probes: 2, ClaimsPerAssoc: 2, SubscriptionsPerAssoc: 2, Servers: 2}
	if seed%2 == 1 {
		l.ElementsPerAssoc, l.Elements = 2, 3
	}
	r, err := New(Config{
		ServerID: testServer, Rand: rand.New(rand.NewPCG(seed, 99)),
		Limits: l,
		Timers: Timers{KeepAliveTimeout: 5 * time.Second, MaxBadPEReport: 1, SuspectLife: 20 * time.Second, GuardLife: time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run makes so many events, and returns a hash over all actions.
func (s *storm) run(r *Registrar, events int, each func() error) (uint64, error) {
	s.now = time.Unix(1000, 0)
	sum, m := fnv.New64a(), newModel(r)
	var kept keptWorld
	r.cfg.Keep = true
	for i := range events {
		ev := s.event()
		acts := r.Handle(s.now, ev)
		writeActions(sum, acts)
		if kept.note(acts); kept.check(r) != nil {
			return 0, fmt.Errorf("event %d, %#v: %w", i, ev, kept.check(r))
		}
		if err := s.heed(acts); err != nil {
			return 0, fmt.Errorf("event %d, %#v: %w", i, ev, err)
		}
		if s.trusts { // the model knows no identities
			if err := checkTrust(r); err != nil {
				return 0, fmt.Errorf("event %d, %#v: %w", i, ev, err)
			}
		} else if err := m.follow(s.now, ev, acts); err != nil {
			return 0, fmt.Errorf("event %d, %#v: %w", i, ev, err)
		}
		if err := each(); err != nil {
			return 0, fmt.Errorf("after event %d, %#v: %w", i, ev, err)
		}
	}
	return sum.Sum64(), nil
}

// checkTrust: no element is served, or supervised, against the rights.
func checkTrust(r *Registrar) error {
	if r.cfg.Rights == nil || r.review.cursor != nil {
		return nil
	}
	for _, x := range r.allEntries() {
		if x.Served() && !r.cfg.Rights.Registers(x.PE().Identity, x.Handle()) {
			return fmt.Errorf("element %v of %q is served, and %q may not register it", x.ID(), x.Handle(), x.PE().Identity)
		}
		if e := x.Note.own; e != nil && e.assoc != nil && e.assoc.identity != x.PE().Identity {
			return fmt.Errorf("element %v of %q of %q is supervised over an association of %q", x.ID(), x.Handle(), x.PE().Identity, e.assoc.identity)
		}
	}
	for _, a := range r.assocs {
		if !a.barred && a.up && r.cfg.Rights.Denied(a.identity) {
			return fmt.Errorf("association %d of %q is up", a.id, a.identity)
		}
		if a.client != nil && len(a.client.subs) > 0 && !r.mayAsk(a.client) {
			return fmt.Errorf("association %d of %q has subscriptions", a.id, a.identity)
		}
	}
	return nil
}

func writeActions(w io.Writer, acts []Action) {
	for _, a := range acts {
		if _, ok := a.(Keep); ok {
			continue // it has a pointer
		}
		if s, ok := a.(*Send); ok {
			fmt.Fprintf(w, "%d %x\n", s.Assoc, s.Data)
			continue
		}
		fmt.Fprintf(w, "%#v\n", a)
	}
}

// downReasons are why associations of the storm end. An element is removed only if two of them end
// because of its certificate.
var downReasons = []DownReason{DownSilent, DownByPeer, DownFarewell, DownRenew, DownRefused, DownUntrusted, DownUntrusted, DownUntimely}

// Random events, with the invariants checked after each.
func TestRandomEvents(t *testing.T) {
	var total Stats
	for seed := range uint64(150) {
		r := stormRegistrar(t, seed)
		rng := rand.New(rand.NewPCG(seed, 7))
		s := &storm{choose: rng.IntN, trusts: seed >= 120}
		if s.trusts {
			r.Handle(time.Unix(1000, 0), s.trust())
		}
		events, check := uint64(0), r.checkInvariants
		if seed >= 30 { // the others go through more, and are checked now and then
			check = func() error {
				if events++; (events+seed)%5 != 0 {
					return nil
				}
				return r.checkInvariants()
			}
		}
		if _, err := s.run(r, 2000, check); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		st := r.Stats()
		for i, n := range st.Removed {
			total.Removed[i] += n
		}
		for i, n := range st.Rejections {
			total.Rejections[i] += n
		}
		total.Updates += st.Updates
		total.Claims += st.Claims
		total.RightsRefused.Owned += st.RightsRefused.Owned
		total.RightsRefused.Elements += st.RightsRefused.Elements
		total.RightsRefused.Associations += st.RightsRefused.Associations
	}
	for i, n := range total.Removed { // the storm must reach everything
		if n == 0 {
			t.Errorf("no element was removed because %v", RemoveReason(i))
		}
	}
	for _, c := range []rserpool.CauseCode{rserpool.CauseInvalidValues, rserpool.CauseNonUniquePEIdentifier, rserpool.CauseInconsistentPolicy, rserpool.CauseLackOfResources, rserpool.CauseSecurity} {
		if total.Rejections[c] == 0 {
			t.Errorf("nothing was rejected with cause %v", c)
		}
	}
	if n := total.RightsRefused; n.Owned == 0 || n.Elements == 0 || n.Associations == 0 {
		t.Errorf("rights have refused %+v: want some of each", n)
	}
	if total.Updates == 0 || total.Claims == 0 {
		t.Errorf("%d updates, %d claims: want some of each", total.Updates, total.Claims)
	}
}

// The same seed and the same events give the same actions, byte for byte.
func TestReplay(t *testing.T) {
	for seed := range uint64(5) {
		var sums [2]uint64
		for i := range sums {
			rng := rand.New(rand.NewPCG(seed, 8))
			s := &storm{choose: rng.IntN}
			sum, err := s.run(stormRegistrar(t, seed), 3000, func() error { return nil })
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			sums[i] = sum
		}
		if sums[0] != sums[1] {
			t.Errorf("seed %d: two runs differ", seed)
		}
	}
}

// chooser takes choices from bytes, until there are no more.
func chooser(choices *[]byte) func(n int) int {
	return func(n int) int {
		if len(*choices) == 0 {
			return 0
		}
		c := int((*choices)[0])
		*choices = (*choices)[1:]
		return c * n / 256
	}
}

// addChoices seeds a fuzz target with bytes for its chooser.
func addChoices(f *testing.F) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 9))
		b := make([]byte, 2000)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b)
	}
}

// FuzzEvents has the fuzzer choose the events.
func FuzzEvents(f *testing.F) {
	addChoices(f)
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) > 4000 {
			return
		}
		r := stormRegistrar(t, 1)
		s, m := &storm{now: time.Unix(1000, 0)}, newModel(r)
		s.choose = chooser(&choices)
		for len(choices) > 0 {
			ev := s.event()
			acts := r.Handle(s.now, ev)
			if err := s.heed(acts); err != nil {
				t.Fatalf("%#v: %v", ev, err)
			}
			if err := m.follow(s.now, ev, acts); err != nil {
				t.Fatalf("%#v: %v", ev, err)
			}
			if err := r.checkInvariants(); err != nil {
				t.Fatalf("%#v: %v", ev, err)
			}
		}
	})
}

// FuzzMessage has the fuzzer choose the bytes of messages to a registrar that
// has two elements.
func FuzzMessage(f *testing.F) {
	for _, m := range []asap.Message{
		reg("p", 1, "10.0.0.1"), dereg("p", 1), resolve("p"), items(subscribe("p"), 4), ack("p", 1), unreachable("p", 2),
		reg("p", 2, "10.0.0.1", userSCTP(1), asapAt(9, "10.0.0.1")),
		&asap.Error{Causes: []rserpool.Cause{{Code: 3, Info: []byte("1234")}}},
	} {
		f.Add(uint32(asap.PPID), encode(f, m))
	}
	if b, err := presenceAt(greater, "10.0.0.2", "2001:db8::2").Append(nil); err == nil {
		f.Add(uint32(enrp.PPID), b)
	}
	f.Fuzz(func(t *testing.T, ppid uint32, b []byte) {
		w := newWorld(t)
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.up(2, rserpool.ViaTCP, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.recv(1, reg("p", 2, "10.0.0.1"))
		for id := AssocID(1); id <= 2; id++ {
			w.handle(Received{Assoc: id, PPID: ppid, Data: b})
			w.handle(SendFailed{Assoc: id, Data: b})
			w.handle(Announced{Data: b})
			w.handle(Announced{Data: b, ENRP: true, From: peers("10.0.0.2")[0]})
			w.pass(time.Second)
		}
	})
}
