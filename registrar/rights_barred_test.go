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

// deny replaces the rights by those that deny names everything.
func (w *world) deny(names ...string) {
	w.t.Helper()
	w.handle(Trust{Rights: rights(w.t, identity.Rules{Deny: names})})
}

// TestBarred: nothing of an association that was closed because of its identity is left: no
// subscription, claim, or registration that waits, and no answer goes to it.
func TestBarred(t *testing.T) {
	const user = "dns:user.example"
	for _, tt := range []struct {
		name   string
		denied string
		before func(w *world)
		want   []string
	}{
		{"subscription", user, func(w *world) {
			w.trust(3, user, "10.0.0.3")
			w.recv(3, &asap.HandleResolution{Handle: "web", Subscribe: true})
		}, []string{"3 abort"}},
		{"claim", web1, func(w *world) {
			w.trust(3, web1, "10.0.0.3")
			w.recv(3, reg("web", 1, "10.0.0.3"))
		}, []string{"1 abort", "3 abort", "1 < deregistration web:1"}},
		{"held registration", bank1, func(w *world) {
			w.handle(AssocUp{Assoc: 3, Peer: peers("10.0.0.3"), Claimed: peers("10.0.0.4"), Via: rserpool.ViaKernel, Identity: bank1})
			w.recv(3, reg("bank", 1, "10.0.0.4"))
			w.want()
		}, []string{"3 abort"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newTrustWorld(t, identity.Rules{})
			w.trust(1, web1, "10.0.0.1")
			w.recv(1, reg("web", 1, "10.0.0.1"))
			w.trace = nil
			tt.before(w)
			w.trace = nil
			w.deny(tt.denied)
			w.want(tt.want...)
			w.trust(2, web2, "10.0.0.2")
			w.recv(2, reg("web", 2, "10.0.0.2")) // news for a subscriber
			w.want("2 < registration granted web:2")
			w.pass(time.Minute) // over which nobody acknowledges
			for _, line := range w.trace {
				if line[0] == '3' {
					t.Errorf("got %q for an association that may not be", line)
				}
			}
			w.trace = nil
			w.handle(AssocAddrs{Assoc: 3, Peer: peers("10.0.0.3", "10.0.0.4")})
			w.want()
			if n := w.r.Stats().Subscriptions; n != 0 {
				t.Errorf("%d subscriptions are left", n)
			}
		})
	}
}

// TestBarredOnce: rights that still forbid an association do not close it once more.
func TestBarredOnce(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{Deny: []string{web1}})
	w.trust(1, web1, "10.0.0.1")
	w.want("1 abort")
	w.deny(web1)
	w.want()
	if n := w.r.Stats().RightsRefused.Associations; n != 1 {
		t.Errorf("%d associations refused, want 1", n)
	}
}

// TestBarredAddress: an association that may not be does not stand for its address, whatever
// the transport tells of its addresses. The elements there are called.
func TestBarredAddress(t *testing.T) {
	for _, told := range []bool{false, true} {
		t.Run(fmt.Sprintf("addresses told %v", told), func(t *testing.T) {
			w := newTrustWorld(t, identity.Rules{Deny: []string{web2}})
			w.trust(1, web1, "10.0.0.1")
			w.recv(1, reg("web", 1, "10.0.0.1"))
			w.trust(7, web2, "10.0.0.1")
			w.want("1 < registration granted web:1", "7 abort")
			if told {
				w.handle(AssocAddrs{Assoc: 7, Peer: peers("10.0.0.1")})
			}
			w.left(1)
			w.want("connect #1 via 1 to [10.0.0.1:40000]")
		})
	}
}

