package pe

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// callFrom has a host call the element.
func (d *driver) callFrom(a sctp.AssocID, host string) {
	d.k.Up(d.now, a, []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(host), 3863)})
	d.collect()
}

// stillHome checks that the element is registered at its first home.
func (d *driver) stillHome() {
	d.t.Helper()
	d.lives()
	if d.k.home != 1 || !d.k.standing || d.k.element.Home != 0x1001 {
		d.t.Fatalf("home %v on %d, standing %v, want the first home", d.k.element.Home, d.k.home, d.k.standing)
	}
}

// adoption is an element at home that somebody else wants to adopt: association
// 8, from 10.0.0.9.
func adoption(t *testing.T) *driver {
	t.Helper()
	d := newDriver(t, nil)
	d.atHome()
	d.receive(1, keepAlive(false, 0x1001))
	d.until(5 * time.Second)
	d.up(8)
	d.log = nil
	d.receive(8, keepAlive(true, 0x2002))
	d.want("5s send 8 ACK 11111111", "5s send 8 REG 11111111 home=00002002 load=0")
	return d
}

// TestAdopterRefuses: a registrar that wants to be the home and then refuses the element
// changes nothing. The home is told again that the element is its own.
func TestAdopterRefuses(t *testing.T) {
	for name, answer := range map[string]asap.Message{
		"rejects":            reject(rserpool.CauseInconsistentPolicy),
		"identifier in use":  reject(rserpool.CauseNonUniquePEIdentifier),
		"lacks resources":    reject(rserpool.CauseLackOfResources),
		"reports an error":   &asap.Error{Causes: []rserpool.Cause{{Code: rserpool.CauseSecurity}}},
		"rejects, no causes": &asap.RegistrationResponse{Reject: true, Handle: testPool, ID: testID},
	} {
		t.Run(name, func(t *testing.T) {
			d := adoption(t)
			d.receive(8, answer)
			d.until(6 * time.Second)
			d.stillHome()
			if d.count("! adoption failed") != 1 || d.count("close") > 0 || d.count("send 1 REG 11111111 home=00001001") != 1 {
				t.Errorf("log %q, want the failure told, and a registration with the home", d.log)
			}
		})
	}
}

// TestAdopterSilent: the same for an adopter that does not answer within ten
// seconds, goes away, or cannot be sent to.
func TestAdopterSilent(t *testing.T) {
	t.Run("silent", func(t *testing.T) {
		d := adoption(t)
		d.until(16 * time.Second)
		d.stillHome()
		d.want("15s ! adoption failed", "15s send 1 REG 11111111 home=00001001 load=0")
	})
	t.Run("gone", func(t *testing.T) {
		d := adoption(t)
		d.down(8)
		d.until(6 * time.Second)
		d.stillHome()
		d.want("5s ! adoption failed", "5s send 1 REG 11111111 home=00001001 load=0")
	})
	t.Run("not reached", func(t *testing.T) {
		d := adoption(t)
		d.k.SendFailed(d.now, 8, errors.New("full"))
		d.until(6 * time.Second)
		d.stillHome()
		d.want("5s ! adoption failed", "5s send 1 REG 11111111 home=00001001 load=0")
	})
	t.Run("answers too late", func(t *testing.T) {
		d := adoption(t)
		d.until(15 * time.Second)
		d.accept(1)
		d.until(30 * time.Second)
		d.log = nil
		d.accept(8) // so it and its peers take it for the home
		d.accept(8)
		d.until(31 * time.Second)
		d.want("30s send 1 REG 11111111 home=00001001 load=0")
		d.stillHome()
	})
}

// TestAdopterLateWithoutHome: a registrar that has taken over many elements answers late.
// Meanwhile the home is lost: the late answer makes the registrar the home, although it would
// not be tried again for minutes.
func TestAdopterLateWithoutHome(t *testing.T) {
	d := adoption(t)
	d.until(16 * time.Second) // the trial has ended
	d.down(1)
	d.until(20 * time.Second)
	d.log = nil
	d.accept(8)
	d.lives()
	if d.k.home != 8 || !d.k.standing || d.k.element.Home != 0x2002 || d.count("! home changed") != 1 {
		t.Errorf("log %q, home %v on %d: want the late one", d.log, d.k.element.Home, d.k.home)
	}
}

