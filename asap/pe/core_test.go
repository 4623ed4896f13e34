package pe

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const (
	testPool = rserpool.PoolHandle("web")
	testID   = rserpool.PEID(0x11111111)
)

// driver drives a core in virtual time and writes down what it does. The
// association of the n-th Connect is named n.
type driver struct {
	t     *testing.T
	k     *core
	start time.Time
	now   time.Time
	log   []string
	regs  []*asap.Registration

	beats bool         // write down HEARTBEATs
	addrs []netip.Addr // of each name that is looked up

	events []Event
}

func newDriver(t *testing.T, change func(*Config)) *driver {
	t.Helper()
	cfg := Config{
		Pool:      testPool,
		ID:        testID,
		Transport: rserpool.Transport{Type: rserpool.TCP, Port: 8080, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.11")}},
		Policy:    rserpool.Policy{Type: rserpool.LeastUsed},
		Life:      90_000 * time.Second,
		Dialect:   rserpool.RFC5354,
		Timers:    Timers{Reregistration: time.Minute},

		Registrars: []string{"10.0.0.1", "10.0.0.2"},
	}
	if change != nil {
		change(&cfg)
	}
	if err := cfg.prepare(); err != nil {
		t.Fatal(err)
	}
	ids := rserpool.PEID(0xaaaa0000)
	start := time.Unix(1_000_000, 0)
	draw := func() rserpool.PEID { ids++; return ids }
	return &driver{t: t, k: newCore(cfg, nil, draw), start: start, now: start}
}

func (d *driver) note(format string, args ...any) {
	d.log = append(d.log, fmt.Sprintf("%v ", d.now.Sub(d.start))+fmt.Sprintf(format, args...))
}

// collect writes down actions and events so far.
func (d *driver) collect() {
	for {
		actions, events := d.k.take()
		if len(actions) == 0 && len(events) == 0 {
			return
		}
		for _, ev := range events {
			names := map[EventType]string{Registered: "registered", Reregistered: "reregistered", Deregistered: "deregistered", Expired: "expired",
				HomeLost: "home lost", HomeChanged: "home changed", NoRegistrar: "no registrar", Rejected: "rejected", Warning: "warning",
				Refused: "refused", Resumed: "resumed", AdoptionFailed: "adoption failed", DeregistrationRefused: "deregistration refused"}
			d.note("! %s", names[ev.Type])
			d.events = append(d.events, ev)
		}
		for _, a := range actions {
			switch a := a.(type) {
			case hunt.Connect:
				d.note("connect %d %v", a.Ref, a.To)
				d.k.Connecting(d.now, a.Ref, sctp.AssocID(a.Ref), nil)
			case hunt.Lookup:
				d.k.Found(d.now, client.Found{Ref: a.Ref, Addrs: d.addrs})
			case hunt.Close:
				d.note("close %d abort=%v", a.Assoc, a.Abort)
			case hunt.Heartbeat:
				if d.beats {
					d.note("heartbeat %d", a.Assoc)
				}
			case hunt.Send:
				d.note("send %d %s", a.Assoc, d.show(a.Data))
				if ack, ok := d.parse(a.Data).(*asap.EndpointKeepAliveAck); ok != a.Unordered || ok && !ack.Unordered {
					d.t.Errorf("unordered %t: %v; want acknowledgements to be so and to say so, and nothing else", a.Unordered, d.parse(a.Data))
				}
			}
		}
	}
}

func (d *driver) parse(data []byte) asap.Message {
	m, _, err := asap.Parse(data)
	if err != nil {
		d.t.Fatalf("the core sends an unfit message: %v", err)
	}
	return m
}

func (d *driver) show(data []byte) string {
	switch m := d.parse(data).(type) {
	case *asap.Registration:
		d.regs = append(d.regs, m)
		return fmt.Sprintf("REG %v home=%v load=%d", m.Element.ID, m.Element.Home, m.Element.Policy.Load)
	case *asap.Deregistration:
		return fmt.Sprintf("DEREG %v", m.ID)
	case *asap.EndpointKeepAliveAck:
		return fmt.Sprintf("ACK %v", m.ID)
	case *asap.Error:
		return fmt.Sprintf("ERROR %v", m.Causes)
	}
	return d.parse(data).Type().String()
}

// until lets the time pass, deadline by deadline.
func (d *driver) until(at time.Duration) {
	d.t.Helper()
	end := d.start.Add(at)
	for range 1000 {
		d.collect()
		next, ok := d.k.NextDeadline()
		if !ok || next.After(end) {
			d.now = end
			return
		}
		if next.After(d.now) {
			d.now = next
		}
		d.k.Tick(d.now)
	}
	d.t.Fatal("the core spins")
}

func (d *driver) register()   { d.k.register(d.now); d.collect() }
func (d *driver) deregister() { d.k.deregister(d.now); d.collect() }
func (d *driver) stop()       { d.k.Stop(d.now); d.collect() }

func (d *driver) up(a sctp.AssocID) {
	d.k.Up(d.now, a, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.9:3863")})
	d.collect()
}

func (d *driver) down(a sctp.AssocID) {
	d.k.Down(d.now, a, errors.New("gone"))
	d.collect()
}

func (d *driver) receive(a sctp.AssocID, m asap.Message) {
	d.t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.k.Received(d.now, a, b)
	d.collect()
}

func (d *driver) accept(a sctp.AssocID) {
	d.t.Helper()
	d.receive(a, &asap.RegistrationResponse{Handle: testPool, ID: d.k.element.ID})
}

func (d *driver) want(lines ...string) {
	d.t.Helper()
	if diff := cmp.Diff(lines, d.log); diff != "" {
		d.t.Errorf("log (-want +got):\n%s", diff)
	}
	d.log = nil
}

func (d *driver) ended(want string) {
	d.t.Helper()
	over, err := d.k.Ended(), d.k.failure
	switch {
	case !over:
		d.t.Error("the element is not over")
	case want == "" && err != nil:
		d.t.Errorf("the element ends with error %q", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		d.t.Errorf("the element ends with error %v, want %q in it", err, want)
	}
}

// atHome makes the element registered at the first registrar, association 1.
func (d *driver) atHome() {
	d.t.Helper()
	d.register()
	d.up(1)
	d.accept(1)
	d.want("0s connect 1 10.0.0.1:3863", "0s send 1 REG "+d.k.element.ID.String()+" home=00000000 load=0", "0s ! registered")
}

func keepAlive(home bool, server rserpool.ServerID) *asap.EndpointKeepAlive {
	return &asap.EndpointKeepAlive{Home: home, Server: server, Handle: testPool, ID: testID, HasID: true}
}

// TestRegistration: RFC 5352, Section 3.1, R1 to R4, and T4-reregistration.
func TestRegistration(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	want := &asap.Registration{Handle: testPool, Element: rserpool.PoolElement{
		ID: testID, Life: 90000,
		UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 8080, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.11")}},
		Policy:        rserpool.Policy{Type: rserpool.LeastUsed},
	}}
	if diff := cmp.Diff(want, d.regs[0], cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("registration (-want +got):\n%s", diff)
	}
	d.until(61 * time.Second)
	d.want("1m0s send 1 REG 11111111 home=00000000 load=0")
	d.accept(1)
	d.want("1m1s ! reregistered")
	d.until(121 * time.Second)
	d.want("2m1s send 1 REG 11111111 home=00000000 load=0")
}

// TestRegistrationTimeout: T2-registration, MAX-REG-ATTEMPT, then another
// registrar, with the same identifier.
func TestRegistrationTimeout(t *testing.T) {
	d := newDriver(t, nil)
	d.register()
	d.up(1)
	d.until(61 * time.Second)
	d.want("0s connect 1 10.0.0.1:3863", "0s send 1 REG 11111111 home=00000000 load=0",
		"30s send 1 REG 11111111 home=00000000 load=0",
		"1m0s ! home lost", "1m0s close 1 abort=true", "1m0s connect 2 10.0.0.2:3863", "1m0.3s connect 3 10.0.0.1:3863")
	d.up(2)
	d.accept(2)
	d.want("1m1s send 2 REG 11111111 home=00000000 load=0", "1m1s close 3 abort=true", "1m1s ! registered")
}

// TestRegistrationSendFailure: Section 3.1, a send failure starts the hunt.
func TestRegistrationSendFailure(t *testing.T) {
	d := newDriver(t, nil)
	d.register()
	d.up(1)
	d.k.SendFailed(d.now, 1, errors.New("unreachable"))
	d.collect()
	d.want("0s connect 1 10.0.0.1:3863", "0s send 1 REG 11111111 home=00000000 load=0",
		"0s ! home lost", "0s close 1 abort=true", "0s connect 2 10.0.0.2:3863")
}

// TestOnlyRegistrarFails: where the only registrar accepts associations and does not serve, the
// hunt begins with a pause, and what is told has the reason of the last attempt.
func TestOnlyRegistrarFails(t *testing.T) {
	d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:1] })
	d.register()
	for a := sctp.AssocID(1); a <= 3; a++ {
		d.up(a)
		d.events = nil
		d.down(a)
		d.until(d.now.Sub(d.start) + time.Minute)
		const want = "no registrar could be reached: 10.0.0.1:3863: gone"
		if len(d.events) < 2 || d.events[1].String() != want {
			t.Errorf("attempt %d: events %v, want the second one to be %q", a, d.events, want)
		}
	}
}

