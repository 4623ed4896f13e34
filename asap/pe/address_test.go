package pe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func addrs(list ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func TestSettle(t *testing.T) {
	has := func(a netip.Addr) bool { return a.String() != "10.0.0.9" }
	for _, c := range []struct {
		name       string
		some, want []netip.Addr
		most       int
		settled    string
	}{
		{"first", nil, addrs("10.0.0.1", "10.0.0.2"), 32, "[10.0.0.1 10.0.0.2]"},
		{"first, one", nil, addrs("10.0.0.1", "10.0.0.2"), 1, "[10.0.0.1]"},
		{"none", nil, nil, 32, "[]"},
		{"no way out", addrs("10.0.0.1"), nil, 32, "[10.0.0.1]"},
		{"same in another order", addrs("10.0.0.1", "10.0.0.2"), addrs("10.0.0.2", "10.0.0.1"), 32, "[10.0.0.1 10.0.0.2]"},
		{"one, still good", addrs("10.0.0.2"), addrs("10.0.0.1", "10.0.0.2"), 1, "[10.0.0.2]"},
		{"another", addrs("10.0.0.1"), addrs("10.0.0.2"), 32, "[10.0.0.2]"},
		{"one, another", addrs("10.0.0.1"), addrs("10.0.0.2"), 1, "[10.0.0.2]"},
		{"one more", addrs("10.0.0.1"), addrs("10.0.0.1", "10.0.0.2"), 32, "[10.0.0.1 10.0.0.2]"},
		{"one registrar out of reach", addrs("10.0.0.1", "10.0.0.2"), addrs("10.0.0.1"), 32, "[10.0.0.1 10.0.0.2]"},
		{"one gone", addrs("10.0.0.1", "10.0.0.9"), addrs("10.0.0.1"), 32, "[10.0.0.1]"},
		{"loopback alone for now", addrs("10.0.0.1"), addrs("127.0.0.1"), 32, "[10.0.0.1]"},
		{"loopback alone", addrs("10.0.0.9"), addrs("127.0.0.1"), 32, "[127.0.0.1]"},
		{"no longer loopback", addrs("127.0.0.1"), addrs("10.0.0.1"), 1, "[10.0.0.1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fmt.Sprint(settle(c.some, c.want, c.most, has)); got != c.settled {
				t.Errorf("settles on %s, want %s", got, c.settled)
			}
		})
	}
}

// machine has addresses that a test changes.
type machine struct {
	mu    sync.Mutex
	addrs []netip.Addr
}

func (m *machine) set(list ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addrs = addrs(list...)
}

func (m *machine) toward(list []rserpool.Registrar) ([]netip.Addr, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range list {
		if len(r.Addrs) > 0 && len(m.addrs) > 0 {
			return m.addrs, nil
		}
	}
	return nil, errors.New("this machine has no address")
}

// follow has an element find its addresses by itself.
func (m *machine) follow(c *Config) {
	c.Transport.Addrs = nil
	c.toward = m.toward
	c.has = func(netip.Addr) bool { return false }
}

// where gives the addresses of the last registration, and from where it came.
func (r *registrar) where() (registered, from string) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.got {
		if m, ok := m.(*asap.Registration); ok {
			registered = fmt.Sprint(m.Element.UserTransport.Addrs)
		}
	}
	var all []string
	for _, p := range r.peers {
		all = append(all, p[0].Addr().String())
	}
	return registered, strings.Join(all, " ")
}

func (r *registrar) wantWhere(registered, from string) {
	r.t.Helper()
	if gr, gf := r.where(); gr != registered || gf != from {
		r.t.Errorf("registered %s from %s, want %s from %s", gr, gf, registered, from)
	}
}

// TestNoAddressAtFirst: an element runs without an address, and registers when
// there is one.
func TestNoAddressAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw, m := sctptest.NewNetwork(), &machine{}
		r1 := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r1)
		e := start(t, nw, m.follow)
		time.Sleep(100 * time.Second)
		if !e.saw(NoRegistrar) || e.State().Registered {
			t.Errorf("events %v, want NoRegistrar", e.events)
		}
		m.set("10.0.0.11")
		time.Sleep(lookInterval)
		r1.wantWhere("[10.0.0.11]", "10.0.0.11")
		if s := e.State(); !s.Registered || fmt.Sprint(s.Addrs) != "[10.0.0.11]" {
			t.Errorf("state %+v, want registered", s)
		}
		if err := e.end(); err != nil {
			t.Error(err)
		}
	})
}

