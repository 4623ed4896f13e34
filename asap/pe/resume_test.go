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
	t.Run("while its call is under way", func(t *testing.T) {
		d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:1] })
		d.known()
		d.down(1)
		d.until(5 * time.Second)
		d.want("4s ! home lost", "4s connect 2 10.0.0.1:3863")
		d.k.Down(d.now, 2, sctp.ErrConnected) // the registrar's association is not up yet
		d.callFrom(8, "10.0.0.1")
		d.receive(8, keepAlive(false, 0x1001))
		d.want("5s ! resumed", "5s send 8 ACK 11111111")
	})
	t.Run("while its call never ends", func(t *testing.T) {
		d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:1] })
		d.known()
		d.down(1)
		for _, a := range []sctp.AssocID{2, 3} {
			d.until(d.now.Sub(d.start) + time.Second)
			d.k.Down(d.now, a, fmt.Errorf("connect: %w", sctp.ErrConnected))
			d.collect()
		}
		d.want("4s ! home lost", "4s connect 2 10.0.0.1:3863", "5.5s connect 3 10.0.0.1:3863", "6s ! no registrar")
		if got, want := d.events[len(d.events)-1].Err.Error(), "no registrar could be reached: 10.0.0.1:3863: another association with it is being set up or ended"; got != want {
			t.Errorf("the event says %q, want %q", got, want)
		}
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
	d.until(5 * time.Minute)
	// One for each guess of the interval; the transport sends one every 10 s in any case.
	d.want("2.35s heartbeat 1", "4.35s heartbeat 1", "8.35s heartbeat 1")
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

// TestQuietGuess: a guess of the interval that is too short costs a few HEARTBEATs, and the
// element stays registered.
func TestQuietGuess(t *testing.T) {
	const never = time.Hour
	for _, tt := range []struct{ interval, reregister time.Duration }{
		{5 * time.Second, 30 * time.Second}, {23 * time.Second, time.Hour}, {never, 30 * time.Second},
	} {
		t.Run(tt.interval.String(), func(t *testing.T) {
			d := newDriver(t, func(c *Config) { c.Timers.Reregistration = tt.reregister })
			d.beats = true
			d.atHome()
			for at := time.Second; at < 10*time.Minute; at += time.Second {
				d.until(at)
				if at%tt.interval == 0 {
					d.receive(1, keepAlive(false, 0x1001))
				}
				if !d.k.answerBy.IsZero() {
					d.accept(1)
				}
			}
			if n := len(d.heartbeats(0)); n == 0 || n > 3 {
				t.Errorf("%d HEARTBEATs in 10 minutes, want one for each of the guesses 2, 4 and 8 s", n)
			}
			if n := d.count("home lost"); n > 0 || d.k.home != 1 {
				t.Errorf("home lost %d times, home %d; want the first one", n, d.k.home)
			}
		})
	}
}

// TestQuietFormer: the interval of the former home is assumed of the next one. If that asks
// less often, each assumption costs one HEARTBEAT a keep-alive, until it fits.
func TestQuietFormer(t *testing.T) {
	d := newDriver(t, func(c *Config) { c.Timers.Reregistration = time.Hour })
	d.known()
	d.beats = true
	d.down(1)
	d.up(2)
	d.accept(2)
	at := 4 * time.Second
	for range 20 {
		at += 23 * time.Second
		d.until(at)
		d.receive(2, keepAlive(false, 0x1002))
	}
	beats := d.heartbeats(4 * time.Second)
	if len(beats) == 0 || beats[0] != 2400*time.Millisecond { // 2.35 s, rounded
		t.Errorf("HEARTBEATs %v, want the first one when the former home's would be overdue", beats)
	}
	if len(beats) > 12 {
		t.Errorf("%d HEARTBEATs at %v, want no more when the interval is known", len(beats), beats)
	}
	if last := beats[len(beats)-1]; last > 5*23*time.Second {
		t.Errorf("a HEARTBEAT after %v, want none when the interval is known", last)
	}
}

