package pe

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// registrar is a tiny registrar: it accepts and notes what comes, and does
// what a test scripts.
type registrar struct {
	t  *testing.T
	ep sctp.Endpoint

	mu     sync.Mutex
	got    []asap.Message
	peers  map[sctp.AssocID][]netip.AddrPort
	silent bool
	mute   bool // for resolutions
	bare   bool // answers resolutions without elements
	pool   []rserpool.PoolElement
	reject []rserpool.Cause
}

func newRegistrar(t *testing.T, nw *sctptest.Network, addr string) *registrar {
	t.Helper()
	r := &registrar{t: t, peers: map[sctp.AssocID][]netip.AddrPort{}}
	r.mu.Lock() // until ep is set: calls may come at once
	defer r.mu.Unlock()
	var err error
	r.ep, err = nw.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}}, r.handle)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *registrar) handle(ev sctp.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch ev.Type {
	case sctp.Up:
		r.peers[ev.Assoc] = ev.Peer
	case sctp.Down:
		delete(r.peers, ev.Assoc)
	case sctp.Received:
		if ev.Message.PPID != asap.PPID {
			r.t.Errorf("message with PPID %d, want %d", ev.Message.PPID, asap.PPID)
		}
		m, _, err := asap.Parse(ev.Message.Data)
		if err != nil {
			r.t.Errorf("the element sends an unfit message: %v", err)
			return
		}
		r.got = append(r.got, m)
		if !r.silent {
			r.answer(ev.Assoc, m)
		}
	}
}

func (r *registrar) answer(a sctp.AssocID, m asap.Message) {
	switch m := m.(type) {
	case *asap.Registration:
		r.send(a, &asap.RegistrationResponse{Handle: m.Handle, ID: m.Element.ID, Reject: r.reject != nil, Causes: r.reject})
	case *asap.HandleResolution:
		reply := &asap.HandleResolutionResponse{Handle: m.Handle, Elements: r.pool}
		if m.HasItems {
			reply.Elements = r.pool[:min(len(r.pool), int(m.Items))]
		}
		if m.Handle != testPool || len(r.pool) == 0 {
			reply = &asap.HandleResolutionResponse{Handle: m.Handle, Causes: []rserpool.Cause{{Code: rserpool.CauseUnknownPoolHandle}}}
		}
		if r.bare {
			reply = &asap.HandleResolutionResponse{Handle: m.Handle}
		}
		if !r.mute {
			r.send(a, reply)
		}
	case *asap.Deregistration:
		r.send(a, &asap.DeregistrationResponse{Handle: m.Handle, ID: m.ID, Causes: r.reject})
	}
}

func (r *registrar) send(a sctp.AssocID, m asap.Message) {
	data, err := m.Append(nil)
	if err == nil {
		err = r.ep.Send(a, sctp.Message{Data: data, PPID: asap.PPID})
	}
	if err != nil {
		r.t.Error(err)
	}
}

// heard gives the types of the messages that came, and forgets them.
func (r *registrar) heard() string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var types []string
	for _, m := range r.got {
		types = append(types, strings.TrimPrefix(m.Type().String(), "ASAP_"))
	}
	r.got = nil
	return strings.Join(types, " ")
}

// registration gives the last registration that came.
func (r *registrar) registration() *asap.Registration {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range slices.Backward(r.got) {
		if m, ok := m.(*asap.Registration); ok {
			return m
		}
	}
	r.t.Error("no registration has come")
	return new(asap.Registration)
}

func (r *registrar) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// running is an element that runs on a network in memory.
type running struct {
	*Element
	nw     *sctptest.Network
	mu     sync.Mutex
	events []EventType
}

func start(t *testing.T, nw *sctptest.Network, change func(*Config)) *running {
	t.Helper()
	r := &running{nw: nw}
	cfg := Config{
		Pool:      testPool,
		Transport: rserpool.Transport{Type: rserpool.SCTP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.11")}},
		Policy:    rserpool.Policy{Type: rserpool.LeastUsed},
		Notify: func(ev Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, ev.Type)
		},
		Registrars: []string{"10.0.0.1", "10.0.0.2"},
		listen:     nw.Listen,
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if r.Element, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	return r
}

// end stops the element and gives what Close returns.
func (r *running) end() error { return r.Close() }

func (r *running) saw(typ EventType) bool {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.events, typ)
}

