package pe

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func reject(code rserpool.CauseCode) *asap.RegistrationResponse {
	return &asap.RegistrationResponse{Reject: true, Handle: testPool, ID: testID, Causes: []rserpool.Cause{{Code: code}}}
}

// count counts the lines of the log with a text in them.
func (d *driver) count(text string) int {
	n := 0
	for _, line := range d.log {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// lives checks that nothing has ended the element.
func (d *driver) lives() {
	d.t.Helper()
	if over, err := d.k.Ended(), d.k.failure; over || err != nil || d.k.phase == closing {
		d.t.Fatalf("the element has ended, with error %v", err)
	}
}

// TestRefusedAtHome: a home that refuses an element that it has accepted before
// does not end it, whatever the cause. Its association stays, because an earlier
// registration still stands there, until another registrar has accepted.
func TestRefusedAtHome(t *testing.T) {
	answers := map[string]asap.Message{"error in place of a response": &asap.Error{Causes: []rserpool.Cause{{Code: 0x11}}}}
	for code := range rserpool.CauseCode(12) {
		answers[code.String()] = reject(code)
	}
	answers["no cause"] = &asap.RegistrationResponse{Reject: true, Handle: testPool, ID: testID}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, nil)
			d.atHome()
			d.until(time.Minute)
			d.log = nil
			d.receive(1, answer)
			if n := d.count("close"); n > 0 || d.count("! refused") != 1 || d.count("connect 2") != 1 {
				t.Errorf("log %q, want a refusal, and another registrar called", d.log)
			}
			d.log = nil
			d.receive(1, keepAlive(false, 0x1001))
			d.want("1m0s send 1 ACK 11111111")
			d.up(2)
			d.accept(2)
			d.want("1m0s send 2 REG 11111111 home=00000000 load=0", "1m0s ! home changed", "1m0s ! registered", "1m0s close 1 abort=false")
			d.lives()
		})
	}
}

// TestRefusedByAll: all registrars refuse an element for hours, then one takes it
// back. It lives, asks each of them once a minute, and does not fill a log.
func TestRefusedByAll(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.until(time.Minute)
	d.receive(1, reject(rserpool.CauseInconsistentPolicy))
	requests, lines := 0, 0
	for d.now.Sub(d.start) < 6*time.Hour {
		d.step(func(a sctp.AssocID) asap.Message { return reject(rserpool.CauseInconsistentPolicy) })
		requests, lines = requests+d.count("REG"), lines+d.count("!")
		if d.count("close 1 ") > 0 {
			t.Fatalf("the home's association is closed: %q", d.log)
		}
		d.log = nil
		d.lives()
	}
	if requests < 5*60*2 || requests > 6*60*2+30 {
		t.Errorf("%d registrations in 6 h, want each of two registrars asked once a minute", requests)
	}
	if lines > tellAtOnce+6*6 {
		t.Errorf("%d events in 6 h, want %d at first and six an hour", lines, tellAtOnce)
	}
	last := d.events[len(d.events)-1]
	var rejected *RejectedError
	if last.Type != Refused || !errors.As(last.Err, &rejected) || !strings.Contains(last.String(), "times in 5h") {
		t.Errorf("last event %v, want a refusal with the number so far", last)
	}
	if d.k.refusals.last == nil {
		t.Error("the state does not tell of the refusal")
	}
	at := d.now
	for d.k.refusals.n > 0 && d.now.Sub(at) < time.Hour {
		d.step(func(a sctp.AssocID) asap.Message {
			return &asap.RegistrationResponse{Handle: testPool, ID: testID}
		})
	}
	if d.now.Sub(at) > 61*time.Second || d.count("! registered") != 1 {
		t.Errorf("accepted after %v, log %q; want registered within a minute", d.now.Sub(at), d.log)
	}
}

// step lets time pass to the next deadline. Registrars take all calls but a
// second one from an element that is connected, and answer registrations.
func (d *driver) step(answer func(a sctp.AssocID) asap.Message) {
	d.t.Helper()
	from := len(d.log)
	next, ok := d.k.NextDeadline()
	if !ok {
		d.t.Fatal("the element waits for nothing")
	}
	d.now = later(d.now, next)
	d.k.Tick(d.now)
	d.collect()
	for i := from; i < len(d.log); i++ {
		f := strings.Fields(d.log[i])
		if len(f) < 4 {
			continue
		}
		var a sctp.AssocID
		for _, c := range f[2] {
			a = a*10 + sctp.AssocID(c-'0')
		}
		switch {
		case f[1] == "connect" && d.connected(f[3]):
			d.k.Down(d.now, a, sctp.ErrConnected)
		case f[1] == "connect":
			d.up(a)
		case f[1] == "send" && f[3] == "REG":
			d.receive(a, answer(a))
		case f[1] == "close":
			d.down(a)
		}
		d.collect()
	}
}

