package hostile

import (
	"errors"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// besides are the results of turns at a trusted scope and at a plain one beside it.
type besides struct{ plain, trusted []float64 }

// ratio is the median of the turns' ratios.
func (b *besides) ratio() float64 {
	list := make([]float64, len(b.plain))
	for i, p := range b.plain {
		list[i] = b.trusted[i] / p
	}
	slices.Sort(list)
	return list[len(list)/2]
}

// inits sends INITs from forged addresses, of which a few are unanswered at any time, and
// returns how many are answered.
func (f *forger) inits(n int, port uint16) (answered int) {
	f.t.Helper()
	const ahead = 32
	buf := make([]byte, 2048)
	for range n / ahead {
		for i := range ahead {
			f.sendFrom(i%len(f.conns), floods[0].make(f.rand, port))
		}
		// On one machine an answer comes at once. What has not come by then is lost.
		soon := time.Now().Add(200 * time.Millisecond)
		for i := range ahead {
			c := f.conns[i%len(f.conns)]
			_ = c.SetReadDeadline(soon)
			size, err := c.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if err != nil {
				f.t.Fatal(err)
			}
			if size > 12 && buf[12] == chunkInitAck {
				answered++
			}
		}
	}
	return answered
}

// TestFloodBeside sends INITs from forged addresses to a trusted scope and to a plain one, in
// turns. An INIT costs both the same.
func TestFloodBeside(t *testing.T) {
	turns, packets, most := 5, 2000, 1.5
	if *long {
		turns, packets, most = 31, 10_000, 1.05
	}
	var all besides
	scopes := []*scope{plainScope(t), trustedScope(t)}
	for turn := range turns + 1 {
		var us [2]float64
		for i, s := range scopes {
			f := s.forger(8)
			before := s.now().CPU
			n := f.inits(packets, s.asap.Port())
			us[i] = float64((s.now().CPU - before).Microseconds()) / float64(n)
			f.close()
			if n < packets/2 {
				t.Fatalf("%d of %d INITs are answered", n, packets)
			}
		}
		if turn > 0 { // in the first one, the servers begin
			all.plain, all.trusted = append(all.plain, us[0]), append(all.trusted, us[1])
		}
	}
	t.Logf("an answered INIT takes %.1f us of processor time with TLS, %.1f us without it: %.2f times", median(all.trusted), median(all.plain), all.ratio())
	if r := all.ratio(); r > most {
		t.Errorf("%.2f times, want at most %.2f", r, most)
	}
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// TestSilentAssociation has many peers connect and say nothing. With TLS each takes at most 8 KiB
// more of heap and stacks than without it, and no goroutine more.
func TestSilentAssociation(t *testing.T) {
	const most = 8 << 10 // bytes
	n := 100
	if *long {
		n = 900
	}
	// Each has a server of its own, in which nothing is left of others.
	took := [2]map[string]cost{{}, {}}
	for _, transport := range []string{"udp", "tcp"} {
		for i, s := range []*scope{plainScope(t), trustedScope(t)} {
			s.over(func(name string, open func() net.Conn) {
				if name == transport {
					took[i][transport] = s.silent(n, transport, open)
				}
			})
		}
	}
	for transport, plain := range took[0] {
		trusted := took[1][transport]
		memory, goroutines := trusted.Heap-plain.Heap+trusted.Stack-plain.Stack, trusted.Goroutines-plain.Goroutines
		t.Logf("%s: a silent peer takes %d bytes of heap and %d of stacks with TLS, %d and %d without it", transport,
			trusted.Heap/n, trusted.Stack/n, plain.Heap/n, plain.Stack/n)
		if memory > n*most {
			t.Errorf("%s: %d bytes more, want at most %d", transport, memory/n, most)
		}
		if goroutines > n/10 {
			t.Errorf("%s: %d goroutines more for %d peers", transport, goroutines, n)
		}
	}
}

// silent is what peers that have connected and say nothing cost a server.
func (s *scope) silent(n int, transport string, open func() net.Conn) cost {
	s.t.Helper()
	s.rest() // stacks shrink in one collection, and are free after the next
	before := s.rest()
	var conns []net.Conn
	for range n {
		conns = append(conns, open())
	}
	if transport == "tcp" { // the kernel connects before the server accepts
		wait(s.t, "accepted connections", func() bool { return s.now().Files >= before.Files+n })
	}
	s.rest()
	now := s.rest()
	for _, c := range conns {
		_ = c.Close()
	}
	wait(s.t, "end of the silent peers", func() bool { return s.stat("associations_open", "") == 0 })
	return cost{Heap: now.Heap - before.Heap, Stack: now.Stack - before.Stack, Goroutines: now.Goroutines - before.Goroutines}
}
