package pu

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const testPool = rserpool.PoolHandle("web")

// driver drives a core in virtual time and writes down what it does. The
// association of the n-th Connect is named n.
type driver struct {
	t     *testing.T
	k     *core
	start time.Time
	now   time.Time
	log   []string
	errs  []error
}

func newDriver(t *testing.T, registrars ...string) *driver {
	t.Helper()
	var cfg Config
	if len(registrars) == 0 {
		registrars = []string{"10.0.0.1", "10.0.0.2"}
	}
	cfg.Registrars = registrars
	if err := cfg.prepare(); err != nil {
		t.Fatal(err)
	}
	start := time.Unix(1_000_000, 0)
	return &driver{t: t, k: newCore(cfg, nil), start: start, now: start}
}

func (d *driver) note(format string, args ...any) {
	d.log = append(d.log, fmt.Sprintf("%v ", d.now.Sub(d.start))+fmt.Sprintf(format, args...))
}

func (d *driver) collect() {
	for {
		actions, results := d.k.take()
		if len(actions) == 0 && len(results) == 0 {
			return
		}
		for _, r := range results {
			d.errs = append(d.errs, r.err)
			switch {
			case r.lost:
				d.note("result %d lost", r.id)
			case r.err != nil:
				d.note("result %d %T final=%v", r.id, r.err, r.final)
			case r.res != nil:
				d.note("result %d %d elements subscribed=%v final=%v", r.id, len(r.res.Elements), r.res.Subscribed, r.final)
			default:
				d.note("result %d final=%v", r.id, r.final)
			}
		}
		for _, a := range actions {
			switch a := a.(type) {
			case hunt.Connect:
				d.note("connect %d %v", a.Ref, a.To)
				d.k.Connecting(d.now, a.Ref, sctp.AssocID(a.Ref), nil)
			case hunt.Close:
				d.note("close %d abort=%v", a.Assoc, a.Abort)
			case hunt.Send:
				m, _, err := asap.Parse(a.Data)
				if err != nil {
					d.t.Fatalf("the core sends an unfit message: %v", err)
				}
				s := m.Type().String()
				switch m := m.(type) {
				case *asap.HandleResolution:
					s = fmt.Sprintf("RES %s n=%d S=%v", m.Handle, m.Items, m.Subscribe)
				case *asap.EndpointUnreachable:
					s = fmt.Sprintf("UNREACHABLE %s %v", m.Handle, m.ID)
				}
				d.note("send %d %s", a.Assoc, s)
			}
		}
	}
}

func (d *driver) until(at time.Duration) {
	d.t.Helper()
	end := d.start.Add(at)
	for range 1000 {
		d.collect()
		next, ok := d.k.NextDeadline()
		if !ok || next.After(end) {
			d.now = end
			return
		}
		if next.After(d.now) {
			d.now = next
		}
		d.k.Tick(d.now)
	}
	d.t.Fatal("the core spins")
}

func (d *driver) resolve(n uint32, watch bool) reqID {
	id := d.k.resolve(d.now, testPool, n, watch)
	d.collect()
	return id
}

func (d *driver) up(a sctp.AssocID)   { d.k.Up(d.now, a, nil); d.collect() }
func (d *driver) down(a sctp.AssocID) { d.k.Down(d.now, a, errors.New("refused")); d.collect() }

func (d *driver) receive(a sctp.AssocID, m asap.Message) {
	d.t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.k.Received(d.now, a, b)
	d.collect()
}

// answer is a response with n elements.
func answer(n int, accept bool) *asap.HandleResolutionResponse {
	m := &asap.HandleResolutionResponse{Handle: testPool, Accept: accept, Policy: rserpool.Policy{Type: rserpool.Random}}
	for i := range n {
		m.Elements = append(m.Elements, rserpool.PoolElement{
			ID: rserpool.PEID(i + 1), Policy: rserpool.Policy{Type: rserpool.Random},
			UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.11")}},
		})
	}
	return m
}