// expect checks what a registrar has heard.
func expect(t *testing.T, r *registrar, want string) {
	t.Helper()
	if got := r.heard(); got != want {
		t.Errorf("the registrar heard %q, want %q", got, want)
	}
}

// closed closes the registrars at the end of a bubble.
func closed(t *testing.T, rs ...*registrar) {
	for _, r := range rs {
		if err := r.ep.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestElement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1 := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r1)
		e := start(t, nw, nil)
		expect(t, r1, "REGISTRATION")
		s := e.State()
		if !s.Registered || s.ID == 0 || s.Registrar != "10.0.0.1:3863" || len(s.Local) != 1 {
			t.Errorf("state %+v, want registered at 10.0.0.1:3863 with an identifier", s)
		}
		time.Sleep(31 * time.Second)
		expect(t, r1, "REGISTRATION")
		if err := e.Update(rserpool.Policy{Type: rserpool.LeastUsed, Load: 7}); err != nil {
			t.Error(err)
		}
		expect(t, r1, "REGISTRATION")
		if e.State().Policy.Load != 7 {
			t.Error("the state does not know the new load")
		}
		if err := e.Update(rserpool.Policy{Type: rserpool.Random}); err == nil {
			t.Error("an element can change its policy")
		}
		e.SetAvailable(false)
		expect(t, r1, "DEREGISTRATION")
		if e.State().Registered {
			t.Error("registered after SetAvailable(false)")
		}
		e.SetAvailable(true)
		expect(t, r1, "REGISTRATION")
		if err := e.end(); err != nil {
			t.Errorf("Close returns %v", err)
		}
		expect(t, r1, "DEREGISTRATION")
		if err := e.Close(); err != nil {
			t.Errorf("the second Close returns %v", err)
		}
		if err := e.Wait(t.Context()); err != nil {
			t.Errorf("Wait of an element that was registered returns %v", err)
		}
		e.SetAvailable(true) // too late, and harmless
		if err := e.Update(rserpool.Policy{Type: rserpool.LeastUsed}); !errors.Is(err, rserpool.ErrClosed) {
			t.Errorf("Update after Close returns %v, want ErrClosed", err)
		}
	})
}

// TestElementFailover: the registrar is killed; the next one has the element
// with the same identifier within a moment.
func TestElementFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1, r2 := newRegistrar(t, nw, "10.0.0.1:3863"), newRegistrar(t, nw, "10.0.0.2:3863")
		defer closed(t, r2)
		e := start(t, nw, nil)
		synctest.Wait()
		id := e.State().ID
		at := time.Now()
		nw.Kill(r1.ep)
		expect(t, r2, "REGISTRATION")
		if s := e.State(); s.ID != id || s.Registrar != "10.0.0.2:3863" || time.Since(at) > time.Second {
			t.Errorf("state %+v after %v, want the same element at 10.0.0.2", s, time.Since(at))
		}
		if err := e.end(); err != nil {
			t.Error(err)
		}
	})
}

// TestElementTakeover: a registrar that the element does not know calls it
// where it listens.
func TestElementTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1, r9 := newRegistrar(t, nw, "10.0.0.1:3863"), newRegistrar(t, nw, "10.0.0.9:3863")
		defer closed(t, r9)
		e := start(t, nw, nil)
		synctest.Wait()
		nw.Kill(r1.ep)
		a := r9.ep.Connect(sctp.Dest{Addrs: e.State().Local})
		synctest.Wait()
		r9.send(a, &asap.EndpointKeepAlive{Home: true, Server: 9, Handle: testPool, ID: e.State().ID, HasID: true})
		expect(t, r9, "ENDPOINT_KEEP_ALIVE_ACK REGISTRATION")
		if s := e.State(); !s.Registered || s.Home != 9 {
			t.Errorf("state %+v, want registered with home 9", s)
		}
		if err := e.end(); err != nil {
			t.Error(err)
		}
		expect(t, r9, "DEREGISTRATION")
	})
}

func TestElementRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1 := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r1)
		r1.reject = []rserpool.Cause{{Code: rserpool.CauseInconsistentTransportType}}
		e := start(t, nw, nil)
		var rejected *RejectedError
		if err := e.Wait(t.Context()); !errors.As(err, &rejected) || !errors.Is(err, rserpool.CauseInconsistentTransportType) || !strings.Contains(err.Error(), "user transport differs from the pool's") {
			t.Errorf("Wait returns %v, want a RejectedError in words", err)
		}
		expect(t, r1, "REGISTRATION")
		select {
		case <-e.Done():
		default:
			t.Error("the element has not ended")
		}
		if err := e.end(); !errors.As(err, &rejected) {
			t.Errorf("Close returns %v, want a RejectedError", err)
		}
	})
}

// TestElementRefusedLater: an element that was registered is not ended by a
// registrar, and a program can see that it is refused.
func TestElementRefusedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1, r2 := newRegistrar(t, nw, "10.0.0.1:3863"), newRegistrar(t, nw, "10.0.0.2:3863")
		defer closed(t, r1, r2)
		e := start(t, nw, nil)
		synctest.Wait()
		for _, r := range []*registrar{r1, r2} {
			r.set(func() { r.reject = []rserpool.Cause{{Code: rserpool.CauseInconsistentPolicy}} })
		}
		time.Sleep(time.Minute)
		s := e.State()
		var rejected *RejectedError
		if !e.saw(Refused) || !errors.As(s.Refused, &rejected) || !s.Registered || s.Registrar != "10.0.0.1:3863" {
			t.Errorf("state %+v, want a refusal at 10.0.0.1, where it is still registered", s)
		}
		time.Sleep(time.Hour)
		if s := e.State(); s.Registered || s.Registrar != "10.0.0.1:3863" {
			t.Errorf("state %+v, want the registration life over", s)
		}
		r2.set(func() { r2.reject = nil })
		time.Sleep(2 * time.Minute)
		if s := e.State(); !s.Registered || s.Refused != nil || s.Registrar != "10.0.0.2:3863" {
			t.Errorf("state %+v, want registered at 10.0.0.2", s)
		}
		if err := e.end(); err != nil {
			t.Error(err)
		}
	})
}

// TestElementStranger: a stranger that reaches the element's port, asks to
// be its home and then refuses it, does not end or move the element.
func TestElementStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1, stranger := newRegistrar(t, nw, "10.0.0.1:3863"), newRegistrar(t, nw, "10.0.0.66:3863")
		defer closed(t, r1, stranger)
		e := start(t, nw, nil)
		synctest.Wait()
		stranger.reject = []rserpool.Cause{{Code: rserpool.CauseInconsistentPolicy}}
		a := stranger.ep.Connect(sctp.Dest{Addrs: e.State().Local})
		synctest.Wait()
		for range 100 {
			stranger.send(a, &asap.EndpointKeepAlive{Home: true, Server: 66, Handle: testPool, ID: e.State().ID, HasID: true})
			time.Sleep(100 * time.Millisecond)
		}
		expect(t, stranger, "ENDPOINT_KEEP_ALIVE_ACK REGISTRATION"+strings.Repeat(" ENDPOINT_KEEP_ALIVE_ACK", 99))
		if s := e.State(); !s.Registered || s.Registrar != "10.0.0.1:3863" || e.saw(HomeChanged) || !e.saw(AdoptionFailed) {
			t.Errorf("state %+v, want registered at 10.0.0.1", s)
		}
		expect(t, r1, "REGISTRATION REGISTRATION")
		if err := e.end(); err != nil {
			t.Error(err)
		}
	})
}

// TestElementDeregistrationRefused: Close does not return nil.
func TestElementDeregistrationRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1 := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r1)
		e := start(t, nw, nil)
		synctest.Wait()
		r1.set(func() { r1.reject = []rserpool.Cause{{Code: rserpool.CauseSecurity}} })
		var refused *DeregistrationError
		if err := e.end(); !errors.As(err, &refused) {
			t.Errorf("Close returns %v, want a DeregistrationError", err)
		}
	})
}

