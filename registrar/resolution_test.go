package registrar

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func items(m *asap.HandleResolution, n uint32) *asap.HandleResolution {
	m.Items, m.HasItems = n, true
	return m
}

func subscribe(h string) *asap.HandleResolution {
	return &asap.HandleResolution{Handle: rserpool.PoolHandle(h), Subscribe: true}
}

// pooled is a world with n elements in pool "p", on association 1.
func pooled(t *testing.T, n int, change ...func(*Config)) *world {
	t.Helper()
	w := newWorld(t, append(change, func(c *Config) { c.Timers.KeepAliveInterval = 20 * time.Hour })...)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	for id := 1; id <= n; id++ {
		w.recv(1, reg("p", uint32(id), "10.0.0.1"))
	}
	w.skip("registration granted")
	w.up(2, rserpool.ViaTCP, "10.0.0.2")
	return w
}

// RFC 5352, Section 3.3; the number of elements is the reference
// implementation's.
func TestResolution(t *testing.T) {
	w := pooled(t, 5)
	w.recv(2, resolve("p"))
	w.want("2 < resolution p policy 1 1 2 3")
	w.recv(2, items(resolve("p"), 0))
	w.want("2 < resolution p policy 1 2 3 4")
	w.recv(2, items(resolve("p"), 1))
	w.want("2 < resolution p policy 1 3")
	w.recv(2, items(resolve("p"), 100))
	w.want("2 < resolution p policy 1 4 5 1 2 3")
	w.recv(2, items(resolve("p"), 0xffffffff))
	w.want("2 < resolution p policy 1 5 1 2 3 4")
	w.recv(2, resolve("q"))
	w.want("2 < resolution q cause 9")
	w.recv(1, resolve("p")) // a pool element may ask as well
	w.want("1 < resolution p policy 1 1 2 3")
	if s := w.r.Stats(); s.Resolutions != 6 || s.ResolutionsFailed[rserpool.CauseUnknownPoolHandle] != 1 {
		t.Errorf("stats: %+v", s)
	}
}

func TestResolutionItemsLimit(t *testing.T) {
	w := pooled(t, 200)
	w.recv(2, items(resolve("p"), 200))
	if got := len(strings.Fields(w.trace[0])) - 6; got != 128 {
		t.Errorf("elements in the response: got %d, want 128", got)
	}
}

// RFC 5352, Section 2.2.6: a positive response has at least one element.
func TestResolutionNothingSelected(t *testing.T) {
	w := pooled(t, 0)
	w.recv(1, reg("w", 1, "10.0.0.1", policy(rserpool.WeightedRoundRobin)))
	w.skip("registration granted")
	w.recv(2, subscribe("w"))
	w.want("2 < resolution w cause 6")
	w.recv(1, reg("w", 1, "10.0.0.1", policy(rserpool.WeightedRoundRobin), func(e *rserpool.PoolElement) { e.Policy.Weight = 1 }))
	w.pass(time.Second)
	w.want("1 < registration granted w:1")
}

// What is in a response: the policy, the elements as registered but for the
// home, and no ASAP transport.
func TestResolutionContent(t *testing.T) {
	w := pooled(t, 0)
	m := reg("p", 1, "10.0.0.1", userSCTP(1), policy(rserpool.LeastUsed), asapAt(9, "10.0.0.1"), func(e *rserpool.PoolElement) {
		e.Policy.Load = 77
		e.Unknown = []rserpool.Parameter{{Type: 0x8123, Value: []byte("x")}}
	})
	w.recv(1, m)
	acts := w.handle(Received{Assoc: 2, Data: encode(t, resolve("p"))})
	want := &asap.HandleResolutionResponse{Handle: "p", Policy: m.Element.Policy, Elements: []rserpool.PoolElement{m.Element}}
	want.Elements[0].Home = testServer
	want.Elements[0].ASAPTransport = rserpool.Transport{}
	if got, want := acts[0].(*Send).Data, encode(t, want); string(got) != string(want) {
		t.Errorf("response:\n got %x\nwant %x", got, want)
	}
}

// Elements that do not fit into a message are left out.
func TestResolutionTooLong(t *testing.T) {
	w := pooled(t, 0)
	for id := uint32(1); id <= 50; id++ {
		w.recv(1, reg("p", id, "10.0.0.1", func(e *rserpool.PoolElement) {
			e.Unknown = []rserpool.Parameter{{Type: 0x8123, Value: make([]byte, 4000)}}
		}))
	}
	w.skip("registration granted")
	acts := w.handle(Received{Assoc: 2, Data: encode(t, items(resolve("p"), 50))})
	if got := len(acts[0].(*Send).Data); got > 65535 || got < 64000 {
		t.Errorf("length of the response: got %d, want nearly 65535", got)
	}
	if got := len(strings.Fields(w.trace[0])) - 6; got != 16 {
		t.Errorf("elements in the response: got %d, want 16", got)
	}
}