// TestBarredLinks: a registrar with several associations that may not be one any more is sent
// nothing over any of them.
func TestBarredLinks(t *testing.T) {
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("second one of the peer %v", known), func(t *testing.T) {
			w := newTrustWorld(t, identity.Rules{})
			info := rserpool.ServerInformation{ID: greater, Transport: rserpool.Transport{Type: rserpool.SCTP, Port: 9901, Addrs: addrsOf("10.0.9.9")}}
			w.meetAs(8, greater, ns1)
			w.tell(8, &enrp.Presence{Sender: greater, Info: info})
			w.enrpUp(9, ns1)
			if known {
				w.tell(9, &enrp.Presence{Sender: greater, Info: info})
			}
			w.trace = nil
			w.deny(ns1)
			w.pass(time.Millisecond)
			w.want("8 abort", "9 abort")
			w.handle(Received{Assoc: 9, PPID: enrp.PPID, Data: []byte{1}})
			if n := w.r.Stats().Ignored.NoAssoc; n != 1 {
				t.Errorf("%d messages ignored, want 1", n)
			}
		})
	}
}

// TestBarredPlace: the log says once who is at the place of a registrar and may not be one, and
// once more after new rights.
func TestBarredPlace(t *testing.T) {
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("place of a peer %v", known), func(t *testing.T) {
			w := newTrustWorld(t, identity.Rules{}, func(c *Config) {
				if !known {
					c.Peers = peers("10.0.9.9:9901")
				}
			})
			call := uint64(1)
			if known {
				w.meetAs(2, greater, ns1)
				w.tell(2, &enrp.Presence{Sender: greater, Info: rserpool.ServerInformation{ID: greater, Transport: rserpool.Transport{
					Type: rserpool.SCTP, Port: 9901, Addrs: addrsOf("10.0.9.9"),
				}}})
				w.tell(2, update(greater, enrp.AddPE, "web", named(1, greater, web1))) // so that it is not forgotten
				w.down(2)
			}
			w.trace = nil
			lines := 0
			meet := func() {
				t.Helper()
				id := AssocID(10 + call)
				w.handle(Connecting{Ref: call, Assoc: id})
				call++
				w.logs = true
				w.enrpUp(id, web1)
				for _, line := range w.trace {
					if line == `log the association with 10.0.9.9 is closed: certificate of `+web1+` is not that of a registrar (registrars)` {
						lines++
					}
				}
				w.logs, w.trace = false, nil
				w.down(id)
				w.pass(time.Second)
				w.trace = nil
			}
			meet()
			meet()
			if lines != 1 {
				t.Errorf("%d lines in the log before the change, want 1", lines)
			}
			w.deny("dns:none")
			meet()
			meet()
			if lines != 2 {
				t.Errorf("%d lines in the log, want 2", lines)
			}
			w.handle(Connecting{Ref: call, Assoc: 30}) // a registrar is there for a while
			call++
			w.enrpUp(30, ns1)
			w.down(30)
			w.pass(time.Second)
			meet()
			if lines != 3 {
				t.Errorf("%d lines in the log after a registrar was there, want 3", lines)
			}
		})
	}
}

// TestRightsUsurpSuspect: a peer that names a silent element as its own suspect does not get it
// for an identity that may not register, whatever this registrar knows of the element.
func TestRightsUsurpSuspect(t *testing.T) {
	for _, tt := range []struct {
		name     string
		identity string
		home     rserpool.ServerID
	}{{"usurped", bank1, testServer}, {"nobody's", "", testServer}, {"its own", web1, smaller}} {
		suspect := func(w *world) {
			m := update(smaller, enrp.DelPE, "web", named(1, smaller, tt.identity))
			m.Suspect, m.Silent = true, time.Second
			w.tell(2, m)
			x := w.r.ledger.Find("web", 1)
			if x == nil || x.Roster().Home() != tt.home {
				t.Errorf("%s: the element has another home than %v: %+v", tt.name, tt.home, x)
			}
			if w.trace = nil; x != nil && x.PE().Identity != web1 {
				t.Errorf("%s: the element is one of %q", tt.name, x.PE().Identity)
			}
		}
		t.Run(tt.name+", suspect", func(*testing.T) {
			w := newTrustWorld(t, identity.Rules{})
			w.meetAs(2, smaller, ns1)
			w.trust(1, web1, "10.0.0.1")
			w.recv(1, reg("web", 1, "10.0.0.1"))
			w.pass(15 * time.Second)
			w.trace = nil
			w.wantSuspects("web:1")
			suspect(w)
		})
		t.Run(tt.name+", unconfirmed", func(*testing.T) {
			before := newTrustWorld(t, identity.Rules{})
			before.trust(1, web1, "10.0.0.1")
			before.recv(1, reg("web", 1, "10.0.0.1"))
			w := restarted(t, before, time.Second, func(c *Config) { c.Rights = rights(t, identity.Rules{}) })
			w.serve()
			w.wantStates("web:1 unconfirmed")
			w.trace = nil
			w.meetAs(2, smaller, ns1)
			suspect(w)
		})
	}
}