// TestElementSilentRegistrar: the end is bounded however the registrar
// behaves.
func TestElementSilentRegistrar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1 := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r1)
		e := start(t, nw, nil)
		synctest.Wait()
		r1.set(func() { r1.silent = true })
		at := time.Now()
		if err := e.end(); err == nil || !strings.Contains(err.Error(), "not confirmed") {
			t.Errorf("Close returns %v, want that the deregistration is not confirmed", err)
		}
		if d := time.Since(at); d != 3*time.Second {
			t.Errorf("Close took %v to end, want Timers.Stop", d)
		}
	})
}

// TestElementNoRegistrar: the element waits for a registrar to come.
func TestElementNoRegistrar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		e := start(t, nw, nil)
		time.Sleep(5 * time.Minute)
		if !e.saw(NoRegistrar) {
			t.Error("nobody is told that there is no registrar")
		}
		r2 := newRegistrar(t, nw, "10.0.0.2:3863")
		defer closed(t, r2)
		time.Sleep(2 * time.Minute)
		expect(t, r2, "REGISTRATION"+strings.Repeat(" REGISTRATION", r2.renewals()))
		if !e.saw(Registered) {
			t.Error("the element is not registered")
		}
		if err := e.end(); err != nil {
			t.Error(err)
		}
	})
}

// renewals counts all registrations but the first.
func (r *registrar) renewals() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(0, len(r.got)-1)
}

// TestElementUnavailableAtFirst: a server whose check has not passed yet is not
// registered, and nobody is called.
func TestElementUnavailableAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1 := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r1)
		var e *Element
		cfg := Config{
			Pool: testPool, Policy: rserpool.Policy{Type: rserpool.RoundRobin}, listen: nw.Listen,
			Transport: rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.11")}},
		}
		cfg.Registrars = []string{"10.0.0.1"}
		cfg.Standby = true
		e, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		expect(t, r1, "")
		if len(r1.peers) != 0 {
			t.Error("an association without need")
		}
		e.SetAvailable(true)
		expect(t, r1, "REGISTRATION")
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestElementManyCalls: calls from many goroutines, for the race detector.
func TestElementManyCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1 := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r1)
		e := start(t, nw, nil)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 50 {
					_ = e.Update(rserpool.Policy{Type: rserpool.LeastUsed, Load: uint32(i*100 + j)})
					e.SetAvailable(j%2 == 0)
					_ = e.State()
				}
			})
		}
		wg.Wait()
		e.SetAvailable(true)
		time.Sleep(5 * time.Second)
		if !e.State().Registered {
			t.Error("not registered in the end")
		}
		if err := e.end(); err != nil {
			t.Error(err)
		}
	})
}