// TestRejected: a registration that was refused must not be repeated; the
// causes reach the user in words.
func TestRejected(t *testing.T) {
	d := newDriver(t, nil)
	d.register()
	d.up(1)
	d.receive(1, &asap.RegistrationResponse{Reject: true, Handle: testPool, ID: testID, Causes: []rserpool.Cause{{Code: rserpool.CauseInconsistentPolicy}}})
	d.want("0s connect 1 10.0.0.1:3863", "0s send 1 REG 11111111 home=00000000 load=0", "0s ! rejected", "0s close 1 abort=false")
	d.down(1)
	d.ended(`registrar 10.0.0.1:3863 refuses element 11111111 in pool "web": policy differs from the pool's: the element has LeastUsed: start the element with the pool's policy, or give it another pool`)
	var rejected *RejectedError
	if err := d.k.failure; !errors.As(err, &rejected) || !errors.Is(err, rserpool.CauseInconsistentPolicy) {
		t.Errorf("error %v, want a RejectedError with the cause", err)
	}
	d.until(time.Hour)
	d.want()
}

// TestRejectedByError: RSPLIB answers some registrations with ASAP_ERROR.
func TestRejectedByError(t *testing.T) {
	d := newDriver(t, nil)
	d.register()
	d.up(1)
	d.receive(1, &asap.Error{Causes: []rserpool.Cause{{Code: 0x11}}})
	d.down(1)
	d.ended("refuses element 11111111")
}

