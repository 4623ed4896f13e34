package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	netns "github.com/rserpool/coredns-rserpool/test/network"
)

// linkLocalEnv makes the test binary a process of TestNetworkLinkLocal: "listen ADDRESS" or
// "connect ADDRESS".
const linkLocalEnv = "SCTP_TEST_LINK_LOCAL"

// TestLinkLocalProcess is a process of TestNetworkLinkLocal: zones have the names of a process's
// own interfaces.
func TestLinkLocalProcess(t *testing.T) {
	what, addr, is := strings.Cut(os.Getenv(linkLocalEnv), " ")
	if !is {
		t.Skip("only run by TestNetworkLinkLocal")
	}
	m := newMux(t, sctp.Limits{HandshakeTime: 3 * time.Second}, sctp.EncapPort)
	if what == "listen" {
		x := muxSite(t, m, sctptest.On(addr))
		fmt.Println("it listens")
		x.Up()
		x.Wait("the end", func(ev sctp.Event) bool { return ev.Type == sctp.Down })
		return
	}
	x := muxSite(t, m, sctptest.On("[::]:3863"))
	x.Connect(to(addr))
	ev := x.Wait("Up or Down", func(ev sctp.Event) bool { return ev.Type == sctp.Up || ev.Type == sctp.Down })
	fmt.Printf("result: up %t, refused %t, %v\n", ev.Type == sctp.Up, errors.Is(ev.Err, sctp.ErrRefused), ev)
}

// TestNetworkLinkLocal connects to a link-local address whose zone is the number of an
// interface, or its name. There a peer listens at all addresses or at this one, or nobody.
func TestNetworkLinkLocal(t *testing.T) {
	for _, zone := range []string{"name", "number"} {
		for _, listens := range []string{"all", "one", "none"} {
			t.Run(fmt.Sprintf("zone by %s, at %s", zone, listens), func(t *testing.T) {
				t.Parallel()
				n := netns.New(t)
				hx, hy := n.Host("x", "fd98:1::1/64"), n.Host("y", "fd98:1::2/64")
				run := func(h *netns.Host, what string, addr netip.Addr) *netns.Process {
					cmd := h.Command(os.Args[0], "-test.run=^TestLinkLocalProcess$")
					cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %v", linkLocalEnv, what, netip.AddrPortFrom(addr, 3863)))
					return h.StartCommand(cmd)
				}
				// As in "eth0 UNKNOWN fe80::ff:fe00:2/64".
				at := netip.MustParsePrefix(strings.Fields(hy.IP("-6 -br addr show dev eth0 scope link"))[2]).Addr()
				zoned := func(h *netns.Host) netip.Addr {
					if zone == "name" {
						return at.WithZone("eth0")
					}
					return at.WithZone(strings.TrimSpace(h.Run("cat", "/sys/class/net/eth0/ifindex")))
				}
				switch listens {
				case "all":
					run(hy, "listen", netip.IPv6Unspecified()).WaitFor("it listens")
				case "one":
					run(hy, "listen", zoned(hy)).WaitFor("it listens")
				}
				up := listens != "none"
				run(hx, "connect", zoned(hx)).WaitFor(fmt.Sprintf("result: up %t, refused %t", up, !up))
			})
		}
	}
}