func negative(code rserpool.CauseCode) *asap.HandleResolutionResponse {
	return &asap.HandleResolutionResponse{Handle: testPool, Causes: []rserpool.Cause{{Code: code}}}
}

func (d *driver) want(lines ...string) {
	d.t.Helper()
	if diff := cmp.Diff(lines, d.log); diff != "" {
		d.t.Errorf("log (-want +got):\n%s", diff)
	}
	d.log = nil
}

// wantErr checks the newest error.
func (d *driver) wantErr(text string) {
	d.t.Helper()
	if len(d.errs) == 0 || d.errs[len(d.errs)-1] == nil || !strings.Contains(d.errs[len(d.errs)-1].Error(), text) {
		d.t.Errorf("errors %v, want the last with %q", d.errs, text)
	}
}

// TestResolve: RFC 5352, Section 3.3. One association serves all requests.
func TestResolve(t *testing.T) {
	d := newDriver(t)
	d.resolve(2, false)
	d.up(1)
	d.receive(1, answer(2, false))
	d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=2 S=false", "0s result 1 2 elements subscribed=false final=true")
	d.until(time.Hour)
	d.resolve(0, false)
	d.receive(1, negative(rserpool.CauseUnknownPoolHandle))
	d.want("1h0m0s send 1 RES web n=0 S=false", "1h0m0s result 2 *pu.RefusedError final=true")
	d.wantErr(`registrar 10.0.0.1:3863 knows no pool "web"`)
	if !errors.Is(d.errs[1], ErrUnknownPool) {
		t.Errorf("error %v is not ErrUnknownPool", d.errs[1])
	}
	d.resolve(0, false)
	d.receive(1, negative(rserpool.CauseSecurity))
	d.wantErr(`refuses the request for pool "web": rejected for security reasons`)
	if errors.Is(d.errs[2], ErrUnknownPool) {
		t.Error("another refusal is ErrUnknownPool")
	}
}

// TestNoPolicyMeansRoundRobin: RFC 5352, Section 2.2.6.
func TestNoPolicyMeansRoundRobin(t *testing.T) {
	d := newDriver(t)
	d.k.resolve(d.now, testPool, 1, false)
	d.collect()
	d.up(1)
	m := answer(1, false)
	m.Policy = rserpool.Policy{}
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	d.k.Received(d.now, 1, b)
	_, results := d.k.take()
	if len(results) != 1 || results[0].res.Policy.Type != rserpool.RoundRobin {
		t.Errorf("results %+v, want one with round robin", results)
	}
}

// TestUnreachable: every registrar is tried, and the error tells of each.
func TestUnreachable(t *testing.T) {
	d := newDriver(t)
	d.resolve(1, false)
	d.down(1)
	d.down(2)
	d.want("0s connect 1 10.0.0.1:3863", "0s connect 2 10.0.0.2:3863", "0s result 1 *rserpool.UnreachableError final=true")
	d.wantErr("no registrar could be reached: 10.0.0.1:3863: refused; 10.0.0.2:3863: refused")
	d.until(time.Hour)
	d.want() // nobody waits, nobody is called
	d.resolve(1, false)
	d.until(time.Hour + 10*time.Second)
	d.wantErr("10.0.0.2:3863: no answer within 10s")
}