// TestQuietEachTime: a home that is lost before its first keep-alive, again and again, is
// missed as soon as the first time.
func TestQuietEachTime(t *testing.T) {
	d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:1] })
	d.register()
	for a := sctp.AssocID(1); a < 10; a++ {
		for d.k.calls.assocs[a].Port == 0 {
			d.until(d.now.Sub(d.start) + 100*time.Millisecond)
		}
		d.up(a)
		d.accept(a)
		if late := d.k.quiet.at.Sub(d.now); late != 2350*time.Millisecond {
			t.Errorf("home %d: HEARTBEAT after %v, want 2.35 s", a, late)
		}
		d.until(d.now.Sub(d.start) + 2400*time.Millisecond)
		d.down(a)
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

// TestQuietAfterRush: a registrar has asked seldom while thousands of elements came back, and is
// missed as soon as any other a few keep-alives later.
func TestQuietAfterRush(t *testing.T) {
	d := newDriver(t, func(c *Config) { c.Timers.Reregistration = time.Hour })
	d.atHome()
	at := time.Duration(0)
	for _, pause := range []time.Duration{12, 16, 14, 2, 2, 2, 2} {
		at += pause * time.Second
		d.until(at)
		d.receive(1, keepAlive(false, 0x1001))
	}
	if over := d.k.quiet.at.Sub(d.now); over != 2350*time.Millisecond {
		t.Errorf("a keep-alive is overdue after %v, want 2.35 s", over)
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

// TestKilledAgainAndAgain: a lone registrar that serves for some seconds and is killed, time
// and again, is called soon each time.
func TestKilledAgainAndAgain(t *testing.T) {
	d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:1] })
	d.k.rand = rand.New(rand.NewPCG(1, 2))
	d.register()
	next := func(a sctp.AssocID) time.Duration {
		from := d.now
		for d.k.calls.assocs[a].Port == 0 && d.now.Sub(from) < 2*time.Minute {
			d.until(d.now.Sub(d.start) + 50*time.Millisecond)
		}
		return d.now.Sub(from)
	}
	a := sctp.AssocID(1)
	for range 30 {
		if waited := next(a); waited > 2600*time.Millisecond {
			t.Errorf("call %d after %v, want at most 2.5 s", a, waited)
		}
		d.up(a)
		d.accept(a)
		d.until(d.now.Sub(d.start) + 3*time.Second)
		d.down(a)
		for range 3 { // it is down
			a++
			if waited := next(a); waited > 2600*time.Millisecond {
				t.Errorf("call %d after %v while it is down, want at most 2.5 s", a, waited)
			}
			d.down(a)
		}
		a++
	}
	if n := d.count("connect"); n > 130 {
		t.Errorf("%d calls, want pauses", n)
	}
}

// TestSteadyHome: a home that has served for steadyTime is not one of those that are lost
// soon, though it has not renewed the registration: the next one is called at once.
func TestSteadyHome(t *testing.T) {
	d := newDriver(t, func(c *Config) { c.Registrars, c.Timers.Reregistration = c.Registrars[:1], time.Hour })
	d.register()
	lose := func(a sctp.AssocID, after time.Duration) {
		for d.k.calls.assocs[a].Port == 0 {
			d.until(d.now.Sub(d.start) + 50*time.Millisecond)
		}
		d.up(a)
		d.accept(a)
		d.until(d.now.Sub(d.start) + after)
		d.log = nil
		d.down(a)
	}
	for a := range sctp.AssocID(5) {
		lose(a+1, time.Second)
	}
	if d.count("connect") > 0 {
		t.Errorf("log %q, want a pause after short homes", d.log)
	}
	lose(6, 2*steadyTime)
	if d.count("connect") == 0 {
		t.Errorf("log %q, want a call at once", d.log)
	}
}

// TestLongPauseIsTold: the log says when the element tries again if that is not soon, and
// gives the reason of the round that has ended.
func TestLongPauseIsTold(t *testing.T) {
	d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:1] })
	d.known()
	d.down(1)
	for a := sctp.AssocID(2); d.now.Sub(d.start) < 7*time.Minute; a++ {
		d.down(a)
		next, _ := d.k.NextDeadline()
		d.until(next.Sub(d.start))
		d.k.Tick(d.now)
		d.collect()
	}
	var long []string
	for _, ev := range d.events {
		if ev.Pause > 0 {
			long = append(long, ev.String())
		} else if strings.Contains(ev.String(), "trying again in") {
			t.Errorf("%v: tells of a short pause", ev)
		}
	}
	want := []string{"no registrar could be reached: 10.0.0.1:3863: gone; trying again in 8s, and then at least every 1m15s"}
	if !slices.Equal(long, want) {
		t.Errorf("long pauses: %q, want %q", long, want)
	}
}

// TestPauseHasReason: if the hunt begins with a pause, the event has the reason for that.
func TestPauseHasReason(t *testing.T) {
	d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:1] })
	d.register()
	d.up(1)
	d.down(1) // it serves nobody
	if d.count("connect") != 1 {
		t.Errorf("log %q, want a pause", d.log)
	}
	const want = "no registrar could be reached: 10.0.0.1:3863: gone"
	if ev := d.events[len(d.events)-1]; ev.String() != want {
		t.Errorf("event %q, want %q", ev, want)
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
