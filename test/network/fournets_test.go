package network_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/network"
)

// TestThreeOfFourNetworksDead: registrar and element are on four networks, of
// which three are dead before the element starts. It names no address of its own.
func TestThreeOfFourNetworksDead(t *testing.T) {
	t.Parallel()
	for _, dead := range []string{"first three", "last three"} {
		t.Run(dead, func(t *testing.T) {
			n := network.New(t)
			r, e := machine(n, "registrar", "10.98.1.1"), machine(n, "element", "10.98.1.2")
			links := []*network.Link{r.Eth0()}
			for i := 2; i <= 4; i++ {
				lan := n.NewLAN()
				links = append(links, r.Link(fmt.Sprint("eth", i), lan, fmt.Sprintf("10.98.%d.1/24", i)))
				e.Link(fmt.Sprint("eth", i), lan, fmt.Sprintf("10.98.%d.2/24", i))
			}
			r.CoreDNS(site("asap 10.98.1.1 10.98.2.1 10.98.3.1 10.98.4.1", quick))
			r.Serving("127.0.0.1")
			if dead == "first three" {
				links = links[:3]
			} else {
				links = links[1:]
			}
			for _, l := range links {
				l.Wire(network.Wire{Dead: true})
			}
			start := time.Now()
			e.RSP("register", "-p", "jobs", "-s", "tcp:5001", "-r", "10.98.1.1,10.98.2.1,10.98.3.1,10.98.4.1")
			r.Has("127.0.0.1", "jobs", 1)
			took := time.Since(start)
			t.Logf("registered after %v", took)
			if took > 12*time.Second {
				t.Errorf("registered after %v, want within 12s", took)
			}
		})
	}
}