// TestNoRoom: a registrar without resources, such as one that has just begun
// and does not have the handlespace yet, does not end the element. It asks the
// next one, and all of them again after a pause.
func TestNoRoom(t *testing.T) {
	noRoom := &asap.RegistrationResponse{Reject: true, Handle: testPool, ID: testID, Causes: []rserpool.Cause{{Code: rserpool.CauseLackOfResources}}}
	t.Run("first registration", func(t *testing.T) {
		d := newDriver(t, nil)
		d.register()
		d.up(1)
		d.receive(1, noRoom)
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 REG 11111111 home=00000000 load=0",
			"0s ! home lost", "0s close 1 abort=true", "0s connect 2 10.0.0.2:3863")
		d.up(2)
		d.receive(2, noRoom)
		d.until(time.Second)
		d.want("0s send 2 REG 11111111 home=00000000 load=0", "0s ! home lost", "0s ! no registrar",
			"0s close 2 abort=true", "500ms connect 3 10.0.0.1:3863", "800ms connect 4 10.0.0.2:3863")
		d.up(3)
		d.accept(3)
		d.want("1s send 3 REG 11111111 home=00000000 load=0", "1s close 4 abort=true", "1s ! registered")
	})
	t.Run("no further than to be told of", func(t *testing.T) {
		d := newDriver(t, nil)
		d.register()
		d.up(1)
		d.receive(1, noRoom)
		d.stop() // it is known to nobody, so that there is nothing to end
		d.ended("")
	})
	t.Run("later", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.until(time.Minute)
		d.receive(1, noRoom)
		d.up(2)
		d.accept(2)
		// The first one's association stays until another has accepted.
		d.want("1m0s send 1 REG 11111111 home=00000000 load=0", "1m0s ! refused",
			"1m0s connect 2 10.0.0.2:3863", "1m0s send 2 REG 11111111 home=00000000 load=0",
			"1m0s ! home changed", "1m0s ! registered", "1m0s close 1 abort=false")
	})
}

