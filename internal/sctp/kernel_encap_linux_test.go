package sctp

import (
	"fmt"
	"net/netip"
	"testing"
)

// stackSide listens on a host with a Stack of its own.
func stackSide(t testing.TB, host string, cfg StackConfig, addr string) (*side, *Stack) {
	t.Helper()
	s := &side{t: t, change: make(chan struct{})}
	var stack *Stack
	var err error
	cfg.Logf = func(format string, args ...any) { t.Logf(host+": "+format, args...) }
	onHost(t, host, func() {
		if stack, err = NewStack(cfg); err == nil {
			stack.machine.inside = func(f func()) { onHost(t, host, f) }
			s.Endpoint, err = stack.Listen(ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}}, s.handle)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stack.Close() })
	return s, stack
}

// encapsulate lets a host's kernel speak SCTP in UDP.
func encapsulate(t testing.TB, host string) {
	t.Helper()
	// The kernel leaves the segmenting of SCTP to the interface, and a virtual
	// one leaves it to the receiver, which cannot do it in user space.
	sh(t, "ip -n "+host+" link set eth0 gso_max_size 1500")
	sysctl(t, host, "net.sctp.udp_port=9899", "net.sctp.encap_port=9899")
}

// talk sends a short and a long message each way.
func talk(a *side, toB AssocID, b *side, toA AssocID) {
	a.t.Helper()
	for _, size := range []int{10, 60 << 10} {
		for _, way := range []struct {
			from, to *side
			assoc    AssocID
		}{{a, b, toB}, {b, a, toA}} {
			if err := way.from.Send(way.assoc, Message{Data: make([]byte, size), PPID: 11}); err != nil {
				a.t.Fatal(err)
			}
			if got := way.to.received().Message; len(got.Data) != size || got.PPID != 11 {
				a.t.Fatalf("%d bytes with PPID %d came, want %d with 11", len(got.Data), got.PPID, size)
			}
		}
	}
}

// TestKernelEncapsulated: two kernels speak SCTP in UDP (RFC 6951).
func TestKernelEncapsulated(t *testing.T) {
	network(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	encapsulate(t, "ha")
	encapsulate(t, "hb")
	a := kernelSide(t, "ha", Limits{}, "10.99.0.1:3863")
	b := kernelSide(t, "hb", Limits{}, "10.99.0.2:0")
	ours, theirs := b.call(a)
	talk(b, ours.Assoc, a, theirs.Assoc)
	e := a.Endpoint.(*kernelEndpoint)
	e.encap.mu.Lock()
	defer e.encap.mu.Unlock()
	if el := e.encap.ports[theirs.Peer[0]]; el == nil || el.Value.(encapPort).udp != 9899 {
		t.Errorf("the kernel does not tell that %v is at UDP port 9899", theirs.Peer[0])
	}
}

// TestKernelAndUserSpace: kernel SCTP in UDP on one side, user space on the
// other; each calls the other.
func TestKernelAndUserSpace(t *testing.T) {
	network(t, map[string][]string{"ha": {"10.99.0.1/24,fd00:99::1/64"}, "hb": {"10.99.0.2/24,fd00:99::2/64"}})
	encapsulate(t, "ha")
	for _, tc := range []struct {
		name, a, b string
		encap      uint16
	}{
		{"IPv4", "10.99.0.1:3863", "10.99.0.2:3863", EncapPort},
		{"IPv6", "[fd00:99::1]:3863", "[fd00:99::2]:3863", EncapPort},
		{"client's UDP port", "10.99.0.1:3864", "10.99.0.2:4000", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, stackA := stackSide(t, "ha", StackConfig{EncapPort: EncapPort}, tc.a)
			b, _ := stackSide(t, "hb", StackConfig{Mode: UDPOnly, EncapPort: tc.encap}, tc.b)
			if got := fmt.Sprint(stackA.Kinds()); got != "[kernel]" {
				t.Fatalf("kinds %s, want only the kernel's", got)
			}
			dest := func(addr string) Dest {
				return Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}, Kind: UDP}
			}
			b.Connect(dest(tc.a))
			ours, theirs := b.up(), a.up()
			if ours.Kind != UDP || theirs.Kind != Kernel {
				t.Errorf("kinds %v and %v, want udp and kernel", ours.Kind, theirs.Kind)
			}
			talk(b, ours.Assoc, a, theirs.Assoc)
			b.Shutdown(ours.Assoc)
			b.down(LocalClose)
			a.down(PeerShutdown)

			// Now the other way, to the UDP port that b was heard from.
			a.Connect(dest(tc.b))
			ours, theirs = a.up(), b.up()
			talk(a, ours.Assoc, b, theirs.Assoc)
			a.Abort(ours.Assoc)
			a.down(LocalClose)
			b.down(PeerAbort)
		})
	}
}

// TestKernelAndUserSpaceTogether: one Stack serves both kinds at one port.
func TestKernelAndUserSpaceTogether(t *testing.T) {
	network(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}, "hc": {"10.99.0.3/24"}})
	a, stackA := stackSide(t, "ha", StackConfig{EncapPort: EncapPort}, "10.99.0.1:3863")
	if got := fmt.Sprint(stackA.Kinds()); got != "[kernel udp]" {
		t.Fatalf("kinds %s, want both", got)
	}
	for _, tc := range []struct {
		host, addr string
		cfg        StackConfig
		kind       Kind
	}{
		{"hb", "10.99.0.2:0", StackConfig{Mode: KernelOnly}, Kernel},
		{"hb", "10.99.0.2:0", StackConfig{Mode: UDPOnly}, UDP},
		{"hc", "10.99.0.3:0", StackConfig{}, Kernel}, // the first kind that answers
	} {
		b, _ := stackSide(t, tc.host, tc.cfg, tc.addr)
		b.Connect(Dest{Addrs: a.LocalAddrs()})
		ours, theirs := b.up(), a.up()
		if ours.Kind != tc.kind || theirs.Kind != tc.kind {
			t.Errorf("kinds %v and %v, want %v", ours.Kind, theirs.Kind, tc.kind)
		}
		talk(b, ours.Assoc, a, theirs.Assoc)
	}
}