// TestAddressChanges: a registered element registers again from another address,
// with the same identifier, and closes the former association then. The
// registrar sees no deregistration.
func TestAddressChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw, m := sctptest.NewNetwork(), &machine{}
		r1, r2 := newRegistrar(t, nw, "10.0.0.1:3863"), newRegistrar(t, nw, "10.0.0.2:3863")
		defer closed(t, r1, r2)
		m.set("10.0.0.11")
		e := start(t, nw, m.follow)
		r1.wantWhere("[10.0.0.11]", "10.0.0.11")
		id := e.State().ID
		m.set("10.0.0.12")
		time.Sleep(lookInterval)
		r1.wantWhere("[10.0.0.12]", "10.0.0.12")
		expect(t, r1, "REGISTRATION REGISTRATION")
		expect(t, r2, "")
		if s := e.State(); !s.Registered || s.ID != id || s.Local[0].Addr() != netip.MustParseAddr("10.0.0.12") {
			t.Errorf("state %+v, want registered as %v from 10.0.0.12", s, id)
		}
		if !e.saw(Readdressed) || e.saw(HomeLost) {
			t.Errorf("events %v, want Readdressed and no HomeLost", e.events)
		}
		time.Sleep(31 * time.Second)
		expect(t, r1, "REGISTRATION")
		if err := e.end(); err != nil {
			t.Error(err)
		}
	})
}

// TestAddressLost: the former address takes its association with it; the next
// hunt takes the new one.
func TestAddressLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw, m := sctptest.NewNetwork(), &machine{}
		r1 := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r1)
		m.set("10.0.0.11")
		e := start(t, nw, m.follow)
		r1.wantWhere("[10.0.0.11]", "10.0.0.11")
		nw.Cut(netip.MustParseAddr("10.0.0.11"), netip.MustParseAddr("10.0.0.1"))
		m.set()
		time.Sleep(2 * time.Minute)
		if e.State().Registered {
			t.Error("still registered")
		}
		m.set("10.0.0.12")
		time.Sleep(lookInterval)
		r1.wantWhere("[10.0.0.12]", "10.0.0.12")
		if err := e.end(); err != nil {
			t.Error(err)
		}
	})
}

// TestAddressChangesAtPort: from a port that is named there is one association
// with a registrar, so the former one ends before the new one begins.
func TestAddressChangesAtPort(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.k.readdress(d.now, addrs("10.0.0.12"), false, nil)
	d.collect()
	if d.k.home != 0 || !d.k.hunt.Hunting() || d.k.phase != hunting {
		t.Errorf("home %d, phase %d, want none, and a hunt", d.k.home, d.k.phase)
	}
}

// TestMovedEnds: over the association from the former address an element gives
// no sign of life, which would refuse its own claim to its identifier, but ends
// it, which grants the claim at once.
func TestMovedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw, m := sctptest.NewNetwork(), &machine{}
		r1 := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r1)
		m.set("10.0.0.11")
		e := start(t, nw, m.follow)
		expect(t, r1, "REGISTRATION")
		var old sctp.AssocID
		r1.set(func() {
			for a := range r1.peers {
				old = a
			}
			r1.silent = true
		})
		m.set("10.0.0.12")
		time.Sleep(lookInterval)
		expect(t, r1, "REGISTRATION")
		r1.send(old, &asap.EndpointKeepAlive{Handle: testPool, ID: e.State().ID, HasID: true})
		expect(t, r1, "")
		r1.set(func() {
			if r1.silent = false; r1.peers[old] != nil {
				t.Error("the former association goes on")
			}
		})
		time.Sleep(31 * time.Second)
		expect(t, r1, "REGISTRATION")
		if err := e.end(); err != nil {
			t.Error(err)
		}
	})
}

// TestAdvertise: what is registered is not what is bound.
func TestAdvertise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw, m := sctptest.NewNetwork(), &machine{}
		r1 := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r1)
		m.set("10.0.0.11")
		e := start(t, nw, func(c *Config) {
			m.follow(c)
			c.Advertise = addrs("192.0.2.1")
		})
		r1.wantWhere("[192.0.2.1]", "10.0.0.11")
		m.set("10.0.0.12")
		time.Sleep(lookInterval)
		r1.wantWhere("[192.0.2.1]", "10.0.0.12")
		if err := e.end(); err != nil {
			t.Error(err)
		}
	})
}

// TestRegistrarName: a name that cannot be looked up at first, and stands for
// another address later.
func TestRegistrarName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw, m := sctptest.NewNetwork(), &machine{}
		r1, r2 := newRegistrar(t, nw, "10.0.0.1:3863"), newRegistrar(t, nw, "10.0.0.2:3863")
		defer closed(t, r2)
		m.set("10.0.0.11")
		var mu sync.Mutex
		var answer []netip.Addr
		e := start(t, nw, func(c *Config) {
			m.follow(c)
			c.Registrars = []string{"registrar.example.org"}
			c.lookupHost = func(context.Context, string) ([]netip.Addr, error) {
				mu.Lock()
				defer mu.Unlock()
				if answer == nil {
					return nil, errors.New("no such host")
				}
				return answer, nil
			}
		})
		time.Sleep(10 * time.Second)
		if !e.saw(NoRegistrar) {
			t.Errorf("events %v, want NoRegistrar", e.events)
		}
		mu.Lock()
		answer = addrs("10.0.0.1")
		mu.Unlock()
		time.Sleep(20 * time.Second)
		expect(t, r1, "REGISTRATION")
		mu.Lock()
		answer = addrs("10.0.0.2")
		mu.Unlock()
		closed(t, r1)
		time.Sleep(time.Second)
		expect(t, r2, "REGISTRATION")
		if err := e.end(); err != nil {
			t.Error(err)
		}
	})
}

