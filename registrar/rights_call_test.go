package registrar

import (
	"fmt"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// enrpUp has a peer with an identity connect, without a message.
func (w *world) enrpUp(id AssocID, name string) {
	w.t.Helper()
	w.handle(AssocUp{Assoc: id, Peer: peers("10.0.9.9:9901"), Via: rserpool.ViaKernel, ENRP: true, Identity: name})
}

// TestRightsRegistrars: only registrars speak ENRP. Nothing of others is handled.
func TestRightsRegistrars(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.logged(t, `the association with 10.0.9.9 is closed: certificate of `+web1+` is not that of a registrar (registrars)`, func() { w.enrpUp(2, web1) })
	w.want("2 abort")
	w.tell(2, &enrp.Presence{Sender: greater, ReplyRequired: true})
	w.tell(2, update(greater, enrp.AddPE, "web", named(1, greater, web1)))
	w.handle(AssocAddrs{Assoc: 2, Peer: peers("10.0.9.9:9901")})
	w.want()
	w.wantElements()
	w.down(2)
	w.enrpUp(3, "")
	w.want("3 abort")
	if s := w.r.Stats(); s.RightsRefused.Associations != 2 || s.Ignored.NoAssoc != 2 || s.Peers[PeerActive] != 0 {
		t.Errorf("got %+v, ignored %+v, peers %v", s.RightsRefused, s.Ignored, s.Peers)
	}
	w.meetAs(4, greater, ns1)
	w.tell(4, update(greater, enrp.AddPE, "web", named(1, greater, web1)))
	w.wantHomes("web:1@20000002")
	w.handle(AssocUp{Assoc: 5, Peer: peers("10.0.9.5"), Identity: "spiffe://example.org/" + fmt.Sprintf("%0300d", 1)})
	w.want("5 abort")
}

// TestRightsConnect: a configured place where somebody else is: the log says it once.
func TestRightsConnect(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{}, func(c *Config) { c.Peers = peers("10.0.9.9:9901") })
	w.want("connect #1 via 0 to [10.0.9.9:9901]")
	w.handle(Connecting{Ref: 1, Assoc: 2})
	w.logged(t, "is not that of a registrar", func() { w.enrpUp(2, web1) })
	w.want("2 abort")
	w.down(2)
	w.pass(time.Second)
	w.want("connect #2 via 0 to [10.0.9.9:9901]")
	w.handle(Connecting{Ref: 2, Assoc: 3})
	w.logs = true
	w.enrpUp(3, web1)
	w.want("3 abort")
	w.down(3)
	w.pass(time.Second)
	w.logs, w.trace = false, nil
	w.handle(Connecting{Ref: 3, Assoc: 4})
	w.enrpUp(4, ns1)
	w.skip("presence")
}

// TestRightsOfPeers: an element of a peer whose identity may not register in its pool counts
// for the checksum, and is in no answer.
func TestRightsOfPeers(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.meetAs(2, greater, ns1)
	w.meetAs(3, third, ns1)
	w.logged(t, `pool element 00000001 of pool "web", whose home is registrar 20000002, is set aside: certificate of `+bank1+` may not register in pool "web" (allow)`, func() {
		w.tell(2, update(greater, enrp.AddPE, "web", named(1, greater, bank1)))
		w.tell(2, update(greater, enrp.AddPE, "web", named(1, greater, bank1)))
	})
	w.tell(2, update(greater, enrp.AddPE, "web", named(2, greater, "")))
	w.wantHomes()
	w.trust(1, web1, "10.0.0.1")
	w.recv(1, resolve("web"))
	w.want("1 < resolution web cause 9")
	var sum enrp.Checksum
	sum.Add("web", 1)
	sum.Add("web", 2)
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sum.Value()})
	w.want() // no audit
	w.tell(3, &enrp.HandleTableRequest{Sender: third})
	w.want("3 < handle_table_response to 30000003 web:1@20000002 web:2@20000002")
	w.tell(2, update(greater, enrp.AddPE, "web", named(2, greater, web1)))
	w.wantHomes("web:2@20000002")
	if s := w.r.Stats(); s.RightsRefused.Elements != 2 || s.Misfits != 1 {
		t.Errorf("got %+v, %d set aside", s.RightsRefused, s.Misfits)
	}
}

