package main

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/internal/services"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// relay passes the packets between one client and a registrar on, until it is cut.
type relay struct {
	at  string // for --registrar
	cut atomic.Bool
}

func newRelay(t *testing.T, r *registry) *relay {
	t.Helper()
	reg := rserpool.MustParseRegistrar(r.at)
	near, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	far, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(reg.EncapPort)})
	if err != nil {
		t.Fatal(err)
	}
	x := &relay{at: fmt.Sprintf("127.0.0.1:%d/%d", reg.Port, near.LocalAddr().(*net.UDPAddr).Port)}
	var client atomic.Pointer[net.UDPAddr]
	var ended sync.WaitGroup
	pass := func(from *net.UDPConn, to func([]byte, *net.UDPAddr)) {
		ended.Go(func() {
			b := make([]byte, 1<<16)
			for {
				n, at, err := from.ReadFromUDP(b)
				if err != nil {
					return
				}
				if !x.cut.Load() {
					to(b[:n], at)
				}
			}
		})
	}
	pass(near, func(b []byte, from *net.UDPAddr) {
		client.Store(from)
		_, _ = far.Write(b)
	})
	pass(far, func(b []byte, _ *net.UDPAddr) {
		if to := client.Load(); to != nil {
			_, _ = near.WriteToUDP(b, to)
		}
	})
	t.Cleanup(func() {
		near.Close()
		far.Close()
		ended.Wait()
	})
	return x
}

// TestServeSecondSignal: a second signal ends rsp serve at once, wherever its end has come to,
// although the registrar does not answer the deregistration.
func TestServeSecondSignal(t *testing.T) {
	slow(t)
	t.Parallel()
	for name, drain := range map[string]string{"while it drains": "10m", "while it closes": "0s"} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			way := newRelay(t, r)
			p := startRSP(t, "serve", "echo", "--via", "udp", "--registrar", way.at, "--address", "127.0.0.1", "--drain", drain, "--stop-timeout", "10m", "-v")
			r.has(t, services.EchoPool, 1)
			u := newUser(t, r)
			s, err := u.DialSession(t.Context(), pu.SessionConfig{Pool: services.EchoPool, NoFailover: true})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			way.cut.Store(true)
			p.signal(syscall.SIGTERM)
			p.says("deregistering")
			ended := make(chan error, 1)
			go func() {
				_, err := s.Receive(t.Context())
				ended <- err
			}()
			if drain == "0s" {
				<-ended // by Close
			}
			p.again(syscall.SIGTERM)
			begin := time.Now()
			if status := p.wait(); status != exitFailed {
				t.Errorf("status %d, want %d", status, exitFailed)
			}
			t.Logf("rsp has ended after %v", time.Since(begin))
			p.says("terminated: rsp ended before ")
			if drain != "0s" {
				if err := <-ended; err == nil {
					t.Error("the session goes on")
				}
			}
		})
	}
}