// TestIdentifierInUse: a random identifier that is in use is corrected.
func TestIdentifierInUse(t *testing.T) {
	inUse := func(id rserpool.PEID) *asap.RegistrationResponse {
		return &asap.RegistrationResponse{Reject: true, Handle: testPool, ID: id, Causes: []rserpool.Cause{{Code: rserpool.CauseNonUniquePEIdentifier}}}
	}
	t.Run("random", func(t *testing.T) {
		d := newDriver(t, func(c *Config) { c.ID = 0 })
		d.register()
		d.up(1)
		d.receive(1, inUse(0xaaaa0001))
		d.accept(1)
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 REG aaaa0001 home=00000000 load=0", "0s ! warning",
			"0s send 1 REG aaaa0002 home=00000000 load=0", "0s ! registered")
	})
	t.Run("random, without end", func(t *testing.T) {
		d := newDriver(t, func(c *Config) { c.ID = 0 })
		d.register()
		d.up(1)
		for i := range maxRedraws + 1 {
			d.receive(1, inUse(0xaaaa0001+rserpool.PEID(i)))
		}
		d.down(1)
		d.ended("in use by another element")
	})
}

// TestHomeLost: the end of the association with the home starts a hunt at
// once; the same identifier registers at the next registrar.
func TestHomeLost(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.receive(1, keepAlive(false, 0x1001))
	d.log = nil
	d.until(10 * time.Second)
	d.down(1)
	d.up(2) // which is not 00001001
	d.accept(2)
	d.want("10s ! home lost", "10s connect 2 10.0.0.2:3863", "10s send 2 REG 11111111 home=00000000 load=0", "10s ! registered")
}

// TestHomeUnserved: a registrar that ends the association before it accepts the registration was
// no home.
func TestHomeUnserved(t *testing.T) {
	for _, accepts := range []bool{false, true} {
		d := newDriver(t, nil)
		d.register()
		d.up(1)
		if accepts {
			d.accept(1)
		}
		d.down(1)
		i := slices.IndexFunc(d.events, func(ev Event) bool { return ev.Type == HomeLost })
		if i < 0 || d.events[i].Unserved == accepts {
			t.Fatalf("accepted %v: events %+v", accepts, d.events)
		}
		want := "lost registrar 10.0.0.1:3863: "
		if !accepts {
			want = "registrar 10.0.0.1:3863 has not accepted the registration: "
		}
		if got := d.events[i].String(); !strings.HasPrefix(got, want) {
			t.Errorf("accepted %v: event %q, want %q", accepts, got, want)
		}
	}
}

// TestNoRegistrar: the hunt goes on while nothing answers, and each round in
// vain is told.
func TestNoRegistrar(t *testing.T) {
	d := newDriver(t, nil)
	d.register()
	d.down(1)
	d.down(2)
	d.until(time.Second)
	d.down(3)
	d.down(4)
	d.want("0s connect 1 10.0.0.1:3863", "0s connect 2 10.0.0.2:3863", "0s ! no registrar",
		"500ms connect 3 10.0.0.1:3863", "800ms connect 4 10.0.0.2:3863", "1s ! no registrar")
	d.until(2 * time.Second)
	d.up(5)
	d.accept(5)
	d.want("2s connect 5 10.0.0.1:3863", "2s send 5 REG 11111111 home=00000000 load=0", "2s ! registered")
}

