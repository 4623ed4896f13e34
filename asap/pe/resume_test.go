package pe

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// restarted has the home's association replaced by another one of the same registrar, as
// SCTP does for a registrar that has restarted and connects to the element.
func (d *driver) restarted(former, a sctp.AssocID) {
	d.k.Down(d.now, former, fmt.Errorf("down: %w", sctp.ErrRestarted))
	d.collect()
	d.callFrom(a, "10.0.0.1")
}

// known makes the element registered at the first registrar, which has asked it.
func (d *driver) known() {
	d.t.Helper()
	d.atHome()
	d.until(2 * time.Second)
	d.receive(1, keepAlive(false, 0x1001))
	d.until(4 * time.Second)
	d.receive(1, keepAlive(false, 0x1001))
	d.want("2s send 1 ACK 11111111", "4s send 1 ACK 11111111")
}

// TestResume: a registrar that has restarted with its state calls the element back, over an
// association that replaces the lost one, or beside the element's own attempts.
func TestResume(t *testing.T) {
	t.Run("restart", func(t *testing.T) {
		d := newDriver(t, nil)
		d.known()
		d.restarted(1, 8)
		d.until(6 * time.Second)
		d.want("4s ! home lost") // it will ask, after thousands of others
		d.receive(8, keepAlive(false, 0x1001))
		d.want("6s ! resumed", "6s send 8 ACK 11111111")
		if d.k.home != 8 || d.k.element.Home != 0x1001 || !d.k.standing {
			t.Errorf("home %v on %d, standing %v, want the former one on the new association", d.k.element.Home, d.k.home, d.k.standing)
		}
		// The registration goes on as before, over the new association.
		d.until(time.Minute)
		d.want("1m0s send 8 REG 11111111 home=00001001 load=0")
		d.accept(8)
		d.want("1m0s ! reregistered")
	})
	t.Run("while hunting", func(t *testing.T) {
		d := newDriver(t, nil)
		d.known()
		d.down(1)
		d.callFrom(8, "10.0.0.1")
		d.receive(8, keepAlive(true, 0x1001))
		d.want("4s ! home lost", "4s connect 2 10.0.0.2:3863", "4s ! resumed", "4s send 8 ACK 11111111", "4s close 2 abort=true")
		d.until(20 * time.Second)
		d.want()
	})
	t.Run("before the first keep-alive", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.restarted(1, 8)
		d.receive(8, keepAlive(false, 0x1001))
		d.want("0s ! home lost", "0s ! resumed", "0s send 8 ACK 11111111")
		if ev := d.events[len(d.events)-1]; ev.Home != 0x1001 {
			t.Errorf("event %v, want it to name the registrar", ev)
		}
	})
	t.Run("no call", func(t *testing.T) {
		d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:1] })
		d.known()
		d.restarted(1, 8)
		d.until(4*time.Second + callTime)
		d.want("4s ! home lost", "7s connect 2 10.0.0.1:3863")
		d.k.Down(d.now, 2, sctp.ErrConnected) // the registrar's association is there
		d.collect()
		d.want("7s send 8 REG 11111111 home=00000000 load=0")
	})
	t.Run("after a new load", func(t *testing.T) {
		d := newDriver(t, nil)
		d.known()
		d.restarted(1, 8)
		d.k.update(d.now, rserpool.Policy{Type: rserpool.LeastUsed, Load: 7})
		d.receive(8, keepAlive(false, 0x1001))
		d.want("4s ! home lost", "4s ! resumed", "4s send 8 ACK 11111111")
		d.until(4100 * time.Millisecond)
		d.want("4s send 8 REG 11111111 home=00001001 load=7")
	})
	t.Run("half of the life is over", func(t *testing.T) {
		d := newDriver(t, func(c *Config) { c.Life = 90 * time.Second })
		d.known()
		d.k.renewAt = time.Time{} // it has waited for an answer
		d.until(50 * time.Second)
		d.restarted(1, 8)
		d.receive(8, keepAlive(false, 0x1001))
		d.until(51 * time.Second)
		d.want("50s ! home lost", "50s ! resumed", "50s send 8 ACK 11111111", "50s send 8 REG 11111111 home=00001001 load=0")
	})
}

