package pe

import (
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestNoRegistrarsAnswers: an element is no registrar. A REGISTRATION that somebody
// sends to it gets no REGISTRATION_RESPONSE, not even if it is malformed.
func TestNoRegistrarsAnswers(t *testing.T) {
	d := newDriver(t, nil)
	d.atHome()
	d.up(8)
	m := &asap.Registration{Handle: testPool, Element: rserpool.PoolElement{
		ID: 7, Policy: rserpool.Policy{Type: rserpool.RoundRobin}, UserTransport: rserpool.Transport{Type: rserpool.Opaque},
	}}
	good, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte{}, good...)
	bad[len(bad)-1] = 0 // policy type 0
	d.k.Received(d.now, 8, good)
	d.collect()
	d.want()
	d.k.Received(d.now, 8, bad)
	d.collect()
	if len(d.log) != 2 || !strings.HasPrefix(d.log[1], "0s send 8 ERROR") {
		t.Errorf("log %q, want a warning and an ASAP_ERROR", d.log)
	}
}
