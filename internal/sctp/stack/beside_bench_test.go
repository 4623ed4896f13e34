package stack

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
)

// besides are TLS and its neighbour without TLS, which take turns, so that other load on the
// machine affects both.
type besides struct{ plain, tls []float64 }

// add adds what one turn of each took.
func (s *besides) add(plain, tls float64) {
	s.plain, s.tls = append(s.plain, plain), append(s.tls, tls)
}

// report reports the medians, and that of the turns' ratios or differences.
func (s *besides) report(b *testing.B, unit string, difference bool) {
	b.Helper()
	var compared []float64
	for i, t := range s.tls {
		if difference {
			compared = append(compared, t-s.plain[i])
		} else {
			compared = append(compared, t/s.plain[i])
		}
	}
	b.ReportMetric(median(s.plain), "plain-"+unit)
	b.ReportMetric(median(s.tls), "tls-"+unit)
	if difference {
		b.ReportMetric(median(compared), "more-"+unit)
	} else {
		b.ReportMetric(median(compared), "ratio-"+unit)
	}
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// cpu is the processor time of this process, in microseconds.
func cpu(t testing.TB) float64 {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return float64((r.Utime.Nano() + r.Stime.Nano()) / 1000)
}

// figures are what a number of ends of associations take: CPU, KiB of heap and of stacks, and
// goroutines.
type figures [4]float64

var units = [...]string{"us", "KiB-heap", "KiB-stack", "goroutines"}

func figuresNow(t testing.TB) figures {
	t.Helper()
	us := cpu(t)
	var m runtime.MemStats
	runtime.GC() // stacks shrink in one collection, and are free after the next
	runtime.GC()
	runtime.ReadMemStats(&m)
	return figures{us, float64(m.HeapAlloc) / 1024, float64(m.StackInuse) / 1024, float64(runtime.NumGoroutine())}
}

// since are the figures of each of n, without the CPU of the collections.
func (f figures) since(from figures, begin float64, n int) figures {
	from[0] = begin
	for i := range f {
		f[i] = (f[i] - from[i]) / float64(n)
	}
	return f
}

// line is an association over which messages go one way.
type line struct {
	x   *sctptest.Site
	a   sctp.AssocID
	got chan struct{}
}

func newLine(b *testing.B, kind sctp.Kind, of, at *secure.Config) *line {
	b.Helper()
	s, on := newStack(b, Config{Only: sctp.UDP, TLS: at}), sctptest.On("127.0.0.1:0")
	on.TCP = true
	l := &line{x: stackSite(b, newStack(b, Config{Only: kind, TLS: of}), sctptest.On("127.0.0.1:0")), got: make(chan struct{}, 1<<16)}
	y, err := s.Listen(on, func(ev sctp.Event) {
		if ev.Type == sctp.Received {
			l.got <- struct{}{}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { y.Close() })
	l.a = l.x.Connect(sctp.Dest{Addrs: y.LocalAddrs(), Kind: kind, EncapPort: s.EncapPort()})
	l.x.Up()
	return l
}

// turn sends messages, at most 16 of them ahead, and returns the CPU of both ends for each.
func (l *line) turn(b *testing.B, m sctp.Message, count int) float64 {
	b.Helper()
	begin := cpu(b)
	ahead := 0
	for range count {
		for ahead == 16 {
			<-l.got
			ahead--
		}
		for {
			err := l.x.Send(l.a, m)
			if err == nil {
				break
			}
			if !errors.Is(err, sctp.ErrQueueFull) || ahead == 0 {
				b.Fatal(err)
			}
			<-l.got
			ahead--
		}
		ahead++
	}
	for range ahead {
		<-l.got
	}
	return (cpu(b) - begin) / float64(count)
}

// BenchmarkBesideMessage is the CPU of both ends for a message, with TLS and without it.
func BenchmarkBesideMessage(b *testing.B) {
	for _, kind := range []sctp.Kind{sctp.UDP, sctp.TCP} {
		for _, n := range []int{60, 1000, 16000} {
			b.Run(fmt.Sprintf("%v/%d", kind, n), func(b *testing.B) {
				ca := sctptest.NewAuthority(b)
				plain, tls := newLine(b, kind, nil, nil), newLine(b, kind, trust(ca, nameX), trust(ca, nameY))
				m := sctp.Message{Data: sctptest.Message(n, 1), PPID: 11}
				count := max(100, min(1000, 1<<20/n))
				plain.turn(b, m, count)
				tls.turn(b, m, count)
				var s besides
				for b.Loop() {
					s.add(plain.turn(b, m, count), tls.turn(b, m, count))
				}
				s.report(b, "us/message", false)
			})
		}
	}
}

// some makes associations that stay until the end of the turn, and returns what each takes.
// Over each, one message goes to the server and back: what a transport makes for the first
// message, TLS has it make for the handshake. Silent ones are those of plain clients that send
// nothing.
func some(t testing.TB, kind sctp.Kind, client, server *secure.Config, silent bool) figures {
	t.Helper()
	const count = 200
	only := kind
	if kind == sctp.TCP {
		only = sctp.UDP
	}
	s := newStack(t, Config{Only: only, TLS: server, Limits: sctp.Limits{HandshakeTime: time.Hour}})
	defer s.Close()
	y := stackSite(t, s, listening())
	c := newStack(t, Config{Only: only, TLS: client})
	defer c.Close()
	before := figuresNow(t)
	begin := cpu(t)
	m := sctp.Message{Data: sctptest.Message(60, 1), PPID: 11}
	for range count {
		got := make(chan sctp.EventType, 4)
		x, err := c.Listen(sctptest.On("127.0.0.1:0"), func(ev sctp.Event) {
			if ev.Type == sctp.Up || ev.Type == sctp.Received {
				got <- ev.Type
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		a := x.Connect(destOf(y, s, kind))
		<-got
		if silent {
			continue
		}
		b := y.Up().Assoc
		if err := x.Send(a, m); err != nil {
			t.Fatal(err)
		}
		if err := y.Send(b, y.Received().Message); err != nil {
			t.Fatal(err)
		}
		<-got
	}
	n := count // the clients are plain ones
	if !silent {
		n = 2 * count
	}
	return figuresNow(t).since(before, begin, n)
}

// BenchmarkBesideAssociation is what each end of an association takes, with TLS and without
// it: CPU of its beginning and of one message each way, memory and goroutines. The clients' endpoints, one for each
// association, are in it. Silent are associations of clients that do not begin TLS, beside
// those with a server without it.
func BenchmarkBesideAssociation(b *testing.B) {
	ca := sctptest.NewAuthority(b)
	client, server := trust(ca, nameX), trust(ca, nameY)
	run := func(name string, client *secure.Config, silent bool) {
		b.Run(name, func(b *testing.B) {
			var s [len(units)]besides
			some(b, sctp.UDP, nil, nil, silent) // the runtime keeps some memory of the first goroutines
			for b.Loop() {
				plain, tls := some(b, sctp.UDP, nil, nil, silent), some(b, sctp.UDP, client, server, silent)
				for i := range s {
					s[i].add(plain[i], tls[i])
				}
			}
			for i, unit := range units {
				s[i].report(b, unit, true)
			}
		})
	}
	run("up", client, false)
	run("silent", nil, true)
}
