package network_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// quick are timers that show within seconds what the defaults show later.
const quick = `
timer KEEP-ALIVE-INTERVAL 1s
timer KEEP-ALIVE-TIMEOUT 3s
timer MENTOR-DISCOVERY-TIMEOUT 1s
timer PEER-HEARTBEAT-CYCLE 1s
timer MAX-TIME-LAST-HEARD 3s
timer MAX-TIME-NO-RESPONSE 1s`

// site is a Corefile with these options of the plugin, whose answers are the
// present state.
func site(options ...string) string {
	return corefile("ttl 0\nanswers 128\n" + strings.Join(options, "\n"))
}

// machine is a host with an address on the first LAN and a default route.
func machine(n *network.Network, name, addr string) *network.Host {
	h := n.Host(name, addr+"/24")
	h.IP("route add default via", gateway(addr))
	return h
}

// gateway is the last address of addr's network.
func gateway(addr string) string { return addr[:strings.LastIndexByte(addr, '.')] + ".254" }

// names are the addresses that a server gives for a pool, sorted as they come.
func names(h *network.Host, server, pool string) ([]string, error) {
	return h.Lookup(server, pool+"."+network.Zone, dns.TypeA)
}

// namesOnly waits until a server gives one address for a pool, this one, and
// tells how long it took.
func namesOnly(t *testing.T, h *network.Host, server, pool, addr string) time.Duration {
	t.Helper()
	return network.Eventually(t, server+" names "+addr, func() error {
		list, err := names(h, server, pool)
		if err == nil && (len(list) != 1 || list[0] != addr) {
			err = fmt.Errorf("%q", list)
		}
		return err
	})
}
