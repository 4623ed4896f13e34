package pu

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestDialWhileClosing: a user that is closed while sessions are dialled ends them.
func TestDialWhileClosing(t *testing.T) {
	for range 30 {
		w := newWorld(t, 1)
		var wg, begun sync.WaitGroup
		for range 8 {
			begun.Add(1)
			wg.Go(func() {
				for i := 0; ; i++ {
					s, err := w.u.Dial(t.Context(), testPool)
					if i == 0 {
						begun.Done()
					}
					if err == nil {
						err = s.Close()
					}
					if err != nil {
						if !errors.Is(err, rserpool.ErrClosed) {
							t.Errorf("Dial: %v, want ErrClosed", err)
						}
						return
					}
				}
			})
		}
		begun.Wait()
		if err := w.u.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		w.close()
	}
}

// TestSessionNewsFlood: while a call of Notify takes its time, an element that sends cookies and
// cards without end takes no memory with the news of them. The latest ones are told. The
// program's goroutine that has caused the call does not wait for as long as the element goes on.
func TestSessionNewsFlood(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		gate := make(chan struct{})
		var told atomic.Int32
		var s *Session
		var last, card string
		s = dial(t, w, SessionConfig{Notify: func(ev SessionEvent) {
			switch ev.Type {
			case ElementFailing:
				<-gate
			case CookieReceived:
				last = string(s.Cookie())
			case CardReceived:
				card = string(ev.Card.Handle)
			default:
				return
			}
			if n := told.Add(1); n > 1 && n < 1000 { // the element sends more as long as there is news
				w.flood("more")
				time.Sleep(time.Millisecond)
			}
		}})
		returned := make(chan int32, 1)
		go func() {
			s.Fail(errors.New("test"))
			returned <- told.Load()
		}()
		synctest.Wait()
		for range 2000 {
			w.flood("first")
			synctest.Wait()
		}
		s.mu.Lock()
		if len(s.calls) > 8 {
			t.Errorf("%d pieces of news wait", len(s.calls))
		}
		s.mu.Unlock()
		close(gate)
		if n := <-returned; n > 100 {
			t.Errorf("Fail returns after %d calls of Notify", n)
		}
		time.Sleep(10 * time.Second)
		w.flood("last")
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if last != "last" || card != "last" || told.Load() < 1000 {
			t.Errorf("Notify saw cookie %q and card %q, %d times", last, card, told.Load())
		}
	})
}

// flood has all elements send a cookie and a card to all of their users.
func (w *world) flood(text string) {
	for _, e := range w.elements {
		e.mu.Lock()
		for _, a := range e.assocs {
			e.control(a, &asap.Cookie{Cookie: []byte(text)})
			e.control(a, &asap.BusinessCard{Handle: rserpool.PoolHandle(text)})
		}
		e.mu.Unlock()
	}
}

// TestDialWithoutDescriptors: a program that can open no more sockets, because it has too many
// sessions, does not report the elements that it cannot dial.
func TestDialWithoutDescriptors(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		full := false
		listen := w.u.sessions.cfg.listen
		w.u.sessions.cfg.listen = func(cfg sctp.ListenConfig, h sctp.Handler) (sctp.Endpoint, error) {
			if full {
				return nil, os.NewSyscallError("socket", syscall.EMFILE)
			}
			return listen(cfg, h)
		}
		first, second := dial(t, w, SessionConfig{}), dial(t, w, SessionConfig{})
		full = true
		for range 20 {
			s, err := w.u.Dial(t.Context(), testPool)
			if !errors.Is(err, syscall.EMFILE) {
				t.Fatalf("Dial gives %v, %v; want EMFILE", s, err)
			}
		}
		time.Sleep(time.Minute)
		w.mu.Lock()
		if len(w.reports) > 0 {
			t.Errorf("elements %v are reported", w.reports)
		}
		w.mu.Unlock()
		if a, b := ask(t, first, "a"), ask(t, second, "b"); a != "a" || b != "b" {
			t.Errorf("answers %q, %q", a, b)
		}
	})
}

// TestEndOfFullSession: a session fails over although its program receives nothing and waits
// in Send, when the element has sent too much, reads nothing, and dies.
func TestEndOfFullSession(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		s := dial(t, w, SessionConfig{MaxReceive: 2000})
		e := w.serving(s)
		synctest.Wait()
		e.mu.Lock()
		a := e.assocs[0]
		e.mu.Unlock()
		e.ep.Pause(a)
		for range 50 {
			_ = e.ep.Send(a, sctp.Message{Data: make([]byte, 1000)})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for range 60 {
			if s.trySend(Message{Data: make([]byte, 60000)}, nil) != nil {
				break
			}
		}
		time.AfterFunc(time.Second, func() { w.kill(e.id) })
		if err := s.Send(ctx, make([]byte, 60000)); err != nil {
			t.Errorf("Send: %v", err)
		}
		if now := w.serving(s); now == e {
			t.Error("the dead element serves")
		}
	})
}

// TestSendToAllFrozen: an element that takes the association, and then nothing more, is among
// those that did not get the message.
func TestSendToAllFrozen(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		dial(t, w, SessionConfig{}).Close() // the cache has the elements
		for _, e := range w.elements[1:] {
			e.freeze = true
		}
		var failure *SendToAllError
		err := w.u.SendToAll(t.Context(), testPool, Message{Data: []byte("all")})
		if !errors.As(err, &failure) || len(failure.Attempts) != 2 {
			t.Errorf("SendToAll gives %v, want a failure of two elements", err)
		}
	})
}
