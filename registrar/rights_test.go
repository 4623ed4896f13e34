package registrar

import (
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// The identities of the tests: two hosts of the pool web, one of bank, and a registrar.
const (
	web1  = "spiffe://example.org/rserpool/pool/web/1"
	web2  = "spiffe://example.org/rserpool/pool/web/2"
	bank1 = "spiffe://example.org/rserpool/pool/bank/1"
	ns1   = "spiffe://example.org/rserpool/registrar/ns1"
)

func rights(t testing.TB, rules identity.Rules) *identity.Rights {
	t.Helper()
	r, err := identity.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newTrustWorld has a registrar of a trusted scope.
func newTrustWorld(t *testing.T, rules identity.Rules, change ...func(*Config)) *world {
	t.Helper()
	w := newWorld(t, append(change, func(c *Config) { c.Rights = rights(t, rules) })...)
	w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
	return w
}

// trust establishes an association of an identity.
func (w *world) trust(id AssocID, name, addr string) {
	w.t.Helper()
	w.handle(AssocUp{Assoc: id, Peer: peers(addr), Via: rserpool.ViaKernel, Identity: name})
}

// meetAs has a peer with an identity connect, and skips what is sent.
func (w *world) meetAs(id AssocID, server rserpool.ServerID, name string) {
	w.t.Helper()
	w.handle(AssocUp{Assoc: id, Peer: peers("10.0.9.9:9901"), Via: rserpool.ViaKernel, ENRP: true, Identity: name})
	w.tell(id, &enrp.Presence{Sender: server})
	w.skip("connect", "list_request", "presence", "log")
}

// named is an element of a peer with an identity.
func named(id uint32, home rserpool.ServerID, name string) rserpool.PoolElement {
	e := peerElement(id, home)
	e.Identity = name
	return e
}

// logged counts the log lines with a text, and drops what was done.
func (w *world) logged(t *testing.T, text string, do func()) {
	t.Helper()
	former := w.trace
	w.logs, w.trace = true, nil
	do()
	got := w.trace
	w.logs, w.trace = false, former
	n := 0
	for _, line := range got {
		if strings.HasPrefix(line, "log ") {
			n += strings.Count(line, text)
		} else {
			w.trace = append(w.trace, line)
		}
	}
	if n != 1 {
		t.Errorf("got %q, want one line with %q", got, text)
	}
}

// TestRightsRegistration: an identity registers only where it may.
func TestRightsRegistration(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{Allow: []identity.Allow{{Pools: "shop*", Names: web1}}, Deny: []string{web2}})
	w.trust(1, web1, "10.0.0.1")
	w.recv(1, reg("web", 1, "10.0.0.1"))
	w.recv(1, reg("shop.eu", 1, "10.0.0.1"))
	w.recv(1, reg("web", 1, "10.0.0.1"))
	w.want("1 < registration granted web:1", "1 < registration granted shop.eu:1", "1 < registration granted web:1")
	w.logged(t, `registration of pool element 00000001 in pool "bank" by 10.0.0.1 is refused: certificate of `+web1+` may not register in pool "bank" (allow)`, func() {
		w.recv(1, reg("bank", 1, "10.0.0.1"))
	})
	w.want("1 < registration rejected bank:1 cause a")
	w.trust(2, "", "10.0.0.2")
	w.logged(t, `a peer without a certificate may not register in pool "web" (allow)`, func() { w.recv(2, reg("web", 2, "10.0.0.2")) })
	w.want("2 < registration rejected web:2 cause a")
	w.trust(3, "dns:evil\nlog", "10.0.0.3")
	w.logged(t, `certificate of "dns:evil\nlog" may not register`, func() { w.recv(3, reg("web", 2, "10.0.0.3")) })
	w.trace = nil
	w.trust(4, bank1, "10.0.0.4")
	w.recv(4, reg("web", 1, "10.0.0.4")) // whoever has the identifier
	w.want("4 < registration rejected web:1 cause a")
	w.wantElements("shop.eu:1", "web:1")
	if s := w.r.Stats(); s.RightsRefused.Registrations != 4 || s.Rejections[rserpool.CauseSecurity] != 4 {
		t.Errorf("got %+v, rejections %v", s.RightsRefused, s.Rejections)
	}
	if e := w.r.Space().Pool("web").Element(1); e.Identity != web1 {
		t.Errorf("the element has identity %q", e.Identity)
	}
}

// TestRightsShared: who has the shared secret is one identity, which may do everything.
func TestRightsShared(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.trust(1, identity.Shared, "10.0.0.1")
	w.trust(2, identity.Shared, "10.0.0.2")
	w.recv(1, reg("web", 1, "10.0.0.1"))
	w.want("1 < registration granted web:1")
	w.recv(2, reg("web", 1, "10.0.0.2"))
	w.want("1 < keep-alive web:1 from 10000001") // a claim of another host, as without rights
}

// TestRightsOwn: an identifier belongs to the identity that has registered it: no other one
// gets it from the same host, from another one, or while the element is silent.
func TestRightsOwn(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.trust(1, web1, "10.0.0.1")
	w.trust(2, web2, "10.0.0.1:40001") // on the same host
	w.trust(3, web2, "10.0.0.3")
	w.recv(1, reg("web", 1, "10.0.0.1"))
	w.want("1 < registration granted web:1")
	refused := func() {
		t.Helper()
		w.recv(2, reg("web", 1, "10.0.0.1"))
		w.recv(3, reg("web", 1, "10.0.0.3"))
		w.want("2 < registration rejected web:1 cause 4", "3 < registration rejected web:1 cause 4")
		w.recv(2, dereg("web", 1))
		w.recv(3, dereg("web", 1))
		w.want("2 < deregistration web:1 cause a", "3 < deregistration web:1 cause a")
	}
	refused()
	w.pass(15 * time.Second)
	w.skip("keep-alive")
	w.wantSuspects("web:1")
	refused()
	w.left(1)
	w.skip("connect")
	refused()
	w.refused(1, 9)
	w.recv(3, reg("web", 1, "10.0.0.3"))
	w.want("3 < registration granted web:1")
	if s := w.r.Stats(); s.RightsRefused.Owned != 12 || s.Claims != 0 {
		t.Errorf("got %+v and %d claims", s.RightsRefused, s.Claims)
	}
	w.logged(t, `pool element 00000001 of pool "web" belongs to another identity: certificate of `+web2+` has registered it`, func() {
		w.trust(4, web1, "10.0.0.3:40004")
		w.recv(4, reg("web", 1, "10.0.0.3"))
	})
	w.trust(5, web2, "10.0.0.3:40005") // the same identity on the same host
	w.recv(5, reg("web", 1, "10.0.0.3"))
	w.recv(3, dereg("web", 1)) // superseded
	w.want("4 < registration rejected web:1 cause 4", "5 < registration granted web:1", "3 < deregistration web:1")
	w.wantElements("web:1")
}

// TestRightsOwnForeign: the same for an element of a peer. One whose identity may not register
// in its pool owns nothing.
func TestRightsOwnForeign(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.meetAs(9, greater, ns1)
	w.tell(9, update(greater, enrp.AddPE, "web", named(1, greater, web1)))
	w.tell(9, update(greater, enrp.AddPE, "web", named(2, greater, bank1)))
	w.trust(1, web2, "10.0.1.1:40001")
	w.recv(1, reg("web", 1, "10.0.1.1"))
	w.recv(1, dereg("web", 1))
	w.want("1 < registration rejected web:1 cause 4", "1 < deregistration web:1 cause a")
	w.recv(1, dereg("web", 2))
	w.recv(1, reg("web", 2, "10.0.1.1"))
	w.want("1 < deregistration web:2 cause a", "9 < handle_update ADD_PE web:2@10000001", "1 < registration granted web:2")
	w.tell(9, update(greater, enrp.AddPE, "web", named(3, greater, bank1)))
	w.trust(3, web2, "10.0.3.1") // from another host, too
	w.recv(3, reg("web", 3, "10.0.3.1"))
	w.want("9 < handle_update ADD_PE web:3@10000001", "3 < registration granted web:3")
	w.wantHomes("web:1@20000002", "web:2@10000001", "web:3@10000001")
	w.trust(2, web1, "10.0.1.1")
	w.recv(2, dereg("web", 1))
	w.want("9 < handle_update ADD_PE web:1@10000001", "9 < handle_update DEL_PE web:1@10000001", "2 < deregistration web:1")
}

// TestRightsResolve: who may not resolve gets no element, and cannot report one.
func TestRightsResolve(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{Resolvers: []string{"dns:user.example"}})
	w.trust(1, web1, "10.0.0.1")
	w.recv(1, reg("web", 1, "10.0.0.1"))
	w.trace = nil
	w.trust(2, "", "10.0.0.2")
	w.trust(3, "dns:user.example", "10.0.0.3")
	w.recv(2, resolve("web"))
	w.recv(2, &asap.HandleResolution{Handle: "web", Subscribe: true})
	w.recv(3, resolve("web"))
	w.want("2 < resolution web cause a", "2 < resolution web cause a", "3 < resolution web policy 1 1")
	w.pass(2 * time.Second)
	w.recv(2, unreachable("web", 1))
	w.want("2 < error cause a")
	w.recv(3, unreachable("web", 1))
	w.want("1 < keep-alive web:1 from 10000001")
	if s := w.r.Stats(); s.RightsRefused.Resolutions != 2 || s.RightsRefused.Reports != 1 || s.Unreachable != 1 || s.ResolutionsFailed[rserpool.CauseSecurity] != 2 {
		t.Errorf("got %+v, %d reports, failed %v", s.RightsRefused, s.Unreachable, s.ResolutionsFailed)
	}
}