func TestConfig(t *testing.T) {
	good := func() Config {
		return Config{
			Pool: testPool, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
			Transport:  rserpool.Transport{Type: rserpool.SCTP, Port: 80},
			Registrars: []string{"10.0.0.1"},
		}
	}
	addr := netip.MustParseAddr
	for _, c := range []struct {
		name, want string // "" for none
		change     func(*Config)
	}{
		{"good", "", func(*Config) {}},
		{"no pool", "no pool handle", func(c *Config) { c.Pool = "" }},
		{"no transport", "no user transport", func(c *Config) { c.Transport.Type = 0 }},
		{"no port", "no port", func(c *Config) { c.Transport.Port = 0 }},
		{"no policy", "no policy", func(c *Config) { c.Policy = rserpool.Policy{} }},
		{"no registrar", "no registrar and no announce group", func(c *Config) { c.Registrars = nil }},
		{"announces alone", "", func(c *Config) {
			c.Registrars, c.AnnounceGroup = nil, netip.MustParseAddrPort("239.0.0.1:3863")
		}},
		{"tcp", "over SCTP, not TCP", func(c *Config) { c.Via = rserpool.ViaTCP }},
		{"tcp to one registrar", "over SCTP, not TCP", func(c *Config) { c.Registrars = []string{"10.0.0.1/tcp"} }},
		{"unfit registrar", "is not ADDRESS", func(c *Config) { c.Registrars = []string{"10.0.0.300"} }},
		{"two sctp addresses", "", func(c *Config) { c.Transport.Addrs = []netip.Addr{addr("10.0.0.1"), addr("2001:db8::1")} }},
		{"two tcp addresses", "only SCTP transports can have several", func(c *Config) {
			c.Transport.Type, c.Transport.Addrs = rserpool.TCP, []netip.Addr{addr("10.0.0.1"), addr("2001:db8::1")}
		}},
		{"public address", "", func(c *Config) { c.Advertise = []netip.Addr{addr("192.0.2.1")} }},
		{"public address for an address", "", func(c *Config) {
			c.Transport.Addrs, c.Advertise = []netip.Addr{addr("10.0.0.1")}, []netip.Addr{addr("192.0.2.1")}
		}},
		{"unspecified public address", "cannot be registered", func(c *Config) { c.Advertise = []netip.Addr{addr("::")} }},
		{"two public addresses", "only SCTP transports can have several", func(c *Config) {
			c.Transport.Type, c.Advertise = rserpool.TCP, []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2")}
		}},
		{"name", "", func(c *Config) { c.Registrars = []string{"registrar.example.org"} }},
		{"unspecified address", "cannot be registered", func(c *Config) { c.Transport.Addrs = []netip.Addr{addr("0.0.0.0")} }},
		{"address not bound", "not among the local addresses", func(c *Config) {
			c.Transport.Addrs, c.Local = []netip.Addr{addr("10.0.0.1")}, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:0")}
		}},
		{"address of any bound", "", func(c *Config) {
			c.Transport.Addrs, c.Local = []netip.Addr{addr("10.0.0.1")}, []netip.AddrPort{netip.MustParseAddrPort("[::]:0")}
		}},
		{"family not bound", "not among the local addresses", func(c *Config) {
			c.Transport.Addrs, c.Local = []netip.Addr{addr("2001:db8::1")}, []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:0")}
		}},
		{"negative timer", "Timers.Stop is -1s: it must not be negative", func(c *Config) { c.Timers.Stop = -time.Second }},
		{"negative attempts", "Timers.MaxRegAttempt is -1", func(c *Config) { c.Timers.MaxRegAttempt = -1 }},
		{"unknown transport of ASAP", "Via is 9: use rserpool.ViaAuto", func(c *Config) { c.Via = 9 }},
		{"unknown dialect", "Dialect is 9: use rserpool.RSPLIB", func(c *Config) { c.Dialect = 9 }},
		{"two ports", "one port", func(c *Config) {
			c.Local = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2")}
		}},
		{"no group", "AnnounceGroup: 1.2.3.4:5 is not a multicast address", func(c *Config) { c.AnnounceGroup = netip.MustParseAddrPort("1.2.3.4:5") }},
		{"TLS with CA alone", "an element needs Cert and Key", func(c *Config) { c.TLS.CA = "ca.pem" }},
		{"TLS without CA", "CA is missing", func(c *Config) { c.TLS.Cert, c.TLS.Key = "cert.pem", "key.pem" }},
		{"TLS by a secret", "", func(c *Config) { c.TLS.Secret = "secret" }},
		{"handle too long", "cannot be registered", func(c *Config) { c.Pool = rserpool.PoolHandle(strings.Repeat("x", 70000)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good()
			c.change(&cfg)
			err := cfg.Validate()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("Validate gives %v, want %q", err, c.want)
			}
		})
	}
}

func TestDrawID(t *testing.T) {
	seen := map[rserpool.PEID]bool{}
	for range 1000 {
		id := drawID()
		if id == 0 || seen[id] {
			t.Fatalf("identifier %v drawn, after %d others", id, len(seen))
		}
		seen[id] = true
	}
}

// TestWaitStandby: Wait says why an element in standby is not registered.
func TestWaitStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r)
		e := start(t, nw, func(c *Config) { c.Standby = true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := e.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "call SetAvailable(true)") {
			t.Errorf("Wait gives %v", err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestConfigIsCopied: the program may change what it has passed to Open.
func TestConfigIsCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		local := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.11:0")}
		e := start(t, nw, func(c *Config) { c.Local = local })
		local[0] = netip.MustParseAddrPort("10.0.0.12:0")
		if got := e.runner.cfg.Local[0]; got != netip.MustParseAddrPort("10.0.0.11:0") {
			t.Errorf("the element has the address %v", got)
		}
		_ = e.end()
	})
}
