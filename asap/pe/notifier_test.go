package pe

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

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

// TestNotifierBounds: events wait for an application that is busy, up to a limit. Beyond it, the
// last one of each type is left, and the latest ones, in their order.
func TestNotifierBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := make(chan struct{})
		var got []Event
		n := newNotifier(func(ev Event) { <-busy; got = append(got, ev) }, nil)
		n.tell(Event{Type: Readdressed})
		synctest.Wait() // it is with the application
		n.tell(Event{Type: Registered})
		for i := range 2 * maxNews {
			n.tell(Event{Type: NoRegistrar, Pause: time.Duration(i)})
		}
		n.tell(Event{Type: Registered, ID: 2})
		for i := range 2 * maxNews {
			n.tell(Event{Type: Refused, Pause: time.Duration(i)})
		}
		n.tell(Event{Type: Deregistered})
		close(busy)
		n.wait()
		want := []Event{{Type: Readdressed}, {Type: NoRegistrar, Pause: 2*maxNews - 1}, {Type: Registered, ID: 2}}
		for i := range maxNews - 3 {
			want = append(want, Event{Type: Refused, Pause: time.Duration(maxNews + 3 + i)})
		}
		want = append(want, Event{Type: Deregistered})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestNotifyAsksDuringOutage: Notify asks for what the element does not get before there is a
// registrar. The element registers when there is one, although more events have come meanwhile
// than may wait.
func TestNotifyAsksDuringOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		var e *running
		var last EventType
		opened, asked := make(chan struct{}), false
		e = start(t, nw, func(c *Config) {
			c.Notify = func(ev Event) {
				<-opened
				last = ev.Type
				if ev.Type == NoRegistrar && !asked {
					asked = true
					_, _ = e.Resolve(context.Background(), testPool, 1)
				}
			}
		})
		close(opened)
		time.Sleep(60 * time.Hour)
		r := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r)
		time.Sleep(time.Hour)
		if !e.State().Registered {
			t.Error("an hour after the registrar is back, the element is not registered")
		}
		if err := e.end(); err != nil || last != Deregistered {
			t.Errorf("Close gives %v, and the last event is of type %v, want Deregistered", err, last)
		}
	})
}

// TestAskOfBusyElement: a request ends with its context, whatever the element does.
func TestAskOfBusyElement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		e := start(t, nw, nil)
		release := make(chan struct{})
		e.driver.Do(func(time.Time) { <-release })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := e.Resolve(ctx, testPool, 1)
		if d := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || d > 1100*time.Millisecond {
			t.Errorf("Resolve with a deadline of 1 s returns %v after %v", err, d)
		}
		close(release)
		if err := e.end(); err != nil {
			t.Error(err)
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
