package pe

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestDeregistrationRefused: a refused deregistration is no success.
func TestDeregistrationRefused(t *testing.T) {
	refusal := &asap.DeregistrationResponse{Handle: testPool, ID: testID, Causes: []rserpool.Cause{{Code: rserpool.CauseSecurity}}}
	t.Run("at the end", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.stop()
		d.receive(1, refusal)
		d.want("0s send 1 DEREG 11111111", "0s ! deregistration refused", "0s close 1 abort=false")
		d.down(1)
		d.ended(`registrar 10.0.0.1:3863 refuses the deregistration of element 11111111 from pool "web": rejected for security reasons`)
		var refused *DeregistrationError
		if err := d.k.failure; !errors.As(err, &refused) {
			t.Errorf("error %T, want a DeregistrationError", err)
		}
	})
	t.Run("not available", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.deregister()
		d.receive(1, refusal)
		d.want("0s send 1 DEREG 11111111", "0s ! deregistration refused")
		// The registrar misses it, and it is asked once more at the end.
		d.receive(1, keepAlive(false, 1))
		d.until(time.Hour)
		d.want()
		d.stop()
		d.receive(1, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.want("1h0m0s send 1 DEREG 11111111", "1h0m0s ! deregistered", "1h0m0s close 1 abort=false")
		d.down(1)
		d.ended("")
	})
	t.Run("available again meanwhile", func(t *testing.T) {
		d := newDriver(t, nil)
		d.atHome()
		d.deregister()
		d.register()
		d.receive(1, refusal)
		d.accept(1)
		d.want("0s send 1 DEREG 11111111", "0s ! deregistration refused", "0s send 1 REG 11111111 home=00000000 load=0", "0s ! registered")
	})
	t.Run("of a registration that was refused", func(t *testing.T) {
		d := newDriver(t, nil)
		d.register()
		d.up(1)
		d.stop()
		d.receive(1, reject(rserpool.CauseNonUniquePEIdentifier))
		d.receive(1, refusal)
		d.down(1)
		d.ended("")
	})
	t.Run("of a registration that was accepted", func(t *testing.T) {
		d := newDriver(t, nil)
		d.register()
		d.up(1)
		d.stop()
		d.accept(1)
		d.receive(1, refusal)
		d.down(1)
		d.ended("refuses the deregistration")
	})
}

// TestLeavingIsNotKeptAlive: while an element that is to leave finds no registrar
// that deregisters it, it acknowledges no keep-alive, and nobody adopts it.
func TestLeavingIsNotKeptAlive(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.deregister()
	d.receive(1, keepAlive(false, 1))
	d.down(1)
	d.up(8)
	d.receive(8, keepAlive(true, 2))
	// Nobody has told the other registrar yet.
	d.want("0s send 1 DEREG 11111111", "0s ! home lost", "0s connect 2 10.0.0.2:3863", "0s send 8 DEREG 11111111")
}

// TestTurnedAway: an element that is to end, and has been let in by no registrar, ends at once. If
// one may have accepted it, it deregisters.
func TestTurnedAway(t *testing.T) {
	aborted := fmt.Errorf("%w: user-initiated abort", sctp.ErrAborted)
	unanswered := func(why error) func(*driver) {
		return func(d *driver) {
			d.k.Down(d.now, 1, why)
			d.collect()
			d.stop()
		}
	}
	for _, tt := range []struct {
		name string
		does func(*driver) // from the first registration at association 1 on
		ends bool          // at once
	}{
		{"aborted", unanswered(aborted), true},
		{"certificate refused", unanswered(secure.ErrOurs), true},
		{"lost", unanswered(sctp.ErrTimeout), false},
		{"restarted", unanswered(sctp.ErrRestarted), false},
		{"not delivered", func(d *driver) {
			d.k.SendFailed(d.now, 1, aborted)
			d.collect()
			d.stop()
		}, true},
		{"aborted while it leaves", func(d *driver) {
			d.stop()
			d.k.Down(d.now, 1, aborted)
			d.collect()
		}, true},
		{"accepted while it leaves, and aborted", func(d *driver) {
			d.stop()
			d.accept(1)
			d.k.Down(d.now, 1, aborted)
			d.collect()
		}, false},
		{"the answer is missing", func(d *driver) { d.stop() }, false},
		{"accepted, and aborted", func(d *driver) {
			d.accept(1)
			unanswered(aborted)(d)
		}, false},
		{"accepted, and aborted at the next registration", func(d *driver) {
			d.accept(1)
			d.until(time.Minute)
			unanswered(aborted)(d)
		}, false},
		{"the first home silent, the second one aborts", func(d *driver) {
			d.until(time.Minute) // T2-registration, twice
			d.up(2)
			d.k.Down(d.now, 2, aborted)
			d.collect()
			d.stop()
		}, false},
		{"the first home silent, the second one aborts the deregistration", func(d *driver) {
			d.until(time.Minute)
			d.stop()
			d.up(2)
			d.k.Down(d.now, 2, aborted)
			d.collect()
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, nil)
			d.register()
			d.up(1)
			tt.does(d)
			if d.k.Ended() != tt.ends {
				t.Fatalf("over %t, want %t: %q", d.k.Ended(), tt.ends, d.log)
			}
			if tt.ends {
				d.ended("")
				return
			}
			d.until(d.now.Sub(d.start) + d.k.timers.Stop)
			d.ended("is not confirmed after")
		})
	}
}
