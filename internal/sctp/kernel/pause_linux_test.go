package kernel

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// TestKernelPause has an application read nothing from one of its associations.
func TestKernelPause(t *testing.T) {
	x := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	y := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	z := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	a, b := Call(x, y)
	c, d := Call(z, y)
	sctptest.CheckPause(t, x, y, z, a.Assoc, b.Assoc, c.Assoc, d.Assoc)
}
