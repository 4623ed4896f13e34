package pe

import (
	"fmt"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// renew has the transport end an association so that a new one is made.
func (d *driver) renew(a sctp.AssocID) {
	d.k.Down(d.now, a, fmt.Errorf("down: %w", sctp.ErrRenew))
	d.collect()
}

// TestRenewal: an association that is renewed leads back to the same registrar, and there is no
// event but the re-registration.
func TestRenewal(t *testing.T) {
	d := newDriver(t, nil)
	d.known()
	d.renew(1)
	d.until(6 * time.Second)
	if d.want("4s connect 2 10.0.0.1:3863"); !d.k.standing {
		t.Error("the registration does not stand during the renewal")
	}
	d.up(2)
	d.accept(2)
	d.want("6s send 2 REG 11111111 home=00001001 load=0", "6s ! reregistered")
	// Again, at once: no pause, and no other registrar.
	for a := sctp.AssocID(2); a < 10; a++ {
		d.renew(a)
		d.up(a + 1)
		d.accept(a + 1)
		d.want(fmt.Sprintf("6s connect %d 10.0.0.1:3863", a+1), fmt.Sprintf("6s send %d REG 11111111 home=00001001 load=0", a+1), "6s ! reregistered")
	}
}

// TestRenewalFails: what does not lead back to the home registrar is the loss of the home.
func TestRenewalFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(d *driver)
		want []string
	}{
		{"refused", func(d *driver) {
			d.down(2)
			d.up(3)
			d.accept(3)
		}, []string{"4s connect 3 10.0.0.2:3863", "4s ! home lost", "4s send 3 REG 11111111 home=00000000 load=0", "4s ! registered"}},
		{"silent", func(d *driver) {
			d.until(8 * time.Second)
			d.up(3)
			d.accept(3)
		}, []string{"7s connect 3 10.0.0.2:3863", "8s ! home lost", "8s send 3 REG 11111111 home=00000000 load=0", "8s close 2 abort=true", "8s ! registered"}},
		{"nobody", func(d *driver) {
			d.down(2)
			d.down(3)
			d.until(4600 * time.Millisecond)
			d.up(4)
			d.accept(4)
		}, []string{"4s connect 3 10.0.0.2:3863", "4s ! home lost", "4s ! no registrar", "4.5s connect 4 10.0.0.1:3863",
			"4.6s send 4 REG 11111111 home=00000000 load=0", "4.6s ! registered"}},
		{"lost again", func(d *driver) {
			d.up(2)
			d.down(2)
			d.up(3)
			d.accept(3)
		}, []string{"4s send 2 REG 11111111 home=00001001 load=0", "4s ! home lost", "4s connect 3 10.0.0.2:3863",
			"4s send 3 REG 11111111 home=00000000 load=0", "4s ! registered"}},
		{"not accepted", func(d *driver) {
			d.up(2)
			d.receive(2, &asap.RegistrationResponse{Reject: true, Handle: testPool, ID: testID, Causes: []rserpool.Cause{{Code: rserpool.CauseSecurity}}})
			d.up(3)
			d.accept(3)
		}, []string{"4s send 2 REG 11111111 home=00001001 load=0", "4s ! refused", "4s close 2 abort=true", "4s connect 3 10.0.0.2:3863",
			"4s send 3 REG 11111111 home=00000000 load=0", "4s ! registered"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, nil)
			d.known()
			d.renew(1)
			d.want("4s connect 2 10.0.0.1:3863")
			tt.do(d)
			d.want(tt.want...)
			if !d.k.standing || d.k.renewing {
				t.Errorf("standing %v, renewing %v in the end", d.k.standing, d.k.renewing)
			}
		})
	}
}

// TestRenewalMeanwhile: what happens during a renewal is done when the association is there.
func TestRenewalMeanwhile(t *testing.T) {
	t.Run("update", func(t *testing.T) {
		d := newDriver(t, nil)
		d.known()
		d.renew(1)
		d.k.update(d.now, rserpool.Policy{Type: rserpool.LeastUsed, Load: 7})
		d.collect()
		d.up(2)
		d.accept(2)
		d.want("4s connect 2 10.0.0.1:3863", "4s send 2 REG 11111111 home=00001001 load=7", "4s ! reregistered")
	})
	t.Run("request", func(t *testing.T) {
		d := newDriver(t, nil)
		d.known()
		d.k.resolve(d.now, "db", 1)
		d.collect()
		d.renew(1)
		d.up(2)
		d.want("4s send 1 ASAP_HANDLE_RESOLUTION", "4s connect 2 10.0.0.1:3863", "4s send 2 ASAP_HANDLE_RESOLUTION", "4s send 2 REG 11111111 home=00001001 load=0")
	})
	t.Run("deregistration", func(t *testing.T) {
		d := newDriver(t, nil)
		d.known()
		d.deregister()
		d.renew(1) // the deregistration may be lost
		d.up(2)
		d.receive(2, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.want("4s send 1 DEREG 11111111", "4s ! home lost", "4s connect 2 10.0.0.1:3863", "4s send 2 DEREG 11111111", "4s ! deregistered")
	})
	t.Run("stop", func(t *testing.T) {
		d := newDriver(t, nil)
		d.known()
		d.renew(1)
		d.stop()
		if d.k.standing {
			t.Error("the registration stands while the element leaves")
		}
		d.up(2)
		d.receive(2, &asap.DeregistrationResponse{Handle: testPool, ID: testID})
		d.want("4s connect 2 10.0.0.1:3863", "4s send 2 DEREG 11111111", "4s ! deregistered", "4s close 2 abort=false")
	})
	t.Run("call", func(t *testing.T) { // the registrar does not wait, and calls the element
		d := newDriver(t, nil)
		d.known()
		d.renew(1)
		d.callFrom(8, "10.0.0.1")
		d.receive(8, keepAlive(true, 0x1001))
		d.want("4s connect 2 10.0.0.1:3863", "4s send 8 ACK 11111111", "4s close 2 abort=true")
	})
}
