package pe

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestAddrsOfTheCaller: a program may change the addresses in events and errors that it gets. The
// element goes on with its own.
func TestAddrsOfTheCaller(t *testing.T) {
	other := netip.MustParseAddr("192.0.2.1")
	t.Run("Readdressed", func(t *testing.T) {
		cfg := Config{Advertise: addrs("203.0.113.1")}
		d := newDriver(t, nil)
		d.k.readdress(d.now, cfg.registered(addrs("10.0.0.1")), true, nil)
		d.k.readdress(d.now, cfg.registered(addrs("10.0.0.2")), true, nil)
		d.collect()
		ev := d.events[len(d.events)-1]
		if ev.Type != Readdressed {
			t.Fatalf("%v, want Readdressed", ev)
		}
		ev.Addrs[0] = other
		if d.k.addrs[0] == other || cfg.Advertise[0] == other {
			t.Errorf("the element registers %v now, and advertises %v", d.k.addrs, cfg.Advertise)
		}
	})
	t.Run("RejectedError", func(t *testing.T) {
		d := newDriver(t, nil)
		d.register()
		d.up(1)
		d.receive(1, &asap.RegistrationResponse{Handle: testPool, ID: testID, Reject: true, Causes: []rserpool.Cause{{Code: rserpool.CauseInvalidValues}}})
		d.until(time.Second)
		var r *RejectedError
		for _, ev := range d.events {
			errors.As(ev.Err, &r)
		}
		if r == nil || len(r.Addrs) == 0 {
			t.Fatalf("no refusal with addresses in %v", d.events)
		}
		r.Addrs[0] = other
		if d.k.element.UserTransport.Addrs[0] == other {
			t.Error("the element registers the caller's address")
		}
	})
}
