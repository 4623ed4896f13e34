package kernel

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// TestKernelEnds: how an association ends, or a call fails, and what the peer has to do with
// it. Only what the peer itself says counts as its end, or as a refusal.
func TestKernelEnds(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	// hb is a router that has ICMP errors for what it does not forward.
	Sysctl(t, "hb", "net.ipv4.ip_forward=1")
	Sh(t, "ip -n ha route add 10.99.0.0/16 via 10.99.0.2")
	Sh(t, "ip -n hb route add prohibit 10.99.13.0/24")
	Sh(t, "ip -n hb route add unreachable 10.99.1.0/24")
	down, up := "ip -n hb link set eth0 down", "ip -n hb link set eth0 up"
	silence := sctp.Limits{Heartbeat: 200 * time.Millisecond, Misses: 2, HandshakeTime: time.Second}
	for _, tt := range []struct {
		name    string
		called  func(t *testing.T, a, b *sctptest.Site, ours, theirs sctp.Event) // after both are up
		call    string                                                           // where to call
		want    sctp.Reason
		refused bool
	}{
		{name: "the peer shuts down", want: sctp.PeerShutdown, called: func(_ *testing.T, _, b *sctptest.Site, _, theirs sctp.Event) {
			b.Shutdown(theirs.Assoc)
		}},
		{name: "the peer aborts", want: sctp.PeerAbort, called: func(_ *testing.T, _, b *sctptest.Site, _, theirs sctp.Event) {
			b.Abort(theirs.Assoc)
		}},
		{name: "the peer knows no such association", want: sctp.PeerAbort, called: func(t *testing.T, a, b *sctptest.Site, ours, _ sctp.Event) {
			Sh(t, down)
			_ = b.Close()
			Sh(t, up)
			a.Say(ours.Assoc, "who is there") // answered with an ABORT that has no cause
		}},
		{name: "the peer is silent", want: sctp.Lost, called: func(t *testing.T, a, _ *sctptest.Site, ours, _ sctp.Event) {
			Sh(t, down)
			t.Cleanup(func() { Sh(t, up) })
		}},
		{name: "the peer does not acknowledge data", want: sctp.Lost, called: func(t *testing.T, a, _ *sctptest.Site, ours, _ sctp.Event) {
			Sh(t, down)
			t.Cleanup(func() { Sh(t, up) })
			a.Say(ours.Assoc, "who is there")
		}},
		{name: "we abort", want: sctp.LocalClose, called: func(_ *testing.T, a, _ *sctptest.Site, ours, _ sctp.Event) { a.Abort(ours.Assoc) }},
		{name: "we have no route any more", want: sctp.Lost, called: func(t *testing.T, a, _ *sctptest.Site, ours, _ sctp.Event) {
			Sh(t, "ip -n ha route add unreachable 10.99.0.2/32")
			t.Cleanup(func() { Sh(t, "ip -n ha route del unreachable 10.99.0.2/32") })
			a.Say(ours.Assoc, "who is there")
		}},
		{name: "nobody at the port", call: "10.99.0.2:9", want: sctp.ConnectFailed, refused: true},
		{name: "prohibited", call: "10.99.13.1:9", want: sctp.ConnectFailed},
		{name: "host unreachable", call: "10.99.1.1:9", want: sctp.ConnectFailed},
		{name: "net unreachable", call: "10.99.2.1:9", want: sctp.ConnectFailed},
		{name: "no such host", call: "10.99.0.3:9", want: sctp.ConnectFailed},
		{name: "no route", call: "192.0.2.1:9", want: sctp.ConnectFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := Side(t, "ha", silence, "10.99.0.1:0")
			b := Side(t, "hb", sctp.Limits{}, "10.99.0.2:4000")
			if tt.call != "" {
				a.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort(tt.call)}, Kind: sctp.Kernel})
			} else {
				ours, theirs := Call(a, b)
				tt.called(t, a, b, ours, theirs)
			}
			ev := a.Wait("Down", func(ev sctp.Event) bool { return ev.Type == sctp.Down })
			if ev.Reason != tt.want || errors.Is(ev.Err, sctp.ErrRefused) != tt.refused || errors.Is(ev.Err, sctp.ErrAborted) != (tt.want == sctp.PeerAbort) {
				t.Errorf("got %v, want reason %d, refused %t", ev, tt.want, tt.refused)
			}
		})
	}
}

// TestKernelUnordered loses the packet of one message. An unordered message that is sent after
// it arrives before the lost one has been repeated, an ordered one does not.
func TestKernelUnordered(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	a := Side(t, "ha", sctp.Limits{}, "10.99.0.1:0")
	b := Side(t, "hb", sctp.Limits{}, "10.99.0.2:4000")
	ours, _ := Call(a, b)
	say := func(text string, unordered bool) {
		if err := a.Send(ours.Assoc, sctp.Message{Data: []byte(text), PPID: 11, Unordered: unordered}); err != nil {
			t.Fatal(err)
		}
	}
	Sh(t, "ip netns exec ha tc qdisc add dev eth0 root netem loss 100%")
	say("lost", false)
	Sh(t, "ip netns exec ha tc qdisc del dev eth0 root")
	say("ordered", false)
	say("unordered", true)
	for _, want := range []string{"unordered", "lost", "ordered"} {
		if got := string(b.Received().Message.Data); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
