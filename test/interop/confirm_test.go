package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestReferenceSeveralAddresses: an element of RSPLIB names all addresses of its host:
// on two networks, and one at which nothing reaches it. It is registered at the two
// at once, and at the third never; it stays in the answers when the first network
// dies.
func TestReferenceSeveralAddresses(t *testing.T) {
	l := newLab(t)
	r, pe := l.node("r1", registrarIP+"/24", "10.99.1.1/24"), l.node("pe1", "10.99.0.11/24", "10.99.1.11/24")
	l.sh("ip -n pe1 link add dummy0 type dummy")
	l.sh("ip -n pe1 addr add 203.0.113.7/24 dev dummy0")
	l.sh("ip -n pe1 link set dummy0 up")
	// A way that leads nowhere.
	l.sh("ip -n r1 route add 203.0.113.0/24 via 10.99.0.77")
	config := strings.Replace(corefile("timer KEEP-ALIVE-INTERVAL 1s"), "asap "+registrarIP, "asap "+registrarIP+" 10.99.1.1", 1)
	r.coredns(registrarIP, config)
	pe.rspserver("echo", "0x0b000001", "-echo")
	const want = "10.99.0.11 10.99.1.11"
	l.registered(registrarIP, "echo", 1)
	at := func() string {
		list, err := answers(registrarIP, "echo.pool.example.org.", dns.TypeA)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	all := func() error {
		if got := at(); got != want {
			return fmt.Errorf("the element is at %q, want %q", got, want)
		}
		return nil
	}
	took := eventually(t, "both addresses", all)
	t.Logf("both addresses after %v", took.Round(time.Millisecond))
	if most := l.paced(time.Second); took > most {
		t.Errorf("both addresses after %v, want %v at most", took, most)
	}
	for range 20 { // registrations and keep-alives go on
		time.Sleep(200 * time.Millisecond)
		if err := all(); err != nil {
			t.Fatal(err)
		}
	}
	l.sh("ip -n pe1 link set eth0 down")
	for range 20 {
		time.Sleep(200 * time.Millisecond)
		if got := at(); got != want {
			t.Fatalf("with one network the element is at %q, want %q", got, want)
		}
	}
}
