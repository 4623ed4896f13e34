package pu

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestAnswersInOrder: a response names its request by the pool handle alone. It is the answer to
// the message that was sent first, whether that watches or not, and whether it still waits.
func TestAnswersInOrder(t *testing.T) {
	t.Run("a watch without updates, then a single request", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(0, true)
		d.up(1)
		d.resolve(1, false)
		d.log = nil
		d.receive(1, answer(7, false))
		d.receive(1, answer(1, false))
		d.want("0s result 1 7 elements subscribed=false final=false", "0s result 2 1 elements subscribed=false final=true")
	})
	t.Run("an answer that never comes delays no later request", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(1, false)
		d.up(1)
		d.until(15 * time.Second) // repeated
		d.receive(1, answer(1, false))
		for at := 16 * time.Second; at < 90*time.Second; at += 16 * time.Second {
			d.until(at)
			d.log = nil
			id := d.resolve(1, false)
			d.log = nil
			d.receive(1, answer(1, false))
			d.want(fmt.Sprintf("%v result %d 1 elements subscribed=false final=true", at, id))
		}
	})
	t.Run("a single request, then a watch without updates", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(1, false)
		d.up(1)
		d.resolve(0, true)
		d.log = nil
		d.receive(1, answer(1, false))
		d.receive(1, answer(7, false))
		d.want("0s result 1 1 elements subscribed=false final=true", "0s result 2 7 elements subscribed=false final=false")
	})
	t.Run("a watch that has asked again", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(0, true)
		d.up(1)
		d.receive(1, answer(7, false))
		d.until(1900 * time.Millisecond)
		d.resolve(1, false)
		d.until(2 * time.Second)
		d.log = nil
		d.receive(1, answer(1, false))
		d.receive(1, answer(8, false))
		d.want("2s result 2 1 elements subscribed=false final=true", "2s result 1 8 elements subscribed=false final=false")
	})
	t.Run("two watches without updates", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(5, true)
		d.up(1)
		d.resolve(2, true)
		d.log = nil
		d.receive(1, answer(6, false))
		d.receive(1, answer(7, false))
		d.want("0s result 1 5 elements subscribed=false final=false", "0s result 2 2 elements subscribed=false final=false")
	})
	t.Run("more elements than were asked for", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(2, false)
		d.up(1)
		d.log = nil
		d.receive(1, answer(5, false))
		d.want("0s result 1 2 elements subscribed=false final=true")
	})
	t.Run("one that was cancelled, and one for more elements", func(t *testing.T) {
		d := newDriver(t)
		id := d.resolve(1, false)
		d.up(1)
		d.k.cancel(id, context.Canceled)
		d.resolve(5, false)
		d.log = nil
		d.receive(1, answer(1, false))
		d.receive(1, answer(5, false))
		d.want("0s result 2 5 elements subscribed=false final=true")
	})
	t.Run("an answer that comes after a timeout", func(t *testing.T) {
		d := newDriver(t, "10.0.0.1")
		d.resolve(0, true)
		d.up(1)
		d.receive(1, answer(7, true))
		d.resolve(1, false)
		d.until(46 * time.Second)
		d.log = nil
		for range 3 {
			d.receive(1, answer(1, false)) // it is not an update
		}
		d.want()
		d.resolve(2, false)
		d.receive(1, answer(2, false))
		d.want("46s send 1 RES web n=2 S=false", "46s result 3 2 elements subscribed=false final=true")
	})
	t.Run("two answers, because one was late", func(t *testing.T) {
		d := newDriver(t, "10.0.0.1")
		d.resolve(1, false)
		d.up(1)
		d.until(15 * time.Second)
		d.receive(1, answer(1, false))
		d.resolve(3, false)
		d.log = nil
		d.receive(1, answer(1, false))
		d.receive(1, answer(3, false))
		d.want("15s result 2 3 elements subscribed=false final=true")
	})
	t.Run("an answer that never comes", func(t *testing.T) {
		d := newDriver(t)
		id := d.resolve(1, false)
		d.up(1)
		d.k.cancel(id, context.Canceled)
		d.until(16 * time.Second)
		d.resolve(5, false)
		d.log = nil
		d.receive(1, answer(5, false))
		d.want("16s result 2 5 elements subscribed=false final=true")
	})
	t.Run("answers of a former registrar", func(t *testing.T) {
		d := newDriver(t)
		d.resolve(1, false)
		d.up(1)
		d.until(15 * time.Second)
		d.up(2)
		d.resolve(3, false)
		d.log = nil
		d.receive(2, answer(1, false))
		d.receive(2, answer(3, false))
		d.want("15s result 1 1 elements subscribed=false final=true", "15s result 2 3 elements subscribed=false final=true")
	})
	t.Run("an error is an answer, too", func(t *testing.T) {
		d := newDriver(t)
		id := d.resolve(1, false)
		d.up(1)
		d.k.cancel(id, context.Canceled)
		d.resolve(0, true)
		d.resolve(5, false)
		d.log = nil
		for range 2 {
			d.receive(1, &asap.Error{Causes: []rserpool.Cause{{Code: rserpool.CauseUnrecognizedMessage}}})
		}
		d.receive(1, answer(5, false))
		d.want("0s result 2 *pu.RefusedError final=false", "0s result 3 5 elements subscribed=false final=true")
	})
}