// TestRightsUsurp: a peer cannot take the identifier of an element for one that may not
// register.
func TestRightsUsurp(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.meetAs(2, smaller, ns1)
	w.meetAs(3, third, ns1)
	w.trust(1, web1, "10.0.0.1")
	w.recv(1, reg("web", 1, "10.0.0.1"))
	w.tell(3, update(third, enrp.AddPE, "web", named(2, third, web2)))
	w.skip("registration granted", "handle_update ADD_PE")
	for _, pe := range []rserpool.PoolElement{named(1, smaller, bank1), named(2, smaller, "")} {
		w.tell(2, update(smaller, enrp.AddPE, "web", pe))
		m := update(smaller, enrp.DelPE, "web", pe)
		m.Suspect = true
		w.tell(2, m)
	}
	w.want()
	w.wantHomes("web:1@10000001", "web:2@30000003")
	if s := w.r.Stats(); s.UpdatesRefused != 4 {
		t.Errorf("%d updates refused", s.UpdatesRefused)
	}
	w.tell(2, update(smaller, enrp.AddPE, "web", named(1, smaller, web2))) // as without rights
	w.tell(2, update(smaller, enrp.AddPE, "web", named(2, smaller, web2)))
	w.wantHomes("web:1@fffffff", "web:2@fffffff")
	w.skip("handle_update ADD_PE")
}

// TestRightsProbe: if another identity answers at an element's place, the element is silent. It
// is supervised again when it answers itself.
func TestRightsProbe(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.trust(1, web1, "10.0.0.1")
	w.recv(1, reg("web", 1, "10.0.0.1"))
	w.recv(1, reg("web", 2, "10.0.0.1"))
	w.left(1)
	w.skip("registration granted", "connect")
	w.handle(Connecting{Ref: 1, Assoc: 7})
	w.logged(t, `pool element 00000001 of pool "web" does not answer: certificate of `+web2+` does at its place, and certificate of `+web1+` has registered it`, func() {
		w.trust(7, web2, "10.0.0.1")
	})
	w.wantSuspects("web:1", "web:2")
	w.recv(7, ack("web", 1))
	w.recv(7, reg("web", 1, "10.0.0.1"))
	w.want("7 < registration rejected web:1 cause 4")
	w.wantSuspects("web:1", "web:2")
	w.pass(20 * time.Second) // the association of the other one is still there, and no reason to call
	w.skip()
	w.down(7)
	w.until(time.Minute)
	w.want("connect #2 via 1 to [10.0.0.1:40000]")
	w.handle(Connecting{Ref: 2, Assoc: 8})
	w.trust(8, web1, "10.0.0.1")
	w.want("8 < keep-alive web:1 from 10000001", "8 < keep-alive web:2 from 10000001")
	w.recv(8, ack("web", 1))
	w.recv(8, ack("web", 2))
	w.wantSuspects()
	w.wantElements("web:1", "web:2")
	w.trace = nil
	if s := w.r.Stats(); s.RightsRefused.Elements < 2 || s.RightsRefused.Elements > 20 {
		t.Errorf("got %+v", s.RightsRefused)
	}
}

// TestRightsProbeDenied: the same if that one may do nothing at all.
func TestRightsProbeDenied(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{Deny: []string{web2}})
	w.trust(1, web1, "10.0.0.1")
	w.recv(1, reg("web", 1, "10.0.0.1"))
	w.left(1)
	w.skip("registration granted", "connect")
	w.handle(Connecting{Ref: 1, Assoc: 7})
	w.trust(7, web2, "10.0.0.1")
	w.want("7 abort")
	w.recv(7, ack("web", 1))
	w.down(7)
	w.want()
	w.wantSuspects("web:1")
}

// TestRightsProbeSome: of the elements at one place, those of the identity that answers are
// supervised, whether they were asked yet or not.
func TestRightsProbeSome(t *testing.T) {
	for _, n := range []uint32{3, 3 * askWindow} {
		w := newTrustWorld(t, identity.Rules{Deny: []string{"dns:none"}})
		w.meetAs(9, greater, ns1)
		for id := range n {
			w.tell(9, update(greater, enrp.AddPE, "web", named(id+1, greater, []string{web1, web2}[id%2])))
		}
		w.logs = false
		w.down(9)
		w.pass(11 * time.Second) // the takeover
		var call uint64
		for _, line := range w.trace {
			_, _ = fmt.Sscanf(line, "connect #%d via 0 to [10.0.1.1:40000]", &call)
		}
		w.trace = nil
		w.handle(Connecting{Ref: call, Assoc: 7})
		w.trust(7, web1, "10.0.1.1")
		for id := range n {
			if id%4 == 0 { // half of those of web1 answer
				w.recv(7, ack("web", id+1))
			}
		}
		w.pass(20 * time.Second)
		for _, x := range w.r.allEntries() {
			e := x.Note.own
			if e == nil {
				t.Fatalf("element %v was not taken over", x.ID())
			}
			if mine := x.PE().Identity == web1; mine != (e.assoc != nil && e.assoc.id == 7) {
				t.Errorf("element %v of %s: association %v", x.ID(), x.PE().Identity, e.assoc)
			}
			if x.PE().Identity == web2 && !e.isSuspect() {
				t.Errorf("element %v of another identity is no suspect", x.ID())
			}
		}
		w.trace = nil
	}
}

