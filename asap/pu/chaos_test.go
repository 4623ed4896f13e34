package pu

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestSessionChaos: many goroutines call everything of sessions, while elements do what they
// like, and die. All calls return, and nothing is left.
func TestSessionChaos(t *testing.T) {
	for seed := range uint64(chaosSeeds) {
		inWorld(t, 4, func(t *testing.T, w *world) {
			stop := make(chan struct{})
			var elements sync.WaitGroup
			for i, e := range w.elements {
				elements.Go(func() { w.misbehave(e, rand.New(rand.NewPCG(seed, uint64(i))), stop) })
			}
			var users sync.WaitGroup
			for i := range 6 {
				users.Go(func() { w.useWildly(t, rand.New(rand.NewPCG(seed, uint64(100+i)))) })
			}
			if seed%4 == 3 {
				time.Sleep(3 * time.Second)
				_ = w.u.Close()
			}
			users.Wait()
			close(stop)
			elements.Wait()
		})
	}
}

const chaosSeeds = 4

// misbehave has an element do anything, at short intervals.
func (w *world) misbehave(e *server, rnd *rand.Rand, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rnd.IntN(200)) * time.Millisecond):
		}
		e.mu.Lock()
		for _, a := range e.assocs {
			switch rnd.IntN(8) {
			case 0:
				e.ep.Abort(a)
			case 1:
				e.ep.Shutdown(a)
			case 2:
				e.silent = !e.silent
			case 3:
				e.control(a, w.cardOf([]rserpool.PEID{4, 2, 1, 3}))
			case 4:
				for range 200 {
					_ = e.ep.Send(a, sctp.Message{Data: make([]byte, rnd.IntN(9000)), PPID: uint32(rnd.IntN(14)), Stream: uint16(rnd.IntN(3))})
				}
			case 5:
				e.control(a, &asap.Cookie{Cookie: make([]byte, rnd.IntN(60000))})
			}
		}
		e.mu.Unlock()
		if rnd.IntN(20) == 0 {
			w.nw.Kill(e.ep)
			time.Sleep(time.Duration(rnd.IntN(500)) * time.Millisecond)
			e.start()
		}
	}
}

// useWildly dials sessions, and calls their methods from several goroutines.
func (w *world) useWildly(t *testing.T, rnd *rand.Rand) {
	var mu sync.Mutex // also for what a former session still calls
	chance := func(n int) int { mu.Lock(); defer mu.Unlock(); return rnd.IntN(n) }
	for range 5 {
		cfg := SessionConfig{
			Pool: testPool, Unacked: Unacked(chance(3)), MaxUnacked: 20000, MaxReceive: 5000, AnswerTimeout: time.Duration(chance(3)) * time.Second,
			FailoverTime: time.Duration(chance(20)) * time.Second, NoFailover: chance(6) == 0, EndOnShutdown: chance(6) == 0,
			Card:   &asap.BusinessCard{Handle: "users"},
			Notify: func(SessionEvent) { time.Sleep(time.Duration(chance(3)) * time.Millisecond) },
		}
		if cfg.Unacked == Ask {
			cfg.OnFailover = func(list []Message) []Message { time.Sleep(time.Millisecond); return list[:chance(len(list)+1)] }
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(chance(3000))*time.Millisecond)
		s, err := w.u.DialSession(ctx, cfg)
		cancel()
		if err != nil {
			continue
		}
		var calls sync.WaitGroup
		for g := range 6 {
			calls.Go(func() {
				conn := s.Conn()
				for i := 0; s.Err() == nil && i < 200; i++ {
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(chance(300))*time.Millisecond)
					switch chance(12) {
					case 0, 1, 2:
						_ = s.Send(ctx, make([]byte, 1+chance(30000)))
					case 3, 4, 5, 6:
						_, _ = s.Receive(ctx)
					case 7:
						s.Ack(chance(20))
					case 8:
						if chance(10) == 0 {
							s.Fail(io.ErrUnexpectedEOF)
						}
					case 9:
						_ = s.Recommend([]rserpool.PoolElement{w.elements[0].entry()})
						s.Element()
						s.Cookie()
						s.State()
					case 10:
						_ = conn.SetDeadline(time.Now().Add(time.Duration(chance(100)-10) * time.Millisecond))
						_, _ = conn.Write(make([]byte, chance(40000)))
						_, _ = conn.Read(make([]byte, 100))
					case 11:
						if chance(150) == 0 && g == 0 {
							_ = s.Close()
						}
					}
					cancel()
					time.Sleep(time.Duration(chance(20)) * time.Millisecond)
				}
			})
		}
		calls.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if len(s.calls) > 0 || s.telling {
			t.Error("calls are left after Close")
		}
	}
}