// TestRequestTimeout: Section 3.7.2. The request is repeated and another
// registrar is sought in parallel; one that answers is the new home.
func TestRequestTimeout(t *testing.T) {
	t.Run("alternative", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(1, false)
		d.up(1)
		d.until(15 * time.Second)
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=false",
			"15s send 1 RES web n=1 S=false", "15s connect 2 10.0.0.2:3863")
		d.up(2)
		d.receive(2, answer(1, false))
		d.want("15s close 1 abort=false", "15s send 2 RES web n=1 S=false", "15s result 1 1 elements subscribed=false final=true")
	})
	t.Run("slow answer", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(1, false)
		d.up(1)
		d.until(15 * time.Second)
		d.receive(1, answer(1, false))
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=false",
			"15s send 1 RES web n=1 S=false", "15s connect 2 10.0.0.2:3863",
			"15s result 1 1 elements subscribed=false final=true", "15s close 2 abort=true")
	})
	t.Run("no alternative", func(t *testing.T) {
		d := newDriver(t, "10.0.0.1")
		d.resolve(1, false)
		d.up(1)
		d.until(time.Minute)
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=false",
			"15s send 1 RES web n=1 S=false", "30s send 1 RES web n=1 S=false", "45s result 1 *rserpool.TimeoutError final=true")
		d.wantErr("registrar 10.0.0.1:3863 accepts the association but has not answered 3 requests within 15s each")
	})
	t.Run("alternative is away", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(1, false)
		d.up(1)
		d.until(15 * time.Second)
		d.down(2)
		d.down(3)
		d.until(time.Minute)
		d.wantErr("has not answered 3 requests")
	})
}

// TestHomeLost: a request under way goes to the next registrar.
func TestHomeLost(t *testing.T) {
	d := newDriver(t)
	d.resolve(1, false)
	d.up(1)
	d.down(1)
	d.up(2)
	d.receive(2, answer(1, false))
	d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=false", "0s connect 2 10.0.0.2:3863",
		"0s send 2 RES web n=1 S=false", "0s result 1 1 elements subscribed=false final=true")
}

// TestHomeLostAgain: a registrar that has answered is called again at once.
func TestHomeLostAgain(t *testing.T) {
	d := newDriver(t, "10.0.0.1")
	for a := sctp.AssocID(1); a < 4; a++ {
		d.resolve(1, false)
		d.up(a)
		d.receive(a, answer(1, false))
		d.down(a)
		d.want(fmt.Sprintf("0s connect %d 10.0.0.1:3863", a), fmt.Sprintf("0s send %d RES web n=1 S=false", a),
			fmt.Sprintf("0s result %d 1 elements subscribed=false final=true", a))
	}
}

// TestNoResources: a request is refused by three registrars that have no
// resources before it ends, the first one again where there are only two; where
// one of them answers it is answered.
func TestNoResources(t *testing.T) {
	d := newDriver(t)
	lack := negative(rserpool.CauseLackOfResources)
	d.resolve(1, false)
	d.up(1)
	d.receive(1, lack)
	d.up(2)
	d.receive(2, answer(1, false))
	d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=false", "0s close 1 abort=false", "0s connect 2 10.0.0.2:3863",
		"0s send 2 RES web n=1 S=false", "0s result 1 1 elements subscribed=false final=true")
	d.resolve(1, false)
	for a := sctp.AssocID(2); a <= 4; a++ {
		d.receive(a, lack)
		d.up(a + 1)
	}
	d.want("0s send 2 RES web n=1 S=false", "0s close 2 abort=false", "0s connect 3 10.0.0.1:3863",
		"0s send 3 RES web n=1 S=false", "0s close 3 abort=false", "0s connect 4 10.0.0.2:3863",
		"0s send 4 RES web n=1 S=false", "0s result 2 *pu.RefusedError final=true", "0s close 5 abort=true")
	d = newDriver(t, "10.0.0.1")
	d.resolve(1, false)
	d.up(1)
	d.receive(1, lack)
	d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=false", "0s result 1 *pu.RefusedError final=true")
}

// TestSendFailure: Section 3.7.1.
func TestSendFailure(t *testing.T) {
	d := newDriver(t)
	d.resolve(1, false)
	d.up(1)
	d.k.SendFailed(d.now, 1, errors.New("x"))
	d.collect()
	d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=false", "0s close 1 abort=true", "0s connect 2 10.0.0.2:3863")
}

