package stack

import (
	"errors"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// BenchmarkUDPRequest is a request and its response over loopback.
func BenchmarkUDPRequest(b *testing.B) {
	s1, s2 := newStack(b, Config{Only: sctp.UDP}), newStack(b, Config{Only: sctp.UDP})
	x := stackSite(b, s1, sctptest.On("127.0.0.1:0"))
	var y sctp.Endpoint
	y, err := s2.Listen(sctptest.On("127.0.0.1:0"), func(ev sctp.Event) {
		if ev.Type == sctp.Received {
			_ = y.Send(ev.Assoc, ev.Message)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	a := x.Connect(sctp.Dest{Addrs: y.LocalAddrs(), EncapPort: s2.EncapPort()})
	x.Next(sctp.Up)
	msg := sctp.Message{Data: make([]byte, 100), PPID: 11}
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Send(a, msg); err != nil {
			b.Fatal(err)
		}
		x.Next(sctp.Received)
	}
}

// BenchmarkUDPStream is messages of 1000 bytes in one direction.
func BenchmarkUDPStream(b *testing.B) {
	s1, s2 := newStack(b, Config{Only: sctp.UDP}), newStack(b, Config{Only: sctp.UDP})
	x := stackSite(b, s1, sctptest.On("127.0.0.1:0"))
	got := make(chan struct{}, 1<<16)
	y, err := s2.Listen(sctptest.On("127.0.0.1:0"), func(ev sctp.Event) {
		if ev.Type == sctp.Received {
			got <- struct{}{}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	a := x.Connect(sctp.Dest{Addrs: y.LocalAddrs(), EncapPort: s2.EncapPort()})
	x.Next(sctp.Up)
	msg := sctp.Message{Data: make([]byte, 1000), PPID: 11}
	b.SetBytes(1000)
	b.ReportAllocs()
	ahead := 0
	for b.Loop() {
		for ahead++; ; {
			err := x.Send(a, msg)
			if err == nil {
				break
			}
			if !errors.Is(err, sctp.ErrQueueFull) {
				b.Fatal(err)
			}
			<-got
			ahead--
		}
	}
	for ; ahead > 0; ahead-- {
		<-got
	}
}