// TestKeepAlive: Section 3.4, KA1 and KA2.
func TestKeepAlive(t *testing.T) {
	d := newDriver(t, nil)
	d.register()
	d.up(8) // someone calls
	d.receive(8, keepAlive(false, 0x1001))
	d.want("0s connect 1 10.0.0.1:3863") // never registered: nothing matches
	d.up(1)
	d.accept(1)
	d.log = nil

	d.receive(1, keepAlive(false, 0x1001))
	d.want("0s send 1 ACK 11111111")
	if d.k.element.Home != 0x1001 {
		t.Errorf("home is %v, want it learnt from the keep-alive", d.k.element.Home)
	}
	// KA2.3: on the association that it came on; another's without H does
	// not change the home.
	d.receive(8, keepAlive(false, 0x2002))
	d.want("0s send 8 ACK 11111111")
	if d.k.element.Home != 0x1001 || d.k.home != 1 {
		t.Errorf("home is %v on %d, want it unchanged", d.k.element.Home, d.k.home)
	}
	// KA1: another handle.
	d.receive(1, &asap.EndpointKeepAlive{Server: 0x1001, Handle: "other"})
	d.want()
	// An element that is not here.
	d.receive(1, &asap.EndpointKeepAlive{Server: 0x1001, Handle: testPool, ID: 5, HasID: true})
	d.want("0s send 1 DEREG 00000005")
	// As in the RFC, without an identifier.
	d.receive(1, &asap.EndpointKeepAlive{Server: 0x1001, Handle: testPool})
	d.want("0s send 1 ACK 11111111")
	// The home is in the next registration.
	d.until(time.Minute)
	d.want("1m0s send 1 REG 11111111 home=00001001 load=0")
}

// TestTakeover: KA2.4. The new home calls; the old one is told that the
// element has moved before its association ends.
func TestTakeover(t *testing.T) {
	t.Run("old home alive", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.until(5 * time.Second)
		d.callFrom(8, "10.0.0.2")
		d.receive(8, keepAlive(true, 0x2002))
		d.want("5s send 8 ACK 11111111", "5s send 8 REG 11111111 home=00002002 load=0")
		d.accept(8)
		d.want("5s ! home changed", "5s ! reregistered", "5s close 1 abort=false")
		d.down(1)
		d.want()
		// Registrations go to the new home now, which is called again
		// should it fail.
		d.until(65 * time.Second)
		d.want("1m5s send 8 REG 11111111 home=00002002 load=0")
		d.down(8)
		d.want("1m5s ! home lost", "1m5s connect 2 10.0.0.1:3863")
	})
	t.Run("old home dead, hunting", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.down(1)
		d.up(8)
		d.receive(8, keepAlive(true, 0x2002))
		d.accept(8)
		d.want("0s ! home lost", "0s connect 2 10.0.0.2:3863",
			"0s send 8 ACK 11111111", "0s send 8 REG 11111111 home=00002002 load=0", "0s ! home changed", "0s ! registered", "0s close 2 abort=true")
	})
	t.Run("there and back", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.up(8)
		d.receive(8, keepAlive(true, 0x2002))
		d.receive(1, keepAlive(true, 0x1001))
		d.accept(8) // late, of no meaning
		d.until(time.Second)
		d.accept(1)
		d.want("0s send 8 ACK 11111111", "0s send 8 REG 11111111 home=00002002 load=0",
			"0s send 1 ACK 11111111", "1s send 1 REG 11111111 home=00001001 load=0", "1s ! reregistered")
		if d.k.home != 1 || d.k.element.Home != 0x1001 {
			t.Errorf("home %v on %d, want the first one", d.k.element.Home, d.k.home)
		}
	})
	t.Run("same association", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.receive(1, keepAlive(true, 0x1001))
		d.receive(1, keepAlive(true, 0x1001))
		d.want("0s send 1 ACK 11111111", "0s send 1 ACK 11111111")
	})
	t.Run("other element", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.up(8)
		d.receive(8, &asap.EndpointKeepAlive{Home: true, Server: 2, Handle: testPool, ID: 5, HasID: true})
		d.want("0s send 8 DEREG 00000005")
	})
}