// TestRightsAnswers: users do not learn identities, peers do. What an element says of its own
// does not count.
func TestRightsAnswers(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.meetAs(9, greater, ns1)
	w.trust(1, web1, "10.0.0.1")
	m := reg("web", 1, "10.0.0.1", func(e *rserpool.PoolElement) { e.Identity = web2 })
	var told []rserpool.PoolElement
	note := func(acts []Action) {
		for _, a := range acts {
			s, ok := a.(*Send)
			if !ok {
				continue
			}
			if strings.Contains(string(s.Data), "spiffe://") != (s.PPID == enrp.PPID) {
				t.Errorf("sent %q over %d", s.Data, s.Assoc)
			}
			if s.PPID != enrp.PPID {
				continue
			}
			switch m, _, _ := enrp.Parse(s.Data); m := m.(type) {
			case *enrp.HandleUpdate:
				told = append(told, m.Element)
			case *enrp.HandleTableResponse:
				told = append(told, m.Pools[0].Elements...)
			}
		}
	}
	note(w.handle(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, m)}))
	note(w.handle(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, resolve("web"))}))
	b, err := (&enrp.HandleTableRequest{Sender: greater, OwnChildrenOnly: true}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	note(w.handle(Received{Assoc: 9, PPID: enrp.PPID, Data: b}))
	if len(told) != 2 || told[0].Identity != web1 || told[1].Identity != web1 {
		t.Errorf("peers were told %+v", told)
	}
	w.trace = nil
}