// TestNoResume: only the former home registrar, at its address, makes the registration
// stand without another one.
func TestNoResume(t *testing.T) {
	for _, tt := range []struct {
		name, host string
		server     rserpool.ServerID
		home       bool
		want       []string
	}{
		{"other identifier", "10.0.0.1", 0x1002, false, []string{"4s send 8 ACK 11111111"}},
		{"other address", "10.0.0.6", 0x1001, false, []string{"4s send 8 ACK 11111111"}},
		{"adopter", "10.0.0.1", 0x1002, true, []string{"4s send 8 ACK 11111111", "4s send 8 REG 11111111 home=00001002 load=0"}},
		{"adopter with its identifier", "10.0.0.6", 0x1001, true, []string{"4s send 8 ACK 11111111", "4s send 8 REG 11111111 home=00001001 load=0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, nil)
			d.known()
			d.down(1)
			d.log = nil
			d.callFrom(8, tt.host)
			d.receive(8, keepAlive(tt.home, tt.server))
			d.want(tt.want...)
		})
	}
	t.Run("registered elsewhere", func(t *testing.T) {
		d := newDriver(t, nil)
		d.known()
		d.down(1)
		d.up(2)
		d.accept(2)
		d.log = nil
		d.callFrom(8, "10.0.0.1")
		d.receive(8, keepAlive(false, 0x1001))
		d.want("4s send 8 ACK 11111111")
		d.down(2)
		d.receive(8, keepAlive(false, 0x1001)) // it has another home since
		d.want("4s ! home lost", "4s connect 3 10.0.0.1:3863", "4s send 8 ACK 11111111")
	})
	t.Run("leaving", func(t *testing.T) {
		d := newDriver(t, nil)
		d.known()
		d.down(1)
		d.deregister()
		d.log = nil
		d.callFrom(8, "10.0.0.1")
		d.receive(8, keepAlive(false, 0x1001))
		d.want("4s send 8 DEREG 11111111")
	})
}

// TestDisown: an element that is not registered any more says so to a registrar that asks
// it, and does not repeat a deregistration that is refused.
func TestDisown(t *testing.T) {
	t.Run("deregistered", func(t *testing.T) {
		d := newDriver(t, nil)
		d.known()
		d.deregister()
		d.receive(1, keepAlive(false, 0x1001)) // it was on its way
		d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.log = nil
		d.receive(1, keepAlive(false, 0x1001))
		d.receive(1, &asap.EndpointKeepAlive{Server: 0x1001, Handle: testPool}) // as in the RFC
		d.receive(1, &asap.EndpointKeepAlive{Server: 0x1001, Handle: "other", ID: testID, HasID: true})
		d.want("4s send 1 DEREG 11111111", "4s send 1 DEREG 11111111")
	})
	t.Run("refused", func(t *testing.T) {
		d := newDriver(t, nil)
		d.known()
		d.deregister()
		d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID, Causes: []rserpool.Cause{{Code: rserpool.CauseSecurity}}})
		d.log = nil
		d.receive(1, keepAlive(false, 0x1001))
		d.want()
	})
}

// heartbeats are the times of the HEARTBEATs in the log, after a time.
func (d *driver) heartbeats(after time.Duration) (list []time.Duration) {
	for _, line := range d.log {
		if at, what, _ := strings.Cut(line, " "); strings.HasPrefix(what, "heartbeat") {
			b, _ := time.ParseDuration(at)
			list = append(list, (b - after).Round(100*time.Millisecond))
		}
	}
	return list
}

// TestQuiet: a HEARTBEAT follows when a keep-alive is overdue, and others after growing
// pauses.
func TestQuiet(t *testing.T) {
	d := newDriver(t, func(c *Config) { c.Timers.Reregistration = time.Hour })
	d.beats = true
	d.atHome()
	d.until(5 * time.Minute) // no keep-alive, so that none is overdue
	d.want()
	at := 5 * time.Minute
	ask := func(pause time.Duration) {
		at += pause
		d.until(at)
		d.receive(1, keepAlive(false, 0x1001))
	}
	for range 100 { // the first gap says little
		ask(2 * time.Second)
	}
	d.log = nil
	for range 100 {
		ask(1800 * time.Millisecond)
		ask(2200 * time.Millisecond)
	}
	if beats := d.heartbeats(0); len(beats) > 0 {
		t.Errorf("HEARTBEATs at %v, want none while keep-alives come", beats)
	}
	d.log = nil
	last := at
	d.until(last + 30*time.Second)
	want := []time.Duration{2600 * time.Millisecond, 4800 * time.Millisecond, 9200 * time.Millisecond, 18 * time.Second, 28 * time.Second}
	if beats := d.heartbeats(last); !slices.Equal(beats, want) {
		t.Errorf("HEARTBEATs %v after the last keep-alive, want %v", beats, want)
	}
	// Without a home there is nobody to send one to.
	d.down(1)
	d.log = nil
	d.until(last + time.Minute)
	if beats := d.heartbeats(last); len(beats) > 0 {
		t.Errorf("HEARTBEATs %v without a home, want none", beats)
	}
}