func (d *driver) connected(at string) bool {
	for _, p := range d.k.peers {
		if p.String() == at {
			return true
		}
	}
	return false
}

// TestRefusedAfterRestart: a registrar restarts, and another element registers
// first, with another policy. The element that was there before lives.
func TestRefusedAfterRestart(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.down(1)
	d.up(2)
	answer := reject(rserpool.CauseInconsistentPolicy)
	d.receive(2, answer)
	for d.now.Sub(d.start) < time.Hour {
		d.step(func(sctp.AssocID) asap.Message { return answer })
		d.lives()
	}
	if n := d.count("REG"); n < 55 || n > 75 {
		t.Errorf("%d registrations in an hour, want one a minute", n)
	}
	if n := d.count("!"); n > 3*(tellAtOnce+6) {
		t.Errorf("%d events in an hour", n)
	}
	answer.Reject, answer.Causes = false, nil
	for end := d.now.Add(2 * time.Minute); d.k.phase != registered && d.now.Before(end); {
		d.step(func(sctp.AssocID) asap.Message { return answer })
	}
	if d.k.phase != registered {
		t.Errorf("phase %d, want registered", d.k.phase)
	}
}

// TestRefusedWithUpdates: an element that tells of its load all the time is not
// asked for more registrations while they are refused.
func TestRefusedWithUpdates(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.until(time.Minute)
	d.receive(1, reject(rserpool.CauseInvalidValues))
	d.log = nil
	for i := range 1800 {
		d.k.update(d.now, rserpool.Policy{Type: rserpool.LeastUsed, Load: uint32(i)})
		d.until(d.now.Sub(d.start) + 2*time.Second)
		if d.k.phase == registering && !d.k.answerBy.IsZero() {
			d.receive(1, reject(rserpool.CauseInvalidValues))
		}
	}
	if n := d.count("send 1 REG"); n < 30 || n > 80 {
		t.Errorf("%d registrations in an hour, want about one a minute", n)
	}
	d.until(d.now.Sub(d.start) + time.Minute)
	d.accept(1)
	if last := d.regs[len(d.regs)-1]; last.Element.Policy.Load != 1799 {
		t.Errorf("load %d, want the newest", last.Element.Policy.Load)
	}
}

// TestRefusedAfterAbsence: a server that was away, such as by its health check,
// and is refused when it comes back, is no mistake of its user's either.
func TestRefusedAfterAbsence(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.deregister()
	d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
	d.register()
	d.receive(1, reject(rserpool.CauseInconsistentPolicy))
	d.until(time.Minute)
	d.lives()
	if d.k.phase != hunting {
		t.Errorf("phase %d, want hunting", d.k.phase)
	}
}

// TestRefusedPastLife: a registration that stands at a home that refuses to renew
// it stands no longer than its life.
func TestRefusedPastLife(t *testing.T) {
	d := newDriver(t, func(c *Config) { c.Life = 10 * time.Second; c.Registrars = c.Registrars[:1] })
	d.atHome()
	for d.k.standing && d.now.Sub(d.start) < time.Minute {
		d.step(func(a sctp.AssocID) asap.Message { return reject(rserpool.CauseInvalidValues) })
	}
	if at := d.now.Sub(d.start); at < 10*time.Second || at > 20*time.Second {
		t.Errorf("standing until %v, want the registration life of 10s", at)
	}
	d.lives()
}

