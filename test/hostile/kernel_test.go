package hostile

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// kernelTimeout is the KEEP-ALIVE-TIMEOUT in the lab, whose one processor is slow.
var kernelTimeout = 4 * time.Second

// inLab reports whether the test runs in the kernel lab (test/lab).
func inLab() bool { return os.Getenv("IN_UML") != "" }

// beginKernelSiege starts a server that has only the kernel's SCTP, with honest
// elements that use it. Raw peers reach it in UDP, by the kernel.
func beginKernelSiege(t *testing.T, options ...string) *siege {
	t.Helper()
	if !inLab() {
		t.Skip("sets up the kernel's SCTP: run test/lab/gotest ./test/hostile -run Kernel")
	}
	was := slow
	pace := here.Pace(t)
	slow = time.Duration(4 * pace) // the lab has one slow processor
	t.Cleanup(func() { slow = was })
	kernelTimeout = time.Duration(float64(4*time.Second) * min(pace, 3))
	encap := here.FreePort(t)
	const sysctl = "/proc/sys/net/sctp/udp_port"
	set := func(port uint16) {
		if err := os.WriteFile(sysctl, []byte(fmt.Sprint(port)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	set(encap)
	t.Cleanup(func() { set(0) })
	s := startServerOver(t, "kernel", encap, append(options, fmt.Sprintf("timer KEEP-ALIVE-TIMEOUT %v", kernelTimeout))...)
	return &siege{server: s, honest: s.beHonest(kernelHonest)}
}

// attack runs an attack, which says what it may leave behind. In the end no
// honest element may have been removed, and the server is at rest.
func (g *siege) attack(name string, do func() ceiling) {
	outer := g.t
	defer func() { g.t = outer }()
	outer.Run(name, func(t *testing.T) {
		g.t = t
		g.before = g.rest()
		g.max = g.before
		g.end(do())
	})
}

// hold waits for longer than a keep-alive may take.
func (g *siege) hold() {
	g.t.Helper()
	for end := time.Now().Add(kernelTimeout * 3 / 2); time.Now().Before(end); time.Sleep(time.Second) {
		g.watch()
	}
}

// connected are raw peers from one address with associations.
func (g *siege) connected(n int, port uint16) (all []*rawPeer) {
	g.t.Helper()
	for i := range n {
		p := g.rawPeer(loopback, port+uint16(i))
		p.connect()
		all = append(all, p)
	}
	return all
}

func abortAll(all []*rawPeer) {
	for _, p := range all {
		p.abort()
	}
}

// kernelHonest is how many honest elements there are.
const kernelHonest = 134

// TestKernel attacks the kernel's SCTP.
func TestKernel(t *testing.T) {
	g := beginKernelSiege(t)
	for _, a := range []struct {
		name               string
		peers, count, size int
	}{
		{"held by one association", 1, 8000, 100},
		{"held by forty associations", 40, 100, 1300},
	} {
		g.attack(a.name, func() ceiling {
			all := g.connected(a.peers, 2000)
			for _, p := range all {
				p.ssn = 1 // 0 never comes, so that none of these can be delivered
				for range a.count {
					p.write(packet(p.src, p.dst, p.tag, p.data(3, make([]byte, a.size))))
				}
			}
			g.hold()
			g.check(a.peers*a.count, ceiling{heap: 4 << 20, goroutines: a.peers + 8, files: a.peers + 2})
			abortAll(all)
			return ceiling{}
		})
	}
	g.attack("held by six hundred associations", func() ceiling {
		// Together more than the kernel's memory for SCTP (net.sctp.sctp_mem).
		const peers, packets, chunks = 600, 2, 480
		all := g.connected(peers, 10_000)
		for _, p := range all {
			p.ssn = 1
			for range packets {
				var list [][]byte
				for range chunks {
					list = append(list, p.data(3, make([]byte, 100)))
				}
				p.write(packet(p.src, p.dst, p.tag, list...))
			}
		}
		g.hold()
		g.check(peers*packets*chunks, ceiling{heap: peers * 8 << 10, goroutines: peers + 8, files: peers + 2})
		abortAll(all)
		return ceiling{}
	})
	g.crowd().makeBig()
	ask := wire(t, askBig)
	g.attack("never reads, never acknowledges", func() ceiling {
		const peers, each = 100, 6
		all := g.connected(peers, 3000)
		for _, p := range all {
			for range each {
				p.send(ask)
			}
		}
		g.hold()
		// 32 MiB in all queues, and one message for each peer beyond.
		g.check(peers*each, ceiling{heap: 48<<20 + peers*100<<10, goroutines: 3*peers + 8, files: peers + 2})
		abortAll(all)
		return ceiling{left: 4 << 20}
	})
	g.attack("never reads", func() ceiling {
		const peers, each = 300, 20
		end := g.deafUsers(peers, each, ask)
		g.hold()
		g.check(peers*each, ceiling{heap: 48<<20 + peers*100<<10, goroutines: 3*peers + 8, files: peers + 2})
		end()
		return ceiling{left: 4 << 20}
	})
}

// TestKernelHandshakes attacks the kernel's SCTP with handshakes.
func TestKernelHandshakes(t *testing.T) {
	const limit = 500 // associations
	g := beginKernelSiege(t, unguarded(t, fmt.Sprintf("limit associations %d", limit))...)
	for _, f := range floods {
		g.attack("flood of "+f.name, func() ceiling {
			const packets = 5000
			g.flood(packets, f.make)
			g.check(packets, ceiling{heap: 2 << 20, goroutines: 8, files: 2})
			g.onlyHonest()
			return ceiling{}
		})
	}
	g.attack("half open", func() ceiling {
		const n = 1000
		g.halfOpen(n)
		g.check(n, ceiling{heap: 2 << 20, goroutines: 8, files: 2})
		g.onlyHonest()
		return ceiling{}
	})
	g.attack("many associations from one address", func() ceiling {
		const n, room = 500, limit - kernelHonest
		all := g.connected(n, 10_000)
		wait(g.t, "refusals", func() bool { return g.stat("transport_refused_total", "") >= n-room })
		if n := g.stat("associations_open", ""); n != limit {
			g.t.Errorf("%d associations, want the limit of %d", n, limit)
		}
		g.hold()
		g.check(n, ceiling{heap: room * 8 << 10, goroutines: room + 8, files: room + 2})
		abortAll(all)
		return ceiling{}
	})
	g.attack("associations that end as they begin", func() ceiling {
		const n = 500
		for i := range n {
			p := g.rawPeer(loopback, 20_000+uint16(i))
			c := p.cookie()
			p.write(packet(p.src, p.dst, p.tag, chunk(chunkCookieEcho, 0, c),
				p.data(3, wire(g.t, registration("brief", uint32(i+1), loopback))), chunk(chunkAbort, 0, nil)))
			_ = p.conn.Close()
		}
		g.check(n, ceiling{heap: 2 << 20, goroutines: 16, files: 16})
		wait(g.t, "end of the associations", func() bool {
			return g.stat("associations_open", "") == kernelHonest && g.stat("elements", "") == kernelHonest
		})
		return ceiling{}
	})
	g.attack("calls half taken", func() ceiling {
		const peers = 100
		g.callsHalfTaken(peers)
		g.check(peers, ceiling{heap: peers*16<<10 + 2<<20, goroutines: 2*peers + 8, files: peers + 2})
		return ceiling{left: 4 << 20}
	})
	g.attack("forged addresses", func() ceiling {
		const peers = 20
		g.forgeAddresses(peers, ceiling{heap: peers*80<<10 + 4<<20, goroutines: 5*peers + 8, files: peers + 2})
		return ceiling{}
	})
}

// TestKernelRegistrar attacks the registrar over the kernel's SCTP.
func TestKernelRegistrar(t *testing.T) {
	const quota, peers = 300, 16
	scope := netip.AddrPortFrom(loopback, here.FreePort(t))
	g := beginKernelSiege(t, unguarded(t, fmt.Sprintf("limit elements_per_association %d", quota),
		fmt.Sprintf("limit peers %d", peers), fmt.Sprintf("enrp %v", scope), "timer MAX-TIME-NO-RESPONSE 1s")...)
	g.attack("quota", func() ceiling {
		const attempts = 2000
		g.exceedQuota(quota, attempts, ceiling{heap: quota*1500 + 4<<20, goroutines: 16, files: 3, cpu: 600 * time.Microsecond})
		// What a busy server uses and releases all the time makes a difference of up to 100 KiB;
		// the elements have twice as much.
		return ceiling{left: 128<<10 + quota*200}
	})
	g.attack("keep-alives unanswered", func() ceiling {
		const peers, each = 10, 50
		g.keepAlivesUnanswered(peers, each, 1, kernelTimeout)
		g.check(peers*each, ceiling{heap: peers*each*2000 + 4<<20, goroutines: peers + 16, files: peers + 2})
		return ceiling{left: 4 << 20}
	})
	g.attack("false registrars", func() ceiling {
		const attempts = 100
		g.falseRegistrars(scope, peers, attempts,
			ceiling{heap: attempts*10<<10 + 2<<20, goroutines: attempts + 20, files: attempts + 3})
		return ceiling{}
	})
}

// deafUsers are users of the kernel's SCTP that ask and never read.
func (g *siege) deafUsers(n, each int, ask []byte) (end func()) {
	g.t.Helper()
	stack, err := stack.New(stack.Config{Only: sctp.Kernel})
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