// TestFlappingHome: a registrar that answers a watch and ends the association, time
// and again, is not called all the time.
func TestFlappingHome(t *testing.T) {
	d := newDriver(t, "10.0.0.1")
	d.resolve(1, true)
	calls, a := 0, sctp.AssocID(1)
	for d.now.Sub(d.start) < time.Hour && calls < 1000 {
		if !d.k.hunt.Hunting() {
			t.Fatal("the watch does not look for a registrar")
		}
		if strings.Contains(strings.Join(d.log, "\n"), fmt.Sprintf("connect %d ", a)) {
			calls++
			d.up(a)
			d.receive(a, answer(1, true))
			d.down(a)
			a++
			continue
		}
		d.log = nil
		d.until(d.now.Sub(d.start) + 100*time.Millisecond)
	}
	if calls > 80 {
		t.Errorf("%d calls within %v, want one a minute", calls, d.now.Sub(d.start))
	}
}

// TestWatchRestarts: a registrar is restarted again and again, some seconds after the watch is there. The
// watch is soon there again each time.
func TestWatchRestarts(t *testing.T) {
	d := newDriver(t, "10.0.0.1")
	d.resolve(1, true)
	lost := d.now
	for a := sctp.AssocID(1); a <= 10; {
		if strings.Contains(strings.Join(d.log, "\n"), fmt.Sprintf("connect %d ", a)) {
			if took := d.now.Sub(lost); took > 3*time.Second {
				t.Errorf("restart %d: called after %v", a, took)
			}
			d.up(a)
			d.receive(a, answer(1, true))
			d.log = nil
			d.until(d.now.Sub(d.start) + 3*time.Second)
			d.down(a)
			lost = d.now
			a++
			continue
		}
		d.log = nil
		d.until(d.now.Sub(d.start) + 100*time.Millisecond)
	}
}

// TestPoisonedRequest: registrars that end the association at a request are
// not asked without end.
func TestPoisonedRequest(t *testing.T) {
	d := newDriver(t)
	d.resolve(1, false)
	for a := sctp.AssocID(1); len(d.errs) == 0 && a < 10; a++ {
		d.up(a)
		d.down(a)
	}
	if len(d.errs) != 1 {
		t.Fatalf("no result after\n%s", strings.Join(d.log, "\n"))
	}
	if n := strings.Count(strings.Join(d.log, "\n"), "send"); n > 3 {
		t.Errorf("the request was sent %d times:\n%s", n, strings.Join(d.log, "\n"))
	}
	d.wantErr("refused")
}

// TestWatchesOfOnePool: an association has one subscription to a pool, so it has to be for
// the greatest number of elements. Each watch gets as many as it wants.
func TestWatchesOfOnePool(t *testing.T) {
	d := newDriver(t)
	d.resolve(5, true)
	d.up(1)
	d.resolve(2, true)
	d.resolve(0, true)
	d.log = nil
	d.receive(1, answer(7, true))
	d.want("0s result 1 5 elements subscribed=true final=false", "0s result 2 2 elements subscribed=true final=false",
		"0s result 3 7 elements subscribed=true final=false")
	d.down(1)
	d.up(2)
	d.want("0s result 1 lost", "0s result 2 lost", "0s result 3 lost", "0s connect 2 10.0.0.2:3863",
		"0s send 2 RES web n=5 S=true", "0s send 2 RES web n=5 S=true", "0s send 2 RES web n=5 S=true")
}