// TestNamedAddressLater: an address that is named and not there yet is bound as
// soon as it is.
func TestNamedAddressLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1 := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r1)
		var mu sync.Mutex
		there := false
		e := start(t, nw, func(c *Config) {
			c.listen = func(l sctp.ListenConfig, h sctp.Handler) (sctp.Endpoint, error) {
				mu.Lock()
				defer mu.Unlock()
				if !there {
					return nil, syscall.EADDRNOTAVAIL
				}
				return nw.Listen(l, h)
			}
		})
		time.Sleep(time.Minute)
		if !e.saw(NoRegistrar) {
			t.Errorf("events %v, want NoRegistrar", e.events)
		}
		mu.Lock()
		there = true
		mu.Unlock()
		time.Sleep(lookInterval)
		r1.wantWhere("[10.0.0.11]", "10.0.0.11")
		if err := e.end(); err != nil {
			t.Error(err)
		}
	})
}

// TestOpenWithoutNetwork: an element names no address where there is none.
func TestOpenWithoutNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw, m := sctptest.NewNetwork(), &machine{}
		at := func() string {
			e := start(t, nw, func(c *Config) {
				m.follow(c)
				c.Transport.Type = rserpool.TCP
			})
			addrs := fmt.Sprint(e.State().Addrs)
			if err := e.end(); err != nil {
				t.Error(err)
			}
			return addrs
		}
		if got := at(); got != "[]" {
			t.Errorf("without a network the element registers %v", got)
		}
		m.set("10.0.0.11", "10.0.0.12")
		if got := at(); got != "[10.0.0.11]" {
			t.Errorf("the element registers %v, want [10.0.0.11]", got)
		}
	})
}

// TestChangedToldOnce: a registrar that registers another address than it was
// offered says so in each response. Both addresses are told, once.
func TestChangedToldOnce(t *testing.T) {
	d := newDriver(t, nil)
	d.register()
	at := func(addr string) (b []byte) {
		b, err := tlv.AppendTransport(nil, &rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: addrs(addr)})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	changed := []rserpool.Cause{{Code: rserpool.CauseInvalidValues, Info: append(at("172.17.0.2"), at("192.0.2.9")...)}}
	d.k.tellChanged(d.now, changed)
	d.k.tellChanged(d.now.Add(time.Hour), changed)
	_, events := d.k.take()
	var told []string
	for _, ev := range events {
		if ev.Type == Warning {
			told = append(told, ev.Err.Error())
		}
	}
	if len(told) != 1 || !strings.Contains(told[0], "172.17.0.2") || !strings.Contains(told[0], "registered is tcp 192.0.2.9 port 80") {
		t.Errorf("told %q, want both addresses once", told)
	}
}

// TestOtherProcessTold: another process of the host has taken the identifier, and the registrar
// says so when it grants a registration without effect. The element tells that once.
func TestOtherProcessTold(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	transports := func(ports ...uint16) (b []byte) {
		for _, p := range ports {
			var err error
			if b, err = tlv.AppendTransport(b, &rserpool.Transport{Type: rserpool.TCP, Port: p, Addrs: addrs("10.0.0.11")}); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	warning := []rserpool.Cause{{Code: rserpool.CauseNonUniquePEIdentifier}, {Code: rserpool.CauseInvalidValues, Info: transports(80, 81)}}
	for range 2 {
		d.until(d.now.Sub(d.start) + time.Minute)
		d.receive(1, &asap.RegistrationResponse{Handle: testPool, ID: testID, Causes: warning})
	}
	var told []string
	for _, ev := range d.events {
		if ev.Type == Warning {
			told = append(told, ev.Err.Error())
		}
	}
	want := "another process has registered 11111111 at tcp 10.0.0.11 port 81: clients get that one until it ends; unless it replaces this one, give each its own identifier"
	if len(told) != 1 || told[0] != want {
		t.Errorf("told %q, want once %q", told, want)
	}
	d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID}) // the other one has ended
	d.accept(1)
	d.lives()
}

// TestRejectedNamesAddresses: a refusal for the values names what was offered.
func TestRejectedNamesAddresses(t *testing.T) {
	full := &RejectedError{Pool: "web", ID: 1, Registrar: "10.0.0.1:3863", Causes: []rserpool.Cause{{Code: rserpool.CauseLackOfResources}}}
	if got := full.Error(); !strings.Contains(got, "it is not ready yet") {
		t.Errorf("got %q, which does not say that the registrar may only not be ready yet", got)
	}
	err := &RejectedError{Pool: "web", ID: 1, Registrar: "10.0.0.1:3863", Addrs: addrs("172.17.0.2"), Causes: []rserpool.Cause{{Code: rserpool.CauseInvalidValues}}}
	if !strings.Contains(err.Error(), "offers the addresses [172.17.0.2]") {
		t.Errorf("error %q, want the address", err)
	}
	err.Causes[0].Code = rserpool.CauseInconsistentPolicy
	if strings.Contains(err.Error(), "172.17.0.2") {
		t.Errorf("error %q, want no address", err)
	}
}