// TestGivenIdentifierInUse: the element that has a given identifier may have
// died. The registration is tried again, but not for ever.
func TestGivenIdentifierInUse(t *testing.T) {
	t.Run("becomes free", func(t *testing.T) {
		d := newDriver(t, nil)
		d.register()
		d.up(1)
		d.receive(1, reject(rserpool.CauseNonUniquePEIdentifier))
		d.receive(1, keepAlive(false, 1)) // for the other element
		d.until(1500 * time.Millisecond)
		d.receive(1, reject(rserpool.CauseNonUniquePEIdentifier))
		d.until(3500 * time.Millisecond)
		d.accept(1)
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 REG 11111111 home=00000000 load=0", "0s ! refused",
			"1s send 1 REG 11111111 home=00000000 load=0", "1.5s ! refused",
			"3.5s send 1 REG 11111111 home=00000000 load=0", "3.5s ! registered")
	})
	t.Run("stays in use", func(t *testing.T) {
		d := newDriver(t, nil)
		d.register()
		d.up(1)
		for !d.k.Ended() {
			if d.k.phase == registering && !d.k.answerBy.IsZero() {
				d.receive(1, reject(rserpool.CauseNonUniquePEIdentifier))
			}
			if d.k.phase == closing {
				d.down(1)
				continue
			}
			d.step(func(a sctp.AssocID) asap.Message { return reject(rserpool.CauseNonUniquePEIdentifier) })
		}
		d.ended("in use by another element")
		if at := d.now.Sub(d.start); at != claimTime {
			t.Errorf("ended after %v, want %v", at, claimTime)
		}
		if n := d.count("REG"); n > 15 {
			t.Errorf("%d registrations, want pauses that grow", n)
		}
		if d.count("DEREG") > 0 {
			t.Error("the other element was deregistered")
		}
	})
	t.Run("stopped meanwhile", func(t *testing.T) {
		d := newDriver(t, nil)
		d.register()
		d.up(1)
		d.receive(1, reject(rserpool.CauseNonUniquePEIdentifier))
		d.stop()
		d.down(1)
		d.ended("")
		if d.count("DEREG") > 0 {
			t.Error("the other element was deregistered")
		}
	})
	t.Run("home lost meanwhile", func(t *testing.T) {
		d := newDriver(t, nil)
		d.register()
		d.up(1)
		d.receive(1, reject(rserpool.CauseNonUniquePEIdentifier))
		d.down(1)
		d.up(2)
		d.accept(2)
		if d.k.home != 2 || d.k.phase != registered {
			t.Errorf("home %d, phase %d, want registered at the second", d.k.home, d.k.phase)
		}
	})
}

// TestMistakeTime: a refusal ends an element only if the first one comes soon after the element is
// to be registered.
func TestMistakeTime(t *testing.T) {
	const limit = 10 * time.Second
	for _, tt := range []struct {
		name     string
		limit    time.Duration
		standby  time.Duration // before the element is to be registered
		first    time.Duration // when the registrar answers first, from then on
		code     rserpool.CauseCode
		survives bool
	}{
		{"no limit", 0, 0, time.Hour, rserpool.CauseInconsistentPolicy, false},
		{"soon", limit, 0, limit - 1, rserpool.CauseInconsistentPolicy, false},
		{"soon after a standby", limit, time.Hour, limit - 1, rserpool.CauseInconsistentPolicy, false},
		{"late", limit, 0, limit, rserpool.CauseInconsistentPolicy, true},
		{"late after a standby", limit, time.Hour, limit, rserpool.CauseSecurity, true},
		{"never", -1, 0, 0, rserpool.CauseInvalidValues, true},
		{"identifier in use since the beginning", limit, 0, 0, rserpool.CauseNonUniquePEIdentifier, false},
		{"identifier in use since later", limit, 0, limit, rserpool.CauseNonUniquePEIdentifier, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, func(c *Config) {
				c.MistakeTime = tt.limit
				c.Registrars, c.Timers.Registration = c.Registrars[:1], 2*time.Hour
			})
			d.now = d.now.Add(tt.standby)
			d.register()
			d.up(1)
			d.until(tt.standby + tt.first)
			d.receive(1, reject(tt.code))
			for end := d.now.Add(time.Hour); d.now.Before(end) && !d.k.Ended(); {
				if d.k.phase == closing {
					d.down(d.k.home)
					continue
				}
				d.step(func(sctp.AssocID) asap.Message { return reject(tt.code) })
			}
			if d.k.Ended() == tt.survives {
				t.Fatalf("the element has ended: %v, with error %v", d.k.Ended(), d.k.failure)
			}
			if !tt.survives {
				return
			}
			for end := d.now.Add(80 * time.Second); d.now.Before(end) && d.k.phase != registered; {
				d.step(func(sctp.AssocID) asap.Message { return &asap.RegistrationResponse{Handle: testPool, ID: testID} })
			}
			if d.k.phase != registered {
				t.Errorf("phase %d, want registered as soon as the registrar accepts the element", d.k.phase)
			}
		})
	}
}

// TestReportIsNoRefusal: an ASAP_ERROR that only reports a parameter that the
// registrar has skipped changes nothing: the response follows.
func TestReportIsNoRefusal(t *testing.T) {
	report := &asap.Error{Causes: []rserpool.Cause{{Code: rserpool.CauseUnrecognizedParameter, Info: []byte{0xc1, 0x23, 0, 4}}}}
	d := newDriver(t, nil)
	d.register()
	d.up(1)
	d.receive(1, report)
	d.accept(1)
	d.want("0s connect 1 10.0.0.1:3863", "0s send 1 REG 11111111 home=00000000 load=0", "0s ! warning", "0s ! registered")
	d.stop()
	d.receive(1, report)
	d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
	d.want("0s send 1 DEREG 11111111", "0s ! deregistered", "0s close 1 abort=false")
}