// TestUpdate: a change of load is told at once, but not more often than
// MinUpdate allows.
func TestUpdate(t *testing.T) {
	load := func(n uint32) rserpool.Policy { return rserpool.Policy{Type: rserpool.LeastUsed, Load: n} }
	d := newDriver(t, nil)
	d.atHome()
	d.until(10 * time.Second)
	d.k.update(d.now, load(1))
	d.collect()
	d.want("10s send 1 REG 11111111 home=00000000 load=1")
	d.k.update(d.now, load(2)) // while the answer is awaited
	d.collect()
	d.accept(1)
	d.k.update(d.now, load(3))
	d.k.update(d.now, load(4))
	d.until(12 * time.Second)
	d.want("10s ! reregistered", "11s send 1 REG 11111111 home=00000000 load=4")
	d.accept(1)
	d.k.update(d.now, load(4)) // no change
	d.until(30 * time.Second)
	d.want("12s ! reregistered")
	// While hunting, the next registration tells.
	d.down(1)
	d.k.update(d.now, load(5))
	d.up(2)
	d.want("30s ! home lost", "30s connect 2 10.0.0.2:3863", "30s send 2 REG 11111111 home=00000000 load=5")
	d.accept(2)
	d.until(80 * time.Second)
	d.want("30s ! registered")
}

// TestStop: Section 3.2, D1 to D4.
func TestStop(t *testing.T) {
	t.Run("registered", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.stop()
		d.want("0s send 1 DEREG 11111111")
		d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.want("0s ! deregistered", "0s close 1 abort=false")
		// No acknowledgement keeps it alive.
		d.receive(1, keepAlive(false, 1))
		d.want()
		d.down(1)
		d.ended("")
	})
	t.Run("the association's end is not awaited for ever", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.stop()
		d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.until(4 * time.Second)
		d.ended("")
	})
	t.Run("no answer", func(t *testing.T) {
		d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:1] })
		d.atHome()
		d.stop()
		d.until(4 * time.Second)
		d.want("0s send 1 DEREG 11111111")
		d.ended("not confirmed after 3s")
	})
	t.Run("no answer, and others to ask", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.stop()
		d.until(time.Second)
		d.up(2)
		d.receive(2, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.want("0s send 1 DEREG 11111111", "1s ! home lost", "1s close 1 abort=true", "1s connect 2 10.0.0.2:3863", "1s send 2 DEREG 11111111",
			"1s ! deregistered", "1s close 2 abort=false")
		d.down(2)
		d.ended("")
	})
	t.Run("no answer from any", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.stop()
		d.until(time.Second)
		d.up(2)
		d.until(2 * time.Second)
		d.want("0s send 1 DEREG 11111111", "1s ! home lost", "1s close 1 abort=true", "1s connect 2 10.0.0.2:3863", "1s send 2 DEREG 11111111",
			"2s ! home lost", "2s close 2 abort=true", "2s connect 3 10.0.0.1:3863")
		d.until(4 * time.Second)
		d.ended("not confirmed after 3s")
	})
	t.Run("no answer, and the end comes later", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.deregister()
		d.until(10 * time.Second)
		d.stop()
		d.until(11 * time.Second)
		d.want("0s send 1 DEREG 11111111", "11s ! home lost", "11s close 1 abort=true", "11s connect 2 10.0.0.2:3863")
	})
	t.Run("home lost meanwhile", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.stop()
		d.down(1)
		d.up(2)
		d.receive(2, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.want("0s send 1 DEREG 11111111", "0s ! home lost", "0s connect 2 10.0.0.2:3863", "0s send 2 DEREG 11111111",
			"0s ! deregistered", "0s close 2 abort=false")
		d.down(2)
		d.ended("")
	})
	t.Run("never registered", func(t *testing.T) {
		d := newDriver(t, nil)
		d.register()
		d.stop()
		d.want("0s connect 1 10.0.0.1:3863", "0s close 1 abort=true")
		d.ended("")
	})
	t.Run("answer awaited", func(t *testing.T) {
		d := newDriver(t, nil)
		d.register()
		d.up(1)
		d.stop()
		d.accept(1)
		d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 REG 11111111 home=00000000 load=0", "0s send 1 DEREG 11111111",
			"0s ! deregistered", "0s close 1 abort=false")
	})
	t.Run("refused", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.stop()
		d.receive(1, &asap.Error{Causes: []rserpool.Cause{{Code: rserpool.CauseSecurity}}})
		d.want("0s send 1 DEREG 11111111", "0s ! warning", "0s ! deregistration refused", "0s close 1 abort=false")
		d.down(1)
		d.ended("refuses the deregistration of element 11111111")
	})
}

