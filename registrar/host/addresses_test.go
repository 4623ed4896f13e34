package host

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// moving is a network on a machine whose addresses change.
type moving struct {
	memory
	mu    sync.Mutex
	addrs []netip.Addr
}

func (m *moving) move(addrs ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addrs = nil
	for _, a := range addrs {
		m.addrs = append(m.addrs, netip.MustParseAddr(a))
	}
}

func (m *moving) Listen(cfg sctp.ListenConfig, h sctp.Handler) (sctp.Endpoint, error) {
	ep, err := m.memory.Listen(cfg, h)
	return movingEndpoint{ep, m}, err
}

type movingEndpoint struct {
	sctp.Endpoint
	m *moving
}

func (e movingEndpoint) LocalAddrs() []netip.AddrPort {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	var list []netip.AddrPort
	for _, a := range e.m.addrs {
		list = append(list, netip.AddrPortFrom(a, e.Endpoint.LocalAddrs()[0].Port()))
	}
	return list
}

// TestAddressesChange: the registrar is told of the machine's addresses when they
// have changed, and continues with the last ones while it has none.
func TestAddressesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moving{memory: memory{sctptest.NewNetwork()}}
		m.move("127.0.0.1")
		l := new(log)
		at := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:3863")}
		h, err := Open(Config{ASAP: at, network: func() (network, error) { return m, nil }, Logger: l.logger()})
		if err != nil {
			t.Fatal(err)
		}
		defer closeNow(t, h)
		for _, tt := range []struct {
			now  []string
			want string
		}{
			{[]string{"10.0.0.1", "127.0.0.1"}, "10.0.0.1:3863 127.0.0.1:3863"},
			{nil, "10.0.0.1:3863 127.0.0.1:3863"},
			{[]string{"10.0.0.2"}, "10.0.0.2:3863"},
		} {
			m.move(tt.now...)
			time.Sleep(lookEvery)
			synctest.Wait()
			var got []string
			for _, a := range h.LocalAddrs() {
				got = append(got, a.String())
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("with %v: %v after %v, want %v", tt.now, got, lookEvery, tt.want)
			}
		}
		if n := strings.Count(l.String(), "addresses have changed"); n != 2 {
			t.Errorf("%d changes are logged, want 2:\n%s", n, l)
		}
	})
}

// TestOwnAddrs: an endpoint bound to named addresses accepts associations only there. So
// another registrar on the machine is not confused with this one.
func TestOwnAddrs(t *testing.T) {
	list := func(a ...string) (list []netip.AddrPort) {
		for _, s := range a {
			list = append(list, netip.MustParseAddrPort(s))
		}
		return list
	}
	machine := machineAddrs()
	if got := ownAddrs(list("127.0.0.2:9901", "[::ffff:10.0.0.1]:9901"), machine); len(got) != 2 || got[1] != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("named: %v", got)
	}
	all := ownAddrs(list("[::]:9901"), machine)
	if !slices.Contains(all, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("all: %v, want 127.0.0.1 among them", all)
	}
	if v4 := ownAddrs(list("0.0.0.0:9901"), machine); slices.ContainsFunc(v4, netip.Addr.Is6) || len(v4) == 0 {
		t.Errorf("all of IPv4: %v", v4)
	}
}

// TestAddrsOfTheCaller: what the caller does with the addresses that it gets does not matter to the
// registrar, which goes on using its own.
func TestAddrsOfTheCaller(t *testing.T) {
	h, _ := memoryHost(t, sctptest.NewNetwork(), func(cfg *Config) {
		cfg.ENRP = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.9:9901")}
	})
	for name, get := range map[string]func() []netip.AddrPort{"LocalAddrs": h.LocalAddrs, "ENRPAddrs": h.ENRPAddrs} {
		want := get()[0]
		get()[0] = netip.MustParseAddrPort("192.0.2.1:1")
		if got := get()[0]; got != want {
			t.Errorf("%s: %v after a caller has changed its slice, want %v", name, got, want)
		}
	}
}