// TestWatch: subscription, updates, and what replaces them (Sections 2.2.5
// and 2.2.6).
func TestWatch(t *testing.T) {
	t.Run("updates", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(5, true)
		d.up(1)
		d.receive(1, answer(1, true))
		d.until(time.Hour)
		d.receive(1, answer(2, true))
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=5 S=true", "0s result 1 1 elements subscribed=true final=false",
			"1h0m0s result 1 2 elements subscribed=true final=false")
		// The subscription moves to the next registrar.
		d.down(1)
		d.up(2)
		d.want("1h0m0s result 1 lost", "1h0m0s connect 2 10.0.0.2:3863", "1h0m0s send 2 RES web n=5 S=true")
	})
	t.Run("registrar without updates", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(0, true)
		d.up(1)
		d.receive(1, answer(1, false))
		d.until(2 * time.Second)
		d.receive(1, answer(2, false))
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=0 S=true", "0s result 1 1 elements subscribed=false final=false",
			"2s send 1 RES web n=0 S=true", "2s result 1 2 elements subscribed=false final=false")
	})
	t.Run("pool comes and goes", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(0, true)
		d.up(1)
		d.receive(1, negative(rserpool.CauseUnknownPoolHandle))
		d.until(2 * time.Second)
		d.receive(1, answer(1, true))
		d.until(10 * time.Second)
		d.receive(1, negative(rserpool.CauseUnknownPoolHandle))
		d.until(12 * time.Second)
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=0 S=true", "0s result 1 *pu.RefusedError final=false",
			"2s send 1 RES web n=0 S=true", "2s result 1 1 elements subscribed=true final=false",
			"10s result 1 *pu.RefusedError final=false", "12s send 1 RES web n=0 S=true")
	})
	t.Run("refused for other reasons", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(0, true)
		d.up(1)
		asks := func() (n int) {
			for _, line := range d.log {
				if strings.Contains(line, " send ") {
					n++
				}
			}
			return n
		}
		for _, wait := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
			d.receive(1, negative(rserpool.CauseLackOfResources))
			now, n := d.now.Sub(d.start), asks()
			d.until(now + wait*time.Second - 1)
			if asks() > n {
				t.Errorf("asked again within %d s, want then", wait)
			}
			if d.until(now + wait*time.Second); asks() != n+1 {
				t.Errorf("asked %d times within %d s, want once", asks()-n, wait)
			}
		}
		d.receive(1, negative(rserpool.CauseUnknownPoolHandle)) // it may come soon
		n := asks()
		if d.until(d.now.Sub(d.start) + 2*time.Second); asks() != n+1 {
			t.Error("not asked again after 2 s for a pool that does not exist")
		}
	})
	t.Run("no registrar", func(t *testing.T) {
		d := newDriver(t, "10.0.0.1")
		d.resolve(0, true)
		d.down(1)
		d.until(500 * time.Millisecond)
		d.up(2)
		d.want("0s connect 1 10.0.0.1:3863", "0s result 1 *rserpool.UnreachableError final=false",
			"500ms connect 2 10.0.0.1:3863", "500ms send 2 RES web n=0 S=true")
	})
	t.Run("silent registrar", func(t *testing.T) {
		d := newDriver(t, "10.0.0.1")
		d.resolve(0, true)
		d.up(1)
		d.until(47 * time.Second)
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=0 S=true", "15s send 1 RES web n=0 S=true", "30s send 1 RES web n=0 S=true",
			"45s result 1 *rserpool.TimeoutError final=false", "47s send 1 RES web n=0 S=true")
	})
	t.Run("beside a single request", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(0, true)
		d.up(1)
		d.receive(1, answer(1, true))
		d.resolve(1, false)
		d.receive(1, answer(3, true)) // an update
		d.receive(1, answer(1, false))
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=0 S=true", "0s result 1 1 elements subscribed=true final=false",
			"0s send 1 RES web n=1 S=false", "0s result 1 3 elements subscribed=true final=false",
			"0s result 2 1 elements subscribed=false final=true")
	})
}

// TestReport: Section 3.5.
func TestReport(t *testing.T) {
	d := newDriver(t)
	d.k.report(d.now, testPool, 5)
	d.collect()
	d.up(1)
	d.k.report(d.now, testPool, 6)
	d.collect()
	d.want("0s connect 1 10.0.0.1:3863", "0s result 1 final=true", "0s send 1 UNREACHABLE web 00000005",
		"0s result 2 final=true", "0s send 1 UNREACHABLE web 00000006")
	d.down(1)
	d.until(time.Hour)
	d.want() // nothing is open, so no registrar is sought
}