// TestAdopterLosesHome: the home fails while another one is on trial; both that
// one and a hunt may find the next home.
func TestAdopterLosesHome(t *testing.T) {
	d := adoption(t)
	d.down(1)
	d.up(2)
	d.want("5s ! home lost", "5s connect 2 10.0.0.2:3863", "5s send 2 REG 11111111 home=00000000 load=0")
	d.accept(8)
	d.want("5s ! home changed", "5s ! registered", "5s close 2 abort=false")
}

// TestAdopterWhileHunting: a registrar that wants to be the home and then does
// not answer does not keep the element from finding one.
func TestAdopterWhileHunting(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.down(1)
	d.up(8)
	d.receive(8, keepAlive(true, 0x2002))
	d.up(2)
	d.accept(2)
	d.want("0s ! home lost", "0s connect 2 10.0.0.2:3863", "0s send 8 ACK 11111111", "0s send 8 REG 11111111 home=00002002 load=0",
		"0s send 2 REG 11111111 home=00000000 load=0", "0s ! registered")
}

// TestAdopterAgain: a registrar that has not accepted the element is not tried
// again for a while, over any association.
func TestAdopterAgain(t *testing.T) {
	d := adoption(t)
	d.receive(8, reject(rserpool.CauseSecurity))
	for i := range 1000 {
		d.callFrom(sctp.AssocID(100+i), "10.0.0.9")
		d.receive(sctp.AssocID(100+i), keepAlive(true, rserpool.ServerID(i)))
	}
	for range shunTime / time.Second {
		d.until(d.now.Sub(d.start) + time.Second)
		if d.k.phase == registering {
			d.accept(1)
		}
	}
	d.stillHome()
	if n := d.count("home=00002002") + d.count("! adoption failed"); n != 1 {
		t.Errorf("%d trials, want the one from before told", n)
	}
	if d.count("REG") != d.count("send 1 REG") {
		t.Error("a registration went to a stranger")
	}
	d.callFrom(2000, "10.0.0.9")
	d.log = nil
	d.receive(2000, keepAlive(true, 0x2002))
	if d.count("send 2000 REG") != 1 {
		t.Errorf("log %q, want another trial after %v", d.log, shunTime)
	}
}

// TestManyAdopters: strangers with many addresses cause a bounded number of
// trials, and never move the element.
func TestManyAdopters(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.receive(1, keepAlive(false, 0x1001))
	d.log = nil
	trials := 0
	for i := range 3600 {
		a := sctp.AssocID(1000 + i)
		host := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String()
		d.callFrom(a, host)
		d.receive(a, keepAlive(true, 66))
		d.receive(a, reject(rserpool.CauseInconsistentPolicy))
		d.until(d.now.Sub(d.start) + time.Second)
		if d.k.phase == registering {
			d.accept(1)
		}
		d.stillHome()
		trials += d.count("REG 11111111 home=00000042")
		d.log = nil
	}
	if most := maxShunned * 31; trials > most {
		t.Errorf("%d trials in an hour, want %d at most", trials, most)
	}
	if len(d.k.shunned) > maxShunned {
		t.Errorf("%d strangers remembered, want %d at most", len(d.k.shunned), maxShunned)
	}
}

// TestAdoptersFlip: strangers that accept the element by turns do not have it
// change its home, and tell of it, all the time.
func TestAdoptersFlip(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	changes := 0
	for i := range 600 {
		a := sctp.AssocID(1000 + i)
		d.callFrom(a, "10.0.0.9")
		d.receive(a, keepAlive(true, rserpool.ServerID(i)))
		if d.count("send") > 0 {
			d.accept(a)
		}
		changes += d.count("! home changed")
		d.log = nil
		d.until(d.now.Sub(d.start) + 100*time.Millisecond)
	}
	if changes > maxAdoptions {
		t.Errorf("%d changes of the home in a minute, want %d at most", changes, maxAdoptions)
	}
	d.lives()
}