// TestRefusalEndsUpdates: a negative response ends the updates of a pool (RFC 5352, Section
// 2.2.5), also one to a request that does not watch. A watch then asks anew.
func TestRefusalEndsUpdates(t *testing.T) {
	d := newDriver(t)
	d.resolve(0, true)
	d.up(1)
	d.receive(1, answer(2, true))
	d.resolve(1, false)
	d.log = nil
	d.receive(1, negative(rserpool.CauseUnknownPoolHandle))
	d.want("0s result 2 *pu.RefusedError final=true", "0s result 1 lost", "0s send 1 RES web n=0 S=true")
	d.receive(1, negative(rserpool.CauseUnknownPoolHandle))
	d.until(2 * time.Second)
	d.receive(1, answer(3, true))
	d.want("0s result 1 *pu.RefusedError final=false", "2s send 1 RES web n=0 S=true", "2s result 1 3 elements subscribed=true final=false")
}

// TestRandomAnswers: whatever requests come and go, each gets as many elements as it has asked
// for, from a registrar that answers in order and grants updates or not.
func TestRandomAnswers(t *testing.T) {
	const pool = 9
	for seed := range uint64(200) {
		d := newDriver(t, "10.0.0.1")
		rnd := rand.New(rand.NewPCG(seed, 4))
		grants := seed%2 == 0
		var inbox []*asap.HandleResolution
		subscribed := false
		open, answers := map[reqID]uint32{}, 0
		settle := func() {
			actions, results := d.k.take()
			for _, r := range results {
				if r.res != nil {
					if want := open[r.id]; len(r.res.Elements) != int(want) {
						t.Fatalf("seed %d: request %d gets %d elements, want %d", seed, r.id, len(r.res.Elements), want)
					}
					answers++
				}
				if r.final {
					delete(open, r.id)
				}
			}
			for _, a := range actions {
				switch a := a.(type) {
				case hunt.Connect:
					d.k.Connecting(d.now, a.Ref, 1, nil)
					d.k.Up(d.now, 1, nil)
				case hunt.Send:
					m, _, err := asap.Parse(a.Data)
					if err != nil {
						t.Fatal(err)
					}
					inbox = append(inbox, m.(*asap.HandleResolution))
				case hunt.Close:
					t.Fatalf("seed %d: the only registrar is left", seed)
				}
			}
		}
		send := func(m *asap.HandleResolutionResponse) {
			data, err := m.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			d.k.Received(d.now, sctp.AssocID(1), data)
		}
		for range 300 {
			switch rnd.IntN(7) {
			case 0:
				if n := 1 + uint32(rnd.IntN(5)); len(open) < 6 {
					open[d.k.resolve(d.now, testPool, n, false)] = n
				}
			case 1:
				if len(open) < 6 {
					open[d.k.resolve(d.now, testPool, pool, true)] = pool
				}
			case 2:
				for id := range reqID(1000) {
					if _, ok := open[id]; ok && rnd.IntN(3) == 0 {
						d.k.cancel(id, context.Canceled)
						break
					}
				}
			case 3, 4:
				if len(inbox) > 0 {
					m := inbox[0]
					inbox = inbox[1:]
					subscribed = subscribed || m.Subscribe && grants
					send(answer(int(m.Items), m.Subscribe && grants))
				}
			case 5:
				if subscribed {
					send(answer(pool, true))
				}
			default:
				d.now = d.now.Add(time.Duration(rnd.IntN(300)) * time.Millisecond)
				if next, ok := d.k.NextDeadline(); ok && !next.After(d.now) {
					d.k.Tick(d.now)
				}
			}
			settle()
			settle()
		}
		if answers == 0 {
			t.Errorf("seed %d: no answers", seed)
		}
	}
}