// TestRightsUsurpSelf: a home may name its own element with another identity, and one that is
// set aside belongs to whom names it last. It stays set aside if it may not register.
func TestRightsUsurpSelf(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.meetAs(2, smaller, ns1)
	w.meetAs(3, third, ns1)
	w.tell(2, update(smaller, enrp.AddPE, "web", named(1, smaller, web1)))
	w.wantHomes("web:1@fffffff")
	w.tell(2, update(smaller, enrp.AddPE, "web", named(1, smaller, bank1)))
	w.wantHomes()
	give := named(1, third, bank1) // its home gives it to another one
	w.tell(2, update(smaller, enrp.AddPE, "web", give))
	if x := w.r.ledger.Find("web", 1); x == nil || x.Roster().Home() != third || !x.Aside() {
		t.Errorf("got %+v, want an element of %v that is set aside", x, third)
	}
	if n := w.r.Stats().UpdatesRefused; n != 0 {
		t.Errorf("%d updates refused", n)
	}
}

// TestRightsMentor: a mentor names elements that this registrar had before. Those that may not
// register do not become its own, and it knows better which identities the others have.
func TestRightsMentor(t *testing.T) {
	before := newTrustWorld(t, identity.Rules{})
	before.trust(1, web1, "10.0.0.1")
	before.recv(1, reg("web", 1, "10.0.0.1"))
	w := restarted(t, before, time.Second, func(c *Config) {
		c.Rights, c.Peers = rights(t, identity.Rules{}), peers("10.0.9.9:9901")
	})
	w.handle(Serving{Addrs: peers("10.0.0.9:3863"), ENRP: peers("10.0.0.9:9901")})
	w.meetAs(2, greater, ns1)
	w.trace = nil
	w.tell(2, &enrp.ListResponse{Sender: greater})
	table := enrp.PoolEntry{Handle: "web", Suspects: map[int]time.Duration{2: time.Second, 4: time.Second}}
	for i, name := range []string{web2, bank1, bank1, web2, web2} {
		table.Elements = append(table.Elements, named(uint32(i+1), testServer, name))
	}
	w.want("2 < handle_table_request to 20000002")
	w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{table}})
	got := map[rserpool.PEID]string{}
	for _, x := range w.r.allEntries() {
		if x.Note.own == nil {
			t.Errorf("element %v is not an own one", x.ID())
		}
		got[x.ID()] = x.PE().Identity
	}
	if len(got) != 3 || got[1] != web1 || got[4] != web2 || got[5] != web2 {
		t.Errorf("got own elements %v, want 1 with its identity, 4 and 5", got)
	}
	w.trace = nil
}

// TestTrustTwice: new rights that come while former ones are still looked at leave nothing of
// that, also if there is little to look at any more.
func TestTrustTwice(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	const n = moveBatch + 10
	for id := range AssocID(n) {
		w.r.Handle(w.now, AssocUp{Assoc: id + 1, Peer: peers("10.0.0.1"), Via: rserpool.ViaKernel, Identity: web1})
	}
	w.deny("dns:none")
	for id := range AssocID(n) {
		w.r.Handle(w.now, AssocDown{Assoc: id + 1})
	}
	w.deny("dns:none")
	if w.r.review.timer.Armed() {
		t.Error("the review is over, and has a timer")
	}
	w.pass(time.Second)
}