func TestCancel(t *testing.T) {
	t.Run("while hunting", func(t *testing.T) {
		d := newDriver(t)
		id := d.resolve(1, false)
		d.until(time.Second)
		d.k.cancel(id, context.DeadlineExceeded)
		d.collect()
		d.wantErr("10.0.0.1:3863: no answer; 10.0.0.2:3863: no answer")
		if !errors.Is(d.errs[0], context.DeadlineExceeded) {
			t.Errorf("error %v does not wrap the context's", d.errs[0])
		}
		d.until(time.Minute)
		d.want("0s connect 1 10.0.0.1:3863", "300ms connect 2 10.0.0.2:3863", "1s result 1 *rserpool.UnreachableError final=true",
			"1s close 1 abort=true", "1s close 2 abort=true")
	})
	t.Run("while waiting", func(t *testing.T) {
		d := newDriver(t)
		id := d.resolve(1, false)
		d.up(1)
		d.k.cancel(id, context.DeadlineExceeded)
		d.collect()
		d.wantErr("registrar 10.0.0.1:3863 accepts the association but does not answer in time")
		d.receive(1, answer(1, false)) // late
		d.k.cancel(id, context.DeadlineExceeded)
		d.collect()
		if len(d.errs) != 1 {
			t.Errorf("%d results, want 1", len(d.errs))
		}
	})
}

// TestErrorReport: a registrar that cannot make sense of a request.
func TestErrorReport(t *testing.T) {
	d := newDriver(t)
	d.resolve(1, false)
	d.up(1)
	d.receive(1, &asap.Error{Causes: []rserpool.Cause{{Code: rserpool.CauseUnrecognizedMessage}}})
	d.wantErr("unrecognized message")
}

// TestReportIsNoRefusal: an ASAP_ERROR that only reports a parameter that the
// registrar has skipped, or that is about another message, ends no request: the
// response still comes.
func TestReportIsNoRefusal(t *testing.T) {
	reports := []rserpool.Cause{
		{Code: rserpool.CauseUnrecognizedParameter, Info: []byte{0xc1, 0x23, 0, 4}},
		{Code: rserpool.CauseUnrecognizedMessage, Info: []byte{byte(asap.TypeEndpointUnreachable), 0, 0, 4}},
	}
	t.Run("single", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(1, false)
		d.up(1)
		for _, c := range reports {
			d.receive(1, &asap.Error{Causes: []rserpool.Cause{c}})
		}
		d.receive(1, answer(1, false))
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=false", "0s result 1 1 elements subscribed=false final=true")
	})
	t.Run("watch", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(1, true)
		d.up(1)
		for _, c := range reports {
			d.receive(1, &asap.Error{Causes: []rserpool.Cause{c}})
		}
		d.receive(1, answer(1, true))
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=true", "0s result 1 1 elements subscribed=true final=false")
	})
}

// TestNoElements: a positive response has at least one element (RFC 5352,
// Section 2.2.6). One without is an error for the user, not an empty success.
func TestNoElements(t *testing.T) {
	t.Run("single", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(1, false)
		d.up(1)
		d.receive(1, answer(0, false))
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=false", "0s result 1 *rserpool.NoElementsError final=true")
		d.wantErr(`registrar 10.0.0.1:3863 knows pool "web", but no element in it`)
	})
	t.Run("watch", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(1, true)
		d.up(1)
		d.receive(1, answer(1, true))
		d.until(10 * time.Second)
		d.receive(1, answer(0, true))
		d.until(12 * time.Second) // it asks again: the update may be a mistake
		d.receive(1, answer(1, true))
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=true", "0s result 1 1 elements subscribed=true final=false",
			"10s result 1 *rserpool.NoElementsError final=false", "12s send 1 RES web n=1 S=true",
			"12s result 1 1 elements subscribed=true final=false")
	})
}

