package kernel_test

import (
	"net/netip"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/kernel"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
)

// stackSide listens on a host with a Stack of its own.
func stackSide(t testing.TB, host string, cfg stack.Config, addr string) *sctptest.Site {
	t.Helper()
	s := sctptest.NewSite(t)
	var st *stack.Stack
	var err error
	cfg.Logf = func(format string, args ...any) { t.Logf(host+": "+format, args...) }
	kernel.OnHost(t, host, func() {
		cfg.Machine = localaddr.New(cfg.Logf)
		cfg.Machine.Inside = func(f func()) { kernel.OnHost(t, host, f) }
		if st, err = stack.New(cfg); err == nil {
			s.Endpoint, err = st.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}}, s.Handle)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return s
}

// TestKernelAndUserSpace: kernel SCTP in UDP on one side, user space on the
// other; each calls the other.
func TestKernelAndUserSpace(t *testing.T) {
	kernel.Hosts(t, map[string][]string{"ha": {"10.99.0.1/24,fd00:99::1/64"}, "hb": {"10.99.0.2/24,fd00:99::2/64"}})
	kernel.Encapsulate(t, "ha")
	for _, tc := range []struct {
		name, a, b string
		encap      uint16
	}{
		{"IPv4", "10.99.0.1:3863", "10.99.0.2:3863", sctp.EncapPort},
		{"IPv6", "[fd00:99::1]:3863", "[fd00:99::2]:3863", sctp.EncapPort},
		{"client's UDP port", "10.99.0.1:3864", "10.99.0.2:4000", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := stackSide(t, "ha", stack.Config{EncapPort: sctp.EncapPort}, tc.a)
			b := stackSide(t, "hb", stack.Config{Only: sctp.UDP, EncapPort: tc.encap}, tc.b)
			dest := func(addr string) sctp.Dest {
				return sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}, Kind: sctp.UDP}
			}
			b.Connect(dest(tc.a))
			ours, theirs := b.Up(), a.Up()
			if ours.Kind != sctp.UDP || theirs.Kind != sctp.Kernel {
				t.Errorf("kinds %v and %v, want udp and kernel", ours.Kind, theirs.Kind)
			}
			kernel.Talk(b, ours.Assoc, a, theirs.Assoc)
			b.Shutdown(ours.Assoc)
			b.Down(sctp.LocalClose)
			a.Down(sctp.PeerShutdown)

			// Now the other way, to the UDP port that b was heard from.
			a.Connect(dest(tc.b))
			ours, theirs = a.Up(), b.Up()
			if ours.Kind != sctp.Kernel {
				t.Errorf("kind %v, want kernel: user space leaves the UDP port to it", ours.Kind)
			}
			kernel.Talk(a, ours.Assoc, b, theirs.Assoc)
			a.Abort(ours.Assoc)
			a.Down(sctp.LocalClose)
			b.Down(sctp.PeerAbort)
		})
	}
}

// TestKernelAndUserSpaceTogether: one Stack serves both kinds at one port.
func TestKernelAndUserSpaceTogether(t *testing.T) {
	kernel.Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}, "hc": {"10.99.0.3/24"}})
	a := stackSide(t, "ha", stack.Config{EncapPort: sctp.EncapPort}, "10.99.0.1:3863")
	for _, tc := range []struct {
		host, addr string
		cfg        stack.Config
		kind       sctp.Kind
	}{
		{"hb", "10.99.0.2:0", stack.Config{Only: sctp.Kernel}, sctp.Kernel},
		{"hb", "10.99.0.2:0", stack.Config{Only: sctp.UDP}, sctp.UDP},
		{"hc", "10.99.0.3:0", stack.Config{}, sctp.Kernel}, // the first kind that answers
	} {
		b := stackSide(t, tc.host, tc.cfg, tc.addr)
		b.Connect(sctp.Dest{Addrs: a.LocalAddrs()})
		ours, theirs := b.Up(), a.Up()
		if ours.Kind != tc.kind || theirs.Kind != tc.kind {
			t.Errorf("kinds %v and %v, want %v", ours.Kind, theirs.Kind, tc.kind)
		}
		kernel.Talk(b, ours.Assoc, a, theirs.Assoc)
	}
}