// TestDeregistrationTimeout: T3-deregistration starts a hunt; the new home is
// asked to deregister.
func TestDeregistrationTimeout(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.deregister()
	d.until(30 * time.Second)
	d.up(2)
	d.receive(2, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
	d.want("0s send 1 DEREG 11111111", "30s ! home lost", "30s close 1 abort=true", "30s connect 2 10.0.0.2:3863",
		"30s send 2 DEREG 11111111", "30s ! deregistered")
	d.until(time.Hour)
	d.want()
}

// TestAvailability: leaving and coming back, as a health check has it.
func TestAvailability(t *testing.T) {
	t.Run("down and up", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.deregister()
		d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.until(time.Hour)
		d.want("0s send 1 DEREG 11111111", "0s ! deregistered")
		d.register()
		d.accept(1)
		d.want("1h0m0s send 1 REG 11111111 home=00000000 load=0", "1h0m0s ! registered")
	})
	t.Run("up while the deregistration is on its way", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.deregister()
		d.register()
		d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.want("0s send 1 DEREG 11111111", "0s ! deregistered", "0s send 1 REG 11111111 home=00000000 load=0")
	})
	t.Run("up while a registrar is sought for the deregistration", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.deregister()
		d.down(1)
		d.register()
		d.up(2)
		d.want("0s send 1 DEREG 11111111", "0s ! home lost", "0s connect 2 10.0.0.2:3863", "0s send 2 REG 11111111 home=00000000 load=0")
	})
	t.Run("up, and the home lost before it confirms the deregistration", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.deregister()
		d.register()
		d.down(1)
		d.up(2)
		d.want("0s send 1 DEREG 11111111", "0s ! home lost", "0s connect 2 10.0.0.2:3863", "0s send 2 REG 11111111 home=00000000 load=0")
	})
	t.Run("home lost while not wanted", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.deregister()
		d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.log = nil
		d.down(1)
		d.until(time.Minute)
		d.want()
		d.register()
		d.want("1m0s connect 2 10.0.0.2:3863")
	})
	t.Run("down before any registrar is found", func(t *testing.T) {
		d := newDriver(t, nil)
		d.register()
		d.deregister()
		d.until(time.Minute)
		d.want("0s connect 1 10.0.0.1:3863", "0s close 1 abort=true")
	})
}

// TestExpired: the registrar says that the registration life is over (Section
// 2.2.4); the element registers again.
func TestExpired(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.until(10 * time.Second)
	d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
	d.until(10 * time.Second)
	d.accept(1)
	d.want("10s ! expired", "10s send 1 REG 11111111 home=00000000 load=0", "10s ! registered")
	// A registrar that always says so is not asked all the time.
	for range 100 {
		d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.until(10 * time.Second)
		d.accept(1)
	}
	if n := strings.Count(strings.Join(d.log, "\n"), "REG"); n > 1 {
		t.Errorf("%d registrations within a moment, want MinUpdate between them", n)
	}
}

// TestExpiredAtOnce: an element that is told just after its registration that it is
// not registered, as in a rolling restart over two registrars, registers again at
// once.
func TestExpiredAtOnce(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
	d.until(0)
	d.accept(1)
	d.want("0s ! expired", "0s send 1 REG 11111111 home=00000000 load=0", "0s ! registered")
	d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
	d.until(1900 * time.Millisecond)
	d.want("0s ! expired")
	d.until(2 * time.Second)
	d.want("2s send 1 REG 11111111 home=00000000 load=0")
}

