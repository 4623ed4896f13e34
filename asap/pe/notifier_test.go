package pe

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestBusyApplication: while the application blocks Notify, the element acknowledges
// keep-alives. Close waits until the application has got all events, in their order.
func TestBusyApplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r)
		busy := make(chan struct{})
		var events []EventType
		e := start(t, nw, func(c *Config) {
			c.Notify = func(ev Event) {
				<-busy
				events = append(events, ev.Type)
			}
		})
		expect(t, r, "REGISTRATION")
		for range 3 {
			time.Sleep(2 * time.Second)
			for a := range r.peers {
				r.send(a, &asap.EndpointKeepAlive{Server: 7, Handle: testPool, ID: e.State().ID, HasID: true})
			}
			expect(t, r, "ENDPOINT_KEEP_ALIVE_ACK")
		}
		time.Sleep(time.Minute)
		expect(t, r, "REGISTRATION REGISTRATION")
		ended := make(chan error)
		go func() { ended <- e.end() }()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Errorf("the element has ended, %v, before the application knows of its events", err)
		default:
		}
		close(busy)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if want := []EventType{Registered, Reregistered, Reregistered, Deregistered}; !slices.Equal(events, want) {
			t.Errorf("events %v, want %v", events, want)
		}
	})
}

// TestNotifierBounds: events wait for an application that is busy, up to a limit.
func TestNotifierBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := make(chan struct{})
		calls := 0
		n := newNotifier(func(Event) { <-busy; calls++ }, nil)
		told := 0
		go func() {
			for range 2 * maxNews {
				n.tell(Event{})
				told++
			}
		}()
		synctest.Wait()
		if told != maxNews+1 { // one is with the application
			t.Errorf("%d events wait, want %d", told, maxNews+1)
		}
		close(busy)
		synctest.Wait()
		if n.wait(); calls != 2*maxNews {
			t.Errorf("%d calls, want %d", calls, 2*maxNews)
		}
	})
}

// TestNotifyAsks: Notify may wait for answers of the Element, also when a registrar has refused
// it and it ends.
func TestNotifyAsks(t *testing.T) {
	for name, refused := range map[string][]rserpool.Cause{"registered": nil, "rejected": {{Code: rserpool.CauseInconsistentPolicy}}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nw := sctptest.NewNetwork()
				r := newRegistrar(t, nw, "10.0.0.1:3863")
				r.pool = []rserpool.PoolElement{{ID: 7, UserTransport: rserpool.MustParseTransport("sctp:10.0.0.7:5001")}}
				r.reject = refused
				defer closed(t, r)
				opened := make(chan *running)
				errs := make(chan error, 2)
				e := start(t, nw, func(c *Config) {
					c.Notify = func(ev Event) {
						if e := <-opened; e != nil {
							_, err := e.Resolve(context.Background(), testPool, 0)
							errs <- err
							errs <- e.ReportUnreachable(context.Background(), testPool, 7)
						}
					}
				})
				synctest.Wait() // a refused element only waits for Notify
				opened <- e
				close(opened)
				for range 2 {
					if err := <-errs; refused == nil && err != nil || refused != nil && !errors.Is(err, rserpool.ErrClosed) {
						t.Errorf("the request of Notify gives %v", err)
					}
				}
				if err := e.end(); refused == nil && err != nil {
					t.Error(err)
				}
			})
		})
	}
}
