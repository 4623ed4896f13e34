package udp

import (
	"testing"
	"testing/synctest"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// TestUDPPause has an application read nothing from one of its associations.
func TestUDPPause(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		z := w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, "10.0.0.3:3863")
		defer end(z)
		a := x.Connect(to(addrY))
		x.Next(sctp.Up)
		b := y.Next(sctp.Up).Assoc
		c := z.Connect(to(addrY))
		z.Next(sctp.Up)
		d := y.Next(sctp.Up).Assoc
		sctptest.CheckPause(t, x, y, z, a, b, c, d)
		synctest.Wait()
	})
}