// TestQuietSuspended: a registrar that was suspended once does not make the element slow to
// notice the next silence.
func TestQuietSuspended(t *testing.T) {
	d := newDriver(t, func(c *Config) { c.Timers.Reregistration = time.Hour })
	d.atHome()
	at := time.Duration(0)
	ask := func(pause time.Duration) {
		at += pause
		d.until(at)
		d.receive(1, keepAlive(false, 0x1001))
	}
	for range 3 {
		ask(2 * time.Second)
	}
	ask(time.Minute)
	for range 12 {
		ask(2 * time.Second)
	}
	if over := d.k.quiet.at.Sub(d.now); over < 2*time.Second || over > 3*time.Second {
		t.Errorf("a keep-alive is overdue after %v, want 2 to 3 s", over)
	}
}

// TestFindsRestart: a registrar is killed without a word to the element, and restarts
// without its state: the element is registered again soon after its next keep-alive would
// have come. If the registrar has its state, it calls the element.
func TestFindsRestart(t *testing.T) {
	for _, warm := range []bool{false, true} {
		t.Run(fmt.Sprint("warm ", warm), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nw := sctptest.NewNetwork()
				r1 := newRegistrar(t, nw, "10.0.0.1:3863")
				e := start(t, nw, func(c *Config) { c.Registrars = c.Registrars[:1] })
				expect(t, r1, "REGISTRATION")
				ask := &asap.EndpointKeepAlive{Server: 7, Handle: testPool, ID: e.State().ID, HasID: true}
				for range 3 {
					time.Sleep(2 * time.Second)
					for a := range r1.peers {
						r1.send(a, ask)
					}
				}
				expect(t, r1, "ENDPOINT_KEEP_ALIVE_ACK ENDPOINT_KEEP_ALIVE_ACK ENDPOINT_KEEP_ALIVE_ACK")
				nw.Vanish(r1.ep)
				r2 := newRegistrar(t, nw, "10.0.0.1:3863")
				defer closed(t, r2)
				if warm {
					a := r2.ep.Connect(sctp.Dest{Addrs: e.State().Local, Kind: sctp.Kernel})
					synctest.Wait()
					r2.send(a, ask)
					time.Sleep(10 * time.Second)
					expect(t, r2, "ENDPOINT_KEEP_ALIVE_ACK")
					if !e.saw(Resumed) {
						t.Error("the registration does not stand again")
					}
				} else {
					time.Sleep(3 * time.Second)
					expect(t, r2, "REGISTRATION")
				}
				if s := e.State(); !s.Registered {
					t.Errorf("state %+v, want it registered", s)
				}
				if err := e.end(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestHurry: an element whose home has served looks for a registrar at most every few
// seconds for some minutes, however long that takes, and less often later.
func TestHurry(t *testing.T) {
	d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:1] })
	d.known()
	d.k.rand = rand.New(rand.NewPCG(1, 2))
	lost := d.now
	var calls []time.Duration
	d.down(1)
	for a := sctp.AssocID(2); d.now.Sub(lost) < time.Hour; a++ {
		calls = append(calls, d.now.Sub(lost))
		d.down(a) // refused
		next, _ := d.k.NextDeadline()
		d.until(next.Sub(d.start))
		d.k.Tick(d.now)
		d.collect()
	}
	longest := func(from, to time.Duration) (most time.Duration) {
		for i := 1; i < len(calls); i++ {
			if calls[i-1] >= from && calls[i] < to {
				most = max(most, calls[i]-calls[i-1])
			}
		}
		return most
	}
	if calls[0] != 0 || calls[1] > time.Second {
		t.Errorf("calls %v after the loss, want one at once and another one soon", calls[:2])
	}
	if d := longest(0, hurryTime); d > 2500*time.Millisecond {
		t.Errorf("%v between two calls in the first minutes, want at most 2.5 s", d)
	}
	if d := longest(20*time.Minute, time.Hour); d < 30*time.Second {
		t.Errorf("at most %v between two calls later, want about a minute", d)
	}
}