// TestRightsTakeover: an heir takes over no element that may not register, and none at whose
// place another identity answers.
func TestRightsTakeover(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.meetAs(9, greater, ns1)
	w.meetAs(8, third, ns1)
	w.tell(8, update(third, enrp.AddPE, "web", named(1, third, web1)))
	w.tell(8, update(third, enrp.AddPE, "web", named(2, third, bank1)))
	w.down(8)
	w.pass(5 * time.Second)
	w.skip("connect", "init_takeover")
	w.tell(9, &enrp.InitTakeoverAck{Sender: greater, Target: third})
	w.pass(time.Millisecond)
	w.want("9 < takeover_server 30000003", "9 < handle_update DEL_PE web:2@30000003", "connect #1 via 0 to [10.0.1.1:40000]")
	w.handle(Connecting{Ref: 1, Assoc: 7})
	w.trust(7, web2, "10.0.1.1")
	w.want("9 < handle_update DEL_PE web:1@10000001?0s")
	w.wantSuspects("web:1")
	if s := w.r.Stats(); s.Removed[RemovedUnauthorized] != 1 || s.Own != 1 {
		t.Errorf("removed %v, %d own", s.Removed, s.Own)
	}
}

// TestRightsRestore: the stored state keeps identities. An element that may not register any
// more is left out, and another identity is not taken for one that may.
func TestRightsRestore(t *testing.T) {
	before := newTrustWorld(t, identity.Rules{})
	for i, name := range []string{web1, web2} {
		addr := fmt.Sprintf("10.0.0.%d", i+1)
		before.trust(AssocID(i+1), name, addr)
		before.recv(AssocID(i+1), reg("web", uint32(i+1), addr))
	}
	before.trace = nil
	w := restarted(t, before, time.Minute, func(c *Config) { c.Rights = rights(t, identity.Rules{Deny: []string{web2}}) })
	w.wantElements("web:1")
	w.logged(t, "started with 1 pool element of the stored state, without 1 whose identities may not register in their pools", w.serve)
	w.want("connect #1 via 1 to [10.0.0.1:40000]")
	w.handle(Connecting{Ref: 1, Assoc: 7})
	w.trust(7, bank1, "10.0.0.1")
	w.want()
	w.recv(7, ack("web", 1))
	w.wantStates("web:1 suspect") // though the guard is on
	w.down(7)
	w.until(time.Minute)
	w.want("connect #2 via 1 to [10.0.0.1:40000]")
	w.handle(Connecting{Ref: 2, Assoc: 8})
	w.trust(8, web1, "10.0.0.1")
	w.want("8 < keep-alive web:1 from 10000001")
	w.recv(8, ack("web", 1))
	w.wantStates("web:1 member")
}

// TestTrustLines: an element that goes because of new rights has one line in the log, also if its
// identity may do nothing, so that its association goes as well. That of a user has one, too.
func TestTrustLines(t *testing.T) {
	for _, tt := range []struct {
		name, deny string
		only       []string // each is in one line of the log
	}{
		{"an element", web1, []string{
			`pool element 00000001 of pool "web" is removed: certificate of ` + web1 + ` may not register in pool "web" (deny); it was registered at`,
			web1, "00000001", "10.0.0.1",
		}},
		{"a user", "dns:user", []string{"the association with 10.0.0.2 is closed: certificate of dns:user may do nothing (deny)", "log "}},
	} {
		for _, only := range tt.only {
			t.Run(tt.name, func(t *testing.T) {
				w := newTrustWorld(t, identity.Rules{})
				w.trust(1, web1, "10.0.0.1")
				w.recv(1, reg("web", 1, "10.0.0.1"))
				w.trust(2, "dns:user", "10.0.0.2")
				w.logged(t, only, func() { w.handle(Trust{Rights: rights(t, identity.Rules{Deny: []string{tt.deny}})}) })
			})
		}
	}
}

