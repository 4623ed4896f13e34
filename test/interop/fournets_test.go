package interop

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestThreeOfFourNetworksDead: registrar and element are on four networks, of which
// the first three are dead before the element starts, and use the kernel's SCTP. The
// element names no address of its own.
func TestThreeOfFourNetworksDead(t *testing.T) {
	const at = "10.98.1.1 10.98.2.1 10.98.3.1 10.98.4.1"
	for _, serve := range []string{"tcp:5001", "sctp:5001"} {
		t.Run(serve, func(t *testing.T) {
			l := newLab(t)
			var ours, theirs []string
			for i := 1; i <= 4; i++ {
				ours = append(ours, fmt.Sprintf("10.98.%d.1/24", i))
				theirs = append(theirs, fmt.Sprintf("10.98.%d.2/24", i))
			}
			r := l.node("r1", append(ours, registrarIP+"/24")...) // the last one for DNS
			pe := l.node("pe1", theirs...)
			r.coredns(registrarIP, strings.Replace(corefile("transport kernel"), "asap "+registrarIP, "asap "+at, 1))
			for _, port := range r.ports[:3] {
				for _, way := range []string{"ingress", "egress"} {
					l.sh("tc filter add dev " + port + " " + way + " protocol all matchall action drop")
				}
			}
			began := time.Now()
			e := pe.start(l.bin("rsp"), "register", "--via", "kernel", "-p", "jobs", "-s", serve, "-r", strings.ReplaceAll(at, " ", ","))
			l.registered(registrarIP, "jobs", 1)
			took := time.Since(began).Round(10 * time.Millisecond)
			t.Logf("registered after %v", took)
			if most := l.paced(15 * time.Second); took > most {
				t.Errorf("registered after %v, want within %v\n%s", took, most, e.out)
			}
		})
	}
}