// TestStrangers: what others do on associations that they open.
func TestStrangers(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.up(100)
	other := func(id rserpool.PEID) *asap.RegistrationResponse {
		return &asap.RegistrationResponse{Handle: testPool, ID: id}
	}
	d.until(time.Minute)
	d.log = nil
	d.receive(100, other(testID)) // not from the home
	d.receive(1, other(5))
	d.receive(100, &asap.RegistrationResponse{Reject: true, Handle: testPool, ID: testID})
	d.receive(100, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
	d.receive(100, &asap.HandleResolution{Handle: testPool})
	d.want()
	d.k.Received(d.now, 100, []byte{0x7f, 0, 0, 4})
	for range 100 {
		d.k.Received(d.now, 100, []byte{1, 0, 0, 99, 1})
	}
	d.collect()
	if n := strings.Count(strings.Join(d.log, "\n"), "warning"); n != 1 {
		t.Errorf("%d warnings, want 1 a second at most", n)
	}
	// Too many of them: the oldest go, the home stays.
	for i := range 100 {
		d.up(sctp.AssocID(101 + i))
	}
	if len(d.k.peers) != maxPeers {
		t.Errorf("%d associations, want %d", len(d.k.peers), maxPeers)
	}
	if _, ok := d.k.peers[1]; !ok {
		t.Error("the home's association was evicted")
	}
	if _, ok := d.k.peers[200]; !ok {
		t.Error("the newest association was evicted")
	}
}

// TestUnknownParameterReport: a parameter whose type asks for it is reported
// (RFC 5354, Section 3), and the message counts all the same.
func TestUnknownParameterReport(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	m := keepAlive(false, 1)
	m.Unknown = []rserpool.Parameter{{Type: 0xc123, Value: []byte{1, 2, 3, 4}}}
	d.receive(1, m)
	if len(d.log) != 2 || !strings.Contains(d.log[0], "send 1 ERROR") || d.log[1] != "0s send 1 ACK 11111111" {
		t.Errorf("log %q, want an error report and an acknowledgement", d.log)
	}
}

// TestDeterministic: the same events give the same actions.
func TestDeterministic(t *testing.T) {
	run := func() []string {
		d := newDriver(t, nil)
		d.register()
		d.up(1)
		d.accept(1)
		for i := range 30 {
			d.up(sctp.AssocID(100 + i))
		}
		d.receive(110, keepAlive(true, 2))
		d.accept(110)
		d.stop()
		d.receive(110, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		return d.log
	}
	if diff := cmp.Diff(run(), run()); diff != "" {
		t.Errorf("two runs differ:\n%s", diff)
	}
}

func TestEventString(t *testing.T) {
	ev := Event{ID: testID, Registrar: "10.0.0.1:3863", Home: 0x1001, Err: errors.New("why")}
	for typ, want := range map[EventType]string{
		Registered:   "registered as 11111111 at registrar 10.0.0.1:3863 (00001001)",
		Reregistered: "re-registered as 11111111 at registrar 10.0.0.1:3863 (00001001)",
		Deregistered: "deregistered 11111111",
		Expired:      "registrar 10.0.0.1:3863 (00001001) has dropped the registration; registering again",
		HomeLost:     "lost registrar 10.0.0.1:3863 (00001001): why; looking for a registrar",
		HomeChanged:  "registrar 10.0.0.1:3863 (00001001) has taken over as home registrar",
		Rejected:     "why",
		Refused:      "why; trying again",

		AdoptionFailed:        "why; staying with registrar 10.0.0.1:3863 (00001001)",
		DeregistrationRefused: "why",
	} {
		ev.Type = typ
		if got := ev.String(); got != want {
			t.Errorf("event %d: %q, want %q", typ, got, want)
		}
	}
}

// TestConnectFailsAtOnce: if no association can even be started, the reasons are
// told before the next round, which has none yet.
func TestConnectFailsAtOnce(t *testing.T) {
	d := newDriver(t, nil)
	d.k.register(d.now)
	for {
		actions, events := d.k.take()
		for _, a := range actions {
			if c, ok := a.(hunt.Connect); ok {
				d.k.Connecting(d.now, c.Ref, 0, errors.New("no route"))
			}
		}
		if len(events) > 0 {
			const want = "no registrar could be reached: 10.0.0.1:3863: no route; 10.0.0.2:3863: no route"
			if ev := events[0]; ev.Type != NoRegistrar || ev.Err.Error() != want {
				t.Errorf("got %v, want %q", ev, want)
			}
			return
		}
		if len(actions) == 0 {
			t.Fatal("no event")
		}
	}
}