// TestLeaveDuringTrial: an element that leaves tells the registrar on trial as
// well.
func TestLeaveDuringTrial(t *testing.T) {
	d := adoption(t)
	d.stop()
	d.want("5s send 8 DEREG 11111111", "5s close 8 abort=false", "5s send 1 DEREG 11111111")
	d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
	d.down(1)
	d.ended("")
}

// TestStrangersAnswers: answers of those that were not asked change nothing.
func TestStrangersAnswers(t *testing.T) {
	for name, phase := range map[string]func(d *driver){
		"registered":  func(d *driver) {},
		"registering": func(d *driver) { d.until(time.Minute) },
		"leaving":     func(d *driver) { d.deregister() },
		"on trial": func(d *driver) {
			d.callFrom(9, "10.0.0.99")
			d.receive(9, keepAlive(true, 9))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, nil)
			d.atHome()
			d.callFrom(8, "10.0.0.9")
			phase(d)
			before := d.k.phase
			d.log = nil
			d.receive(8, reject(rserpool.CauseSecurity))
			d.accept(8)
			d.receive(8, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
			d.receive(8, &asap.DeregistrationResponse{Handle: testPool, ID: testID, Causes: []rserpool.Cause{{Code: rserpool.CauseSecurity}}})
			d.receive(8, &asap.Error{Causes: []rserpool.Cause{{Code: rserpool.CauseSecurity}}})
			d.until(d.now.Sub(d.start))
			if len(d.log) != 1 || d.count("! warning") != 1 || d.k.phase != before || d.k.home != 1 {
				t.Errorf("log %q, phase %d, home %d, want one warning and no change", d.log, d.k.phase, d.k.home)
			}
		})
	}
}

// TestStrangersAssociations: one host that opens very many associations drives
// out its own, not those of others.
func TestStrangersAssociations(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.callFrom(8, "10.0.0.2") // another registrar
	for i := range 1000 {
		d.callFrom(sctp.AssocID(100+i), "10.0.0.9")
	}
	if _, ok := d.k.peers[8]; !ok || d.count("close 8 ") > 0 {
		t.Error("the other registrar's association was ended")
	}
	if _, ok := d.k.peers[1099]; !ok || len(d.k.peers) != maxPeers {
		t.Errorf("%d associations, want %d with the newest", len(d.k.peers), maxPeers)
	}
}

// TestWarningsOfAFlood: what a stranger can cause is not told all the time.
func TestWarningsOfAFlood(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.up(8)
	warnings := 0
	for d.now.Sub(d.start) < time.Hour {
		d.receive(8, &asap.Error{Causes: []rserpool.Cause{{Code: rserpool.CauseSecurity}}})
		warnings += d.count("! warning")
		d.log = nil
		d.until(d.now.Sub(d.start) + 100*time.Millisecond)
		if d.k.phase == registering {
			d.accept(1)
		}
	}
	if warnings > 70 {
		t.Errorf("%d warnings in an hour, want one a minute", warnings)
	}
	// After a time without any, the next one is told at once.
	d.until(2 * time.Hour)
	d.log = nil
	d.receive(8, &asap.Error{Causes: []rserpool.Cause{{Code: rserpool.CauseSecurity}}})
	if d.count("! warning") != 1 {
		t.Error("the next warning is not told")
	}
}

// TestRegistrarThatCalledBefore: a registrar that has an association with the
// element is not called, but used when it is the next home.
func TestRegistrarThatCalledBefore(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.callFrom(8, "10.0.0.2")
	d.down(1)
	d.k.Down(d.now, 2, sctp.ErrConnected)
	d.collect()
	d.accept(8)
	d.want("0s ! home lost", "0s connect 2 10.0.0.2:3863", "0s send 8 REG 11111111 home=00000000 load=0", "0s ! registered")
}

