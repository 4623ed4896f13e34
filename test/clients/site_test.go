package clients_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/clients"
	"github.com/rserpool/coredns-rserpool/test/clients/recipe"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// corefile is a Corefile with more options of rserpool.
func corefile(options string) string {
	return strings.Replace(clients.Corefile, "transport udp", "transport udp\n"+options, 1)
}

// pool is a pool of n elements, the first of which has the identifier first.
func pool(first uint32, n int) []clients.Element {
	list := make([]clients.Element, n)
	for i := range list {
		list[i].ID = first + uint32(i)
	}
	return list
}

// TestSite: the site itself. Elements come, change, leave and die, and resolvers see it.
func TestSite(t *testing.T) {
	t.Parallel()
	s := clients.NewBridged(t, corefile("ttl 1\ntimer KEEP-ALIVE-TIMEOUT 1s"))
	s.Elements("web", pool(1, 8)...)
	more := s.Elements("web", pool(100, 2)...)
	c := s.Client("client")
	servers := []string{clients.Server, s.Unbound(caseAndMinimisation + recipe.Text(t, "unbound.conf")).Address, s.BIND("", recipe.Text(t, "named.conf")).Address}
	has := func(n int) {
		t.Helper()
		for _, server := range servers {
			t.Logf("%s has %d elements after %v", server, n, c.Has(server, "web", n))
		}
	}
	has(10)
	more.Leave(100)
	has(9)
	more.Kill()
	has(8)
	more = s.Elements("lu", clients.Element{ID: 1, Policy: "lu:load=10%"}, clients.Element{ID: 2, Policy: "lu:load=20%"})
	more.Update(1, "lu:load=30%")
	network.Eventually(t, "the least used element is selected", func() error {
		list, err := c.Lookup(clients.Server, "lu."+network.Zone, dns.TypeA)
		if err == nil && (len(list) != 1 || list[0] != more.List[1].Address) {
			err = fmt.Errorf("%q", list)
		}
		return err
	})
}