// TestTrust: new rights count for all that is there.
func TestTrust(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.meetAs(9, greater, ns1)
	w.enrpUp(8, ns1+"b")
	w.tell(8, &enrp.Presence{Sender: third})
	w.trust(1, web1, "10.0.0.1")
	w.trust(2, web2, "10.0.0.2")
	w.trust(3, "dns:user", "10.0.0.3")
	w.recv(1, reg("web", 1, "10.0.0.1"))
	w.recv(2, reg("web", 2, "10.0.0.2"))
	for id, name := range []string{web1, bank1} {
		w.tell(9, update(greater, enrp.AddPE, "web", named(uint32(id+3), greater, name)))
	}
	w.recv(3, &asap.HandleResolution{Handle: "web", Subscribe: true})
	w.wantHomes("web:1@10000001", "web:2@10000001", "web:3@20000002")
	w.trace = nil

	w.handle(Trust{Rights: rights(t, identity.Rules{
		Deny:       []string{ns1 + "b", web1},
		Allow:      []identity.Allow{{Pools: "web", Names: bank1}},
		Resolvers:  []string{"dns:nobody"},
		Registrars: nil,
	})})
	w.want(
		"8 abort", "1 abort", "3 < resolution web cause a",
		"9 < handle_update DEL_PE web:1@10000001", "1 < deregistration web:1",
	)
	w.wantHomes("web:2@10000001", "web:4@20000002")
	w.recv(1, reg("web", 1, "10.0.0.1"))
	w.tell(8, update(third, enrp.AddPE, "web", named(5, third, web2)))
	w.want()
	w.down(1)
	w.down(8)
	w.trust(1, web1, "10.0.0.1")
	w.want("1 abort")
	w.handle(Trust{Rights: rights(t, identity.Rules{Registrars: []string{"dns:ns"}})})
	w.wantHomes("web:2@10000001", "web:3@20000002")
	w.skip("abort", "connect")
	if s := w.r.Stats(); s.Removed[RemovedUnauthorized] != 1 || s.Subscriptions != 0 || s.Peers[PeerActive] != 0 {
		t.Errorf("removed %v, %d subscriptions, peers %v", s.Removed, s.Subscriptions, s.Peers)
	}
	w.handle(Trust{})
	w.wantHomes("web:2@10000001", "web:3@20000002", "web:4@20000002")
}

// TestTrustMany: new rights look at many elements in parts, also if they change meanwhile.
func TestTrustMany(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	const n = 3*moveBatch + 7
	w.trust(1, web1, "10.0.0.1")
	w.trust(2, web2, "10.0.0.2")
	quick := func(ev Event) {
		for _, a := range w.r.Handle(w.now, ev) {
			if k, ok := a.(Keep); ok {
				w.kept.note([]Action{k})
			}
		}
	}
	for id := range uint32(n) {
		name, addr := AssocID(1+id%2), fmt.Sprintf("10.0.0.%d", 1+id%2)
		quick(Received{Assoc: name, PPID: asap.PPID, Data: encode(t, reg("web", id+1, addr))})
	}
	trust := func(deny string) { quick(Trust{Rights: rights(t, identity.Rules{Deny: []string{deny}})}) }
	trust("dns:none")
	if at, ok := w.r.NextDeadline(); !ok || at.Sub(w.now) > time.Second || w.r.review.cursor == nil {
		t.Error("all elements were looked at in one step")
	}
	trust(web2)
	if got := w.r.Stats().Elements; got != n-moveBatch/2+1 {
		t.Errorf("%d elements are left after one step, want %d", got, n-moveBatch/2+1)
	}
	w.now = w.now.Add(takeGap)
	quick(Tick{})
	trust("dns:none")
	trust(web2)
	for range 10 {
		w.now = w.now.Add(takeGap)
		quick(Tick{})
	}
	if s := w.r.Stats(); s.Elements != (n+1)/2 || s.Removed[RemovedUnauthorized] != n/2 || w.r.review.cursor != nil {
		t.Errorf("%d elements are left, %d removed, want %d", s.Elements, s.Removed[RemovedUnauthorized], (n+1)/2)
	}
	w.check()
}

// TestRightsUntrusted: the certificate of an element is not accepted any more. The element is
// called once: one that has a new certificate stays, any other is removed, also from a pool
// that has no more elements.
func TestRightsUntrusted(t *testing.T) {
	for _, renewed := range []bool{true, false} {
		t.Run(fmt.Sprintf("renewed %v", renewed), func(t *testing.T) {
			w := newTrustWorld(t, identity.Rules{})
			w.trust(1, web1, "10.0.0.1")
			w.recv(1, reg("web", 1, "10.0.0.1"))
			w.handle(AssocDown{Assoc: 1, Reason: DownUntrusted})
			w.skip("registration granted", "connect")
			w.wantElements("web:1")
			w.handle(Connecting{Ref: 1, Assoc: 7})
			if renewed {
				w.trust(7, web1, "10.0.0.1")
				w.want("7 < keep-alive web:1 from 10000001")
				w.recv(7, ack("web", 1))
				w.wantElements("web:1")
				return
			}
			w.handle(AssocDown{Assoc: 7, Reason: DownUntrusted})
			w.wantElements()
			if n := w.r.Stats().Removed[RemovedUntrusted]; n != 1 {
				t.Errorf("%d elements removed for their certificate, want 1", n)
			}
		})
	}
}
