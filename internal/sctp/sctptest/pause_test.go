package sctptest

import (
	"testing"
	"testing/synctest"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

func TestMemoryPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := NewNetwork()
		site := func(addr string) *Site {
			x := NewSite(t)
			e, err := nw.Listen(On(addr), x.Handle)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { e.Close() })
			x.Endpoint = e
			return x
		}
		x, y, z := site("10.0.0.1:1"), site("10.0.0.2:1"), site("10.0.0.3:1")
		a, b := x.Connect(dest("10.0.0.2:1")), y.Next(sctp.Up).Assoc
		x.Next(sctp.Up)
		c, d := z.Connect(dest("10.0.0.2:1")), y.Next(sctp.Up).Assoc
		z.Next(sctp.Up)
		CheckPause(t, x, y, z, a, b, c, d)
	})
}
