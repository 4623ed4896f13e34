package pe

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestNetListenerClose: Close of the NetListener waits for the deregistration, since a program may
// end after it, but no longer than Timers.Stop.
func TestNetListenerClose(t *testing.T) {
	inBubble := func(name string, f func(t *testing.T, r *registrar, l *listening, n net.Listener)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nw := sctptest.NewNetwork()
				r := newRegistrar(t, nw, "10.0.0.1:3863")
				defer closed(t, r)
				l := listen(t, nw, nil)
				expect(t, r, "REGISTRATION")
				f(t, r, l, l.NetListener())
			})
		})
	}
	inBubble("the registrar is slow", func(t *testing.T, r *registrar, l *listening, n net.Listener) {
		r.set(func() { r.silent = true })
		time.AfterFunc(2*time.Second, func() {
			r.set(func() {
				for a := range r.peers {
					for _, m := range r.got {
						r.answer(a, m)
					}
				}
			})
		})
		began := time.Now()
		if err := n.Close(); err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("Close gives %v after %v, want the answer of the registrar after 2 s", err, time.Since(began))
		}
		expect(t, r, "DEREGISTRATION")
		if err := n.Close(); err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("the second Close gives %v after %v", err, time.Since(began))
		}
		if _, err := n.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept gives %v", err)
		}
		l.close()
	})
	inBubble("the registrar does not answer", func(t *testing.T, r *registrar, l *listening, n net.Listener) {
		r.set(func() { r.silent = true })
		began := time.Now()
		if err := n.Close(); err == nil || !strings.Contains(err.Error(), "not confirmed after 3s") || time.Since(began) != 3*time.Second {
			t.Errorf("Close gives %v after %v, want an error after 3 s", err, time.Since(began))
		}
		r.set(func() { r.silent = false })
		_ = l.Close()
	})
	inBubble("the registrar refuses", func(t *testing.T, r *registrar, l *listening, n net.Listener) {
		r.set(func() { r.reject = []rserpool.Cause{{Code: rserpool.CauseSecurity}} })
		var refused *DeregistrationError
		if err := n.Close(); !errors.As(err, &refused) {
			t.Errorf("Close gives %v, want a DeregistrationError", err)
		}
		r.set(func() { r.reject = nil })
		l.close()
	})
	inBubble("the Listener is closed", func(t *testing.T, _ *registrar, l *listening, n net.Listener) {
		l.close()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	inBubble("not registered", func(t *testing.T, _ *registrar, l *listening, n net.Listener) {
		l.Element().SetAvailable(false)
		synctest.Wait()
		began := time.Now()
		if err := n.Close(); err != nil || time.Since(began) != 0 {
			t.Errorf("Close gives %v after %v, want nil at once", err, time.Since(began))
		}
		if _, err := l.Accept(context.Background()); !errors.Is(err, rserpool.ErrClosed) {
			t.Errorf("Accept gives %v", err)
		}
		l.close()
	})
}