// RFC 5352, Section 2.2.5: automatic updates for the S bit.
func TestSubscription(t *testing.T) {
	w := pooled(t, 1)
	w.recv(2, subscribe("p"))
	w.want("2 < resolution p A policy 1 1")
	w.recv(1, reg("p", 2, "10.0.0.1"))
	w.want("1 < registration granted p:2")
	w.pass(0) // the first change is told at once
	w.want("2 < resolution p A policy 1 1 2")
	for id := uint32(3); id <= 9; id++ { // many changes in a short time: once
		w.recv(1, reg("p", id, "10.0.0.1"))
	}
	w.recv(1, dereg("p", 2))
	w.skip("registration granted", "deregistration", "removed")
	w.pass(100*time.Millisecond - 1)
	w.want()
	w.pass(1)
	w.want("2 < resolution p A policy 1 6 1 8") // the subscriber's part
	w.pass(time.Second)
	w.recv(1, reg("p", 3, "10.0.0.1")) // nothing has changed
	w.skip("registration granted")
	w.pass(time.Second)
	w.want()
	w.recv(1, reg("p", 3, "10.0.0.1", life(100))) // now it has
	w.skip("registration granted")
	w.pass(0)
	w.want("2 < resolution p A policy 1 6 1 8")
	w.recv(2, items(subscribe("p"), 1)) // asked again, for fewer
	w.want("2 < resolution p A policy 1 1")
	w.recv(1, dereg("p", 9))
	w.skip("deregistration", "removed")
	w.pass(time.Second)
	w.want("2 < resolution p A policy 1 8")
	for id := uint32(1); id <= 9; id++ {
		w.recv(1, dereg("p", id))
	}
	w.skip("deregistration", "removed")
	w.pass(time.Second)
	w.want("2 < resolution p cause 9") // which ends it
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.skip("registration granted")
	w.pass(time.Second)
	w.want()
	if s := w.r.Stats(); s.Updates != 5 || s.Subscriptions != 0 {
		t.Errorf("stats: %+v", s)
	}
}

// RFC 5356, Sections 4.1.2 and 5.2.2: requests move the head of the pool and degrade its
// elements. Updates do not, whatever changes between two requests.
func TestUpdateSelectsNothing(t *testing.T) {
	for _, c := range []struct {
		policy rserpool.PolicyType
		want   []string
	}{
		{rserpool.RoundRobin, []string{"1", "2", "1", "2", "1", "2"}},
		{rserpool.WeightedRoundRobin, []string{"2", "1", "2", "1", "2", "1"}},
		{rserpool.LeastUsedDegradation, []string{"1", "2", "1", "2", "1", "2"}},
	} {
		w := pooled(t, 0)
		values := func(e *rserpool.PoolElement) { e.Policy.Weight, e.Policy.LoadDegradation = 1, 1<<20 }
		w.recv(1, reg("p", 1, "10.0.0.1", policy(c.policy), values))
		w.recv(1, reg("p", 2, "10.0.0.1", policy(c.policy), values))
		w.up(3, rserpool.ViaTCP, "10.0.0.3")
		w.recv(3, items(subscribe("p"), 1))
		w.recv(3, items(subscribe("p"), 1)) // both have been selected as often
		w.skip("registration granted", "resolution")
		for i, want := range c.want {
			w.recv(1, reg("p", 2, "10.0.0.1", policy(c.policy), values, life(int32(100+i))))
			w.skip("registration granted")
			w.pass(time.Second)
			w.skip("resolution") // the update
			w.recv(2, items(resolve("p"), 1))
			w.want(fmt.Sprintf("2 < resolution p policy %x %s", uint32(c.policy), want))
		}
		if s := w.r.Stats(); s.Updates != uint64(len(c.want)) {
			t.Errorf("updates: got %d, want %d", s.Updates, len(c.want))
		}
	}
}

// Subscribers that know a part of a pool know different parts, each the same one from update
// to update.
func TestUpdateParts(t *testing.T) {
	w := pooled(t, 40)
	for id := AssocID(10); id < 30; id++ {
		w.up(id, rserpool.ViaTCP, fmt.Sprintf("10.1.0.%d", id))
		w.recv(id, items(subscribe("p"), 4))
	}
	w.skip("resolution")
	var parts [2]string
	known := map[string]bool{}
	for i := range parts {
		w.recv(1, reg("p", 1, "10.0.0.1", life(int32(100+i))))
		w.skip("registration granted")
		w.pass(time.Second)
		parts[i] = strings.Join(w.trace, "\n")
		for _, line := range w.trace {
			for _, id := range strings.Fields(line)[7:] {
				known[id] = true
			}
		}
		w.skip("resolution")
	}
	if parts[0] != parts[1] {
		t.Errorf("the second update has other elements:\n%s\n%s", parts[0], parts[1])
	}
	if len(known) < 30 {
		t.Errorf("20 subscribers with 4 elements each know %d of 40 elements, want 30 or more", len(known))
	}
}