// TestFlappingHome: a home that accepts the element and ends the association, time
// and again, is called no more often than one that is down.
func TestFlappingHome(t *testing.T) {
	d := newDriver(t, nil)
	d.register()
	for d.now.Sub(d.start) < time.Hour && len(d.log) < 10_000 {
		for a := range d.k.calls.assocs {
			d.up(a)
			d.accept(a)
			d.down(a)
		}
		if len(d.k.calls.assocs) == 0 {
			d.until(d.now.Sub(d.start) + 100*time.Millisecond)
		}
	}
	if n, most := d.count("connect"), int(time.Hour/minHurry)+10; n > most {
		t.Errorf("%d calls within %v, want at most %d", n, d.now.Sub(d.start), most)
	}
	if n, lost := d.count("no registrar"), d.count("home lost"); n > 0 || lost == 0 {
		t.Errorf("%d events of no registrar and %d of a lost home, want only the latter", n, lost)
	}
	// One that stays is trusted again.
	for len(d.k.calls.assocs) == 0 {
		d.until(d.now.Sub(d.start) + time.Second)
	}
	for a := range d.k.calls.assocs {
		d.up(a)
		d.accept(a)
		d.until(d.now.Sub(d.start) + time.Minute)
		d.accept(a)
		d.log = nil
		d.down(a)
		break
	}
	if d.count("connect") == 0 {
		t.Errorf("log %q, want the next registrar called at once", d.log)
	}
}

// TestExpiredAgainAndAgain: a home that drops the element after each
// registration is asked less and less often.
func TestExpiredAgainAndAgain(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	for d.now.Sub(d.start) < time.Hour {
		d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.until(d.now.Sub(d.start) + 500*time.Millisecond)
		if d.k.phase == registering {
			d.accept(1)
		}
	}
	if n := d.count("REG"); n > 70 {
		t.Errorf("%d registrations in an hour, want one in T4-reregistration of a minute", n)
	}
	if n := d.count("!"); n > 140 {
		t.Errorf("%d events in an hour", n)
	}
	d.lives()
}

// TestAdopterUnknown: a stranger that does as registrars do takes the element out
// of its pool for a minute at most. The association with the former home stays,
// which would take its end for the element's, and that home takes it back.
func TestAdopterUnknown(t *testing.T) {
	d := adoption(t)
	d.accept(8)
	d.receive(1, keepAlive(false, 0x1001))
	d.want("5s ! home changed", "5s ! reregistered", "5s send 1 ACK 11111111")
	d.until(65 * time.Second)
	d.k.Down(d.now, 2, sctp.ErrConnected)
	d.collect()
	d.accept(1)
	d.want("1m5s send 8 REG 11111111 home=00002002 load=0", "1m5s connect 2 10.0.0.1:3863", "1m5s send 1 REG 11111111 home=00000000 load=0",
		"1m5s ! home changed", "1m5s ! reregistered", "1m5s close 8 abort=false")
	if d.k.home != 1 || !d.k.back.at.IsZero() {
		t.Errorf("home %d, want the first one for good", d.k.home)
	}
}

// TestAdopterUnknownStays: where no known registrar is left, the one that has
// adopted the element stays its home, and the known ones are called less and less
// often.
func TestAdopterUnknownStays(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.up(800)
	d.receive(800, keepAlive(true, 0x2002))
	d.down(1)
	d.down(2)
	d.accept(800)
	d.log = nil
	calls := 0
	for d.now.Sub(d.start) < 3*time.Hour {
		d.until(d.now.Sub(d.start) + time.Second)
		if d.k.phase == registering {
			d.accept(800)
		}
		for a := range d.k.calls.assocs {
			d.down(a)
		}
		calls += d.count("connect")
		if d.count("! no registrar") > 0 {
			t.Fatalf("log %q: there is a home", d.log)
		}
		d.log = nil
	}
	if d.k.home != 800 || !d.k.standing {
		t.Errorf("home %d, want the adopter", d.k.home)
	}
	if calls > 60 {
		t.Errorf("%d calls in 3 h, want about one in 16 min to each of two registrars", calls)
	}
}

