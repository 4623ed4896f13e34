package hostile

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// beginKernelSiege starts a server that has only the kernel's SCTP, with honest
// elements that use it. Raw peers reach it in UDP, by the kernel.
func beginKernelSiege(t *testing.T, options ...string) *siege {
	t.Helper()
	if os.Getenv("IN_UML") == "" {
		t.Skip("sets up the kernel's SCTP: run test/lab/gotest ./test/hostile -run Kernel")
	}
	was := slow
	slow = 4 // the lab has one slow processor
	t.Cleanup(func() { slow = was })
	encap := freePort(t, "udp")
	const sysctl = "/proc/sys/net/sctp/udp_port"
	set := func(port uint16) {
		if err := os.WriteFile(sysctl, []byte(fmt.Sprint(port)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	set(encap)
	t.Cleanup(func() { set(0) })
	s := startServerOver(t, "kernel", encap, options...)
	g := &siege{server: s, honest: s.beHonest()}
	g.before = s.rest()
	g.max = g.before
	return g
}

// hold waits for longer than a keep-alive may take, and checks that no honest
// element was removed meanwhile.
func (g *siege) hold(d time.Duration) {
	g.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		g.watch()
	}
	g.honest.check()
	for _, why := range []string{"no_ack", "send_failed", "unreachable"} {
		if n := g.stat("elements_removed_total", `reason="`+why+`"`); n > 0 {
			g.t.Errorf("%d living elements were removed: %s", n, why)
		}
	}
}

// TestKernel attacks the kernel's SCTP, in which all associations may share
// buffers.
func TestKernel(t *testing.T) {
	const timeout = 2 * time.Second
	g := beginKernelSiege(t, fmt.Sprintf("timer KEEP-ALIVE-TIMEOUT %v", timeout))
	for _, a := range []struct {
		name               string
		peers, count, size int
	}{
		{"held by one association", 1, 8000, 100},
		{"held by forty associations", 40, 100, 1300},
	} {
		t.Run(a.name, func(t *testing.T) {
			g.t = t
			c := ceiling{heap: 4 << 20, goroutines: a.peers + 8, files: a.peers + 2}
			var all []*rawPeer
			for i := range a.peers {
				p := g.rawPeer(loopback, uint16(2000+i))
				p.connect()
				p.ssn = 1 // 0 never comes, so that none of these can be delivered
				for range a.count {
					p.write(packet(p.src, p.dst, p.tag, p.data(3, make([]byte, a.size))))
				}
				all = append(all, p)
			}
			g.hold(2 * timeout)
			g.check(a.peers*a.count, c)
			for _, p := range all {
				p.abort()
			}
		})
	}
	g.t = t
	g.crowd().makeBig()
	ask := wire(t, askBig)
	g.before = g.rest()
	t.Run("never reads, never acknowledges", func(t *testing.T) {
		g.t = t
		const peers, each = 100, 6
		g.max = g.before
		// 32 MiB in all queues, and one message for each peer beyond.
		c := ceiling{heap: 48<<20 + peers*100<<10, goroutines: 3*peers + 8, files: peers + 2}
		var all []*rawPeer
		for i := range peers {
			p := g.rawPeer(loopback, uint16(3000+i))
			p.connect()
			all = append(all, p)
			for range each {
				p.send(ask)
			}
		}
		g.hold(2 * timeout)
		g.check(peers*each, c)
		for _, p := range all {
			p.abort()
		}
	})
	t.Run("never reads", func(t *testing.T) {
		g.t = t
		const peers, each = 150, 20
		g.max = g.before
		c := ceiling{heap: 48<<20 + peers*100<<10, goroutines: 3*peers + 8, files: peers + 2}
		end := g.deafUsers(peers, each, ask)
		g.hold(2 * timeout)
		g.check(peers*each, c)
		end()
	})
	g.t = t
	g.end(ceiling{left: 4 << 20})
}

// deafUsers are users of the kernel's SCTP that ask and never read.
func (g *siege) deafUsers(n, each int, ask []byte) (end func()) {
	g.t.Helper()
	stack, err := sctp.NewStack(sctp.StackConfig{Mode: sctp.KernelOnly})
	if err != nil {
		g.t.Fatal(err)
	}
	done := make(chan struct{})
	for range n {
		up := make(chan struct{})
		ep, err := stack.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.AddrPortFrom(loopback, 0)}}, func(ev sctp.Event) {
			if ev.Type == sctp.Up {
				close(up)
				return
			}
			<-done
		})
		if err != nil {
			g.t.Fatal(err)
		}
		id := ep.Connect(sctp.Dest{Addrs: []netip.AddrPort{g.asap}, Kind: sctp.Kernel})
		<-up
		for range each {
			if err := ep.Send(id, sctp.Message{Data: ask, PPID: asap.PPID}); err != nil {
				g.t.Fatal(err)
			}
		}
	}
	return func() {
		close(done)
		_ = stack.Close()
	}
}