// TestSilentHomeIsLeft: a registrar that has not answered at all is not asked
// first by the next request, if there is another one.
func TestSilentHomeIsLeft(t *testing.T) {
	d := newDriver(t)
	d.resolve(1, false)
	d.up(1)
	d.until(15 * time.Second)
	d.down(2) // the alternative is away for now
	d.down(3) // and the silent one has its association already
	d.until(30 * time.Second)
	d.down(4)
	d.down(5)
	d.until(time.Minute)
	d.log = nil
	d.resolve(1, false)
	d.until(time.Minute)
	d.up(6)
	d.want("1m0s connect 6 10.0.0.2:3863", "1m0s send 6 RES web n=1 S=false")
}

func TestClose(t *testing.T) {
	t.Run("connected", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(1, false)
		d.up(1)
		d.k.Stop(d.now)
		d.collect()
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=false", "0s result 1 *errors.errorString final=true", "0s close 1 abort=false")
		if d.down(1); !d.k.over {
			t.Error("not over after the association's end")
		}
	})
	t.Run("peer silent", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(1, false)
		d.up(1)
		d.k.Stop(d.now)
		if d.until(3 * time.Second); !d.k.over {
			t.Error("not over after Timers.Close")
		}
	})
	t.Run("hunting", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(1, false)
		d.k.Stop(d.now)
		d.collect()
		if !d.k.over {
			t.Error("not over at once")
		}
	})
}

// TestStrangers: users are not called, and take answers from the home alone.
func TestStrangers(t *testing.T) {
	d := newDriver(t)
	d.resolve(1, false)
	d.up(1)
	d.up(9)
	d.receive(9, answer(1, false))
	d.receive(1, &asap.HandleResolutionResponse{Handle: "other", Elements: answer(1, false).Elements})
	d.k.Received(d.now, 1, []byte{6, 0, 0, 9, 1})
	d.collect()
	d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=false", "0s close 9 abort=true", "0s send 1 ASAP_ERROR")
}

// TestOrderOfElements: the user gets the elements in the registrar's order, which
// the policies rest on (RFC 5356, Sections 4.1.3, 4.5.3 and 5.1.3), and the overall
// policy, whatever the elements' own ones are (RFC 5352, Section 2.2.6).
func TestOrderOfElements(t *testing.T) {
	d := newDriver(t)
	d.k.resolve(d.now, testPool, 3, false)
	d.collect()
	d.up(1)
	m := answer(3, false)
	m.Policy = rserpool.Policy{Type: rserpool.Priority, Priority: 9}
	m.Elements[0].ID, m.Elements[1].ID, m.Elements[2].ID = 3, 1, 2
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	d.k.Received(d.now, 1, b)
	_, results := d.k.take()
	if len(results) != 1 || len(results[0].res.Elements) != 3 {
		t.Fatalf("results %+v, want one with three elements", results)
	}
	res := results[0].res
	if e := res.Elements; e[0].ID != 3 || e[1].ID != 1 || e[2].ID != 2 || res.Policy.Type != rserpool.Priority {
		t.Errorf("elements %v, %v, %v with policy %v, want 3, 1, 2 with Priority", e[0].ID, e[1].ID, e[2].ID, res.Policy)
	}
}

// TestRenewal: an association that is renewed leads back to the same registrar, at once if a
// request needs it.
func TestRenewal(t *testing.T) {
	d := newDriver(t)
	renew := func(a sctp.AssocID) {
		d.k.Down(d.now, a, fmt.Errorf("down: %w", sctp.ErrRenew))
		d.collect()
	}
	d.resolve(1, false)
	d.up(1)
	renew(1)
	d.up(2)
	d.receive(2, answer(1, false))
	d.want("0s connect 1 10.0.0.1:3863", "0s send 1 RES web n=1 S=false", "0s connect 2 10.0.0.1:3863",
		"0s send 2 RES web n=1 S=false", "0s result 1 1 elements subscribed=false final=true")
	renew(2)
	d.want()
	d.resolve(1, false)
	d.until(time.Second)
	d.up(3)
	d.want("0s connect 3 10.0.0.1:3863", "1s send 3 RES web n=1 S=false")
	// The next one that is lost is no renewal.
	d.down(3)
	d.want("1s connect 4 10.0.0.2:3863")
}