// TestMovedRefused: a machine whose addresses have changed, and whose home refuses
// the element from the new ones, stays where it is as long as that is possible,
// and tries again after pauses that grow.
func TestMovedRefused(t *testing.T) {
	d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:1] })
	d.atHome()
	d.k.readdress(d.now, []netip.Addr{netip.MustParseAddr("10.0.0.12")}, true, nil)
	d.until(0)
	moves := 0
	for d.now.Sub(d.start) < time.Hour {
		for a := range d.k.calls.assocs {
			d.up(a)
			d.receive(a, reject(rserpool.CauseInvalidValues))
			moves++
		}
		d.until(d.now.Sub(d.start) + time.Second)
		d.k.moveOn(d.now)
		d.until(d.now.Sub(d.start))
		if d.k.phase == registering {
			d.accept(1)
		}
		d.lives()
	}
	if d.k.home != 1 || !d.k.standing || d.count("close 1 ") > 0 {
		t.Errorf("home %d, standing %v, want the registration from before", d.k.home, d.k.standing)
	}
	if moves < 55 || moves > 75 {
		t.Errorf("%d tries in an hour, want one a minute", moves)
	}
	for _, r := range d.regs[len(d.regs)-2:] {
		t.Logf("registered: %v", r.Element.UserTransport.Addrs)
	}
}

// TestAdopterTooEarly: a registrar that wants to be the home of an element that no
// registrar has accepted yet is a stranger.
func TestAdopterTooEarly(t *testing.T) {
	d := newDriver(t, nil)
	d.register()
	d.up(1)
	d.up(8)
	d.log = nil
	d.receive(8, keepAlive(true, 0x2002))
	d.accept(8)
	d.want("0s send 8 ACK 11111111")
	d.accept(1)
	d.want("0s ! registered")
	if d.k.home != 1 {
		t.Errorf("home %d, want 1", d.k.home)
	}
}

// TestStrangersByTurns: strangers that adopt the element by turns do not keep it
// from going back to a registrar that it knows, and do not drive out the
// association with that one.
func TestStrangersByTurns(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	away := 0
	for i := range 3600 {
		a := sctp.AssocID(1000 + i)
		d.callFrom(a, netip.AddrFrom4([4]byte{10, 1, byte(i % 20), 9}).String())
		d.receive(a, keepAlive(true, 66))
		d.accept(a)
		d.until(d.now.Sub(d.start) + time.Second)
		if d.count("close 1 ") > 0 {
			t.Fatal("the association with the former home was ended")
		}
		for c := range d.k.calls.assocs {
			if d.k.calls.assocs[c].String() == "10.0.0.1:3863" {
				d.k.Down(d.now, c, sctp.ErrConnected)
			} else {
				d.k.Down(d.now, c, errors.New("refused"))
			}
			d.collect()
		}
		if d.k.phase == registering || d.k.trial.assoc == 1 {
			d.accept(d.k.home)
			d.accept(1)
		}
		if d.k.home != 1 {
			away++
		}
		d.log = nil
		d.lives()
	}
	if away > 6*60 {
		t.Errorf("away from the known registrar for %d s of an hour", away)
	}
	t.Logf("away from the known registrar for %d s of an hour", away)
}

// TestAddressCamping: a stranger that claims a registrar's address beside its own
// does not keep the element from that registrar, nor is it taken for it.
func TestAddressCamping(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.k.Up(d.now, 8, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.66:3863"), netip.MustParseAddrPort("10.0.0.2:3863")})
	d.down(1)
	d.k.Down(d.now, 2, sctp.ErrConnected)
	d.collect()
	d.want("0s ! home lost", "0s connect 2 10.0.0.2:3863", "0s close 8 abort=true", "0s connect 3 10.0.0.1:3863")
}