// A response without the S bit leaves a subscription as it is; the association's
// end, or a negative response, ends it.
func TestSubscriptionEnds(t *testing.T) {
	w := pooled(t, 1)
	w.up(3, rserpool.ViaKernel, "10.0.0.3")
	w.recv(2, subscribe("p"))
	w.recv(2, resolve("p"))
	w.recv(3, subscribe("p"))
	w.want("2 < resolution p A policy 1 1", "2 < resolution p policy 1 1", "3 < resolution p A policy 1 1")
	w.down(2)
	w.recv(1, reg("p", 2, "10.0.0.1"))
	w.skip("registration granted")
	w.pass(time.Second)
	w.want("3 < resolution p A policy 1 1 2")
	w.recv(1, dereg("p", 1))
	w.recv(1, dereg("p", 2))
	w.skip("deregistration", "removed")
	w.recv(3, resolve("p"))
	w.want("3 < resolution p cause 9")
	w.recv(1, reg("p", 2, "10.0.0.1"))
	w.skip("registration granted")
	w.pass(time.Second)
	w.want()
}

func TestSubscriptionLimits(t *testing.T) {
	for _, l := range []Limits{{SubscriptionsPerAssoc: 1}, {Subscriptions: 1}} {
		w := pooled(t, 1, func(c *Config) { c.Limits = l })
		w.recv(1, reg("q", 1, "10.0.0.1"))
		w.skip("registration granted")
		w.recv(2, subscribe("p"))
		w.recv(2, subscribe("p"))
		w.recv(2, subscribe("q"))
		w.want("2 < resolution p A policy 1 1", "2 < resolution p A policy 1 1", "2 < resolution q policy 1 1")
	}
}

// Many subscribers get updates in batches, each once, even if some leave and the pool
// changes meanwhile.
func TestSubscriptionBatches(t *testing.T) {
	const n = 3 * updateBatch
	w := pooled(t, 1)
	for id := AssocID(10); id < 10+n; id++ {
		w.up(id, rserpool.ViaTCP, fmt.Sprintf("10.1.0.%d", id))
		w.recv(id, subscribe("p"))
	}
	w.recv(1, reg("p", 2, "10.0.0.1"))
	w.skip("registration granted", "resolution")
	w.handle(Tick{})
	if len(w.trace) != updateBatch {
		t.Fatalf("told at once: got %d, want %d", len(w.trace), updateBatch)
	}
	w.down(10)
	w.down(10 + updateBatch) // the next one
	w.recv(1, reg("p", 3, "10.0.0.1"))
	w.skip("registration granted", "resolution")
	w.pass(2 * updateGap)
	if len(w.trace) != n-updateBatch-1 {
		t.Fatalf("told in the rest of the round: got %d, want %d", len(w.trace), n-updateBatch-1)
	}
	w.skip("resolution")
	w.pass(90 * time.Millisecond)
	w.want()
	w.pass(20 * time.Millisecond)
	if len(w.trace) != n-2 {
		t.Fatalf("told in the second round: got %d, want %d", len(w.trace), n-2)
	}
}

// TestUpdateBytes: a pool that changes twenty times a second, with responses of 8 KiB
// for 301 subscribers, costs no more than updateBytes. In the end all subscribers have
// the last state.
func TestUpdateBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const n, seconds = 301, 3
	w := pooled(t, 100)
	for id := AssocID(10); id < 10+n; id++ {
		w.up(id, rserpool.ViaTCP, fmt.Sprintf("10.1.%d.%d", id/250, id%250))
		w.recv(id, items(subscribe("p"), 128))
	}
	bytes, told := 0, map[AssocID]uint32{}
	count := func(acts []Action) {
		for _, a := range acts {
			if s, ok := a.(*Send); ok && s.Assoc >= 10 {
				bytes += len(s.Data)
				m, _, err := asap.Parse(s.Data)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range m.(*asap.HandleResolutionResponse).Elements {
					if e.ID == 1 {
						told[s.Assoc] = uint32(e.UserTransport.Port)
					}
				}
			}
		}
	}
	change := func(port int) {
		m := reg("p", 1, "10.0.0.1")
		m.Element.UserTransport.Port = uint16(port)
		count(w.handle(Received{Assoc: 1, Data: encode(t, m)}))
	}
	step := func(d time.Duration) {
		for end := w.now.Add(d); w.now.Before(end); {
			w.now = w.now.Add(time.Millisecond)
			count(w.handle(Tick{}))
		}
	}
	for i := range 20 * seconds {
		change(1000 + i)
		step(50 * time.Millisecond)
	}
	if limit := (seconds + 2) * updateBytes; bytes > limit {
		t.Errorf("%d bytes in %d seconds, want at most %d", bytes, seconds, limit)
	}
	t.Logf("%d bytes in %d seconds", bytes, seconds)
	if bytes < seconds*updateBytes/2 {
		t.Errorf("%d bytes in %d seconds: what is allowed is not used", bytes, seconds)
	}
	step(3 * time.Second)
	for id := AssocID(10); id < 10+n; id++ {
		if want := uint32(1000 + 20*seconds - 1); told[id] != want {
			t.Fatalf("subscriber %d knows port %d, want %d", id, told[id], want)
		}
	}
}
