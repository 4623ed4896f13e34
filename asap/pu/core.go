package pu

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// reqID names a request within a core.
type reqID uint64

// result is news of a request: its end, or an update for one that watches.
type result struct {
	id    reqID
	res   *Resolution
	err   error
	final bool // the request has ended
	// lost says of a request that watches that the registrar sends no more updates. An
	// answer follows, from this registrar or another one.
	lost bool
}

// request is a request of the user that has not ended.
type request struct {
	id     reqID
	handle rserpool.PoolHandle
	msg    asap.Message
	n      uint32 // elements wanted, 0: as many as the registrar likes
	watch  bool   // goes on after the answer
	live   bool   // gets updates
	report bool   // has no answer
	ended  bool

	awaited  bool      // sent, and not answered
	answerBy time.Time // T1-ENRPrequest, if awaited
	sent     int       // since the last answer
	askAt    time.Time // when a watch asks again; zero: not
	moves    int       // to another registrar since one had no resources
	refusals int       // of a watch, in a row
}

// question is a message to the home that it answers. A request that is repeated asks more than
// one, and a question outlasts a request that is cancelled: the home answers it all the same.
type question struct {
	r  *request
	by time.Time // T1-ENRPrequest
}

// maxMoves is how often a request moves to another registrar: three registrars may refuse
// it, as many as a user may have associations with (RFC 5352, Section 3.6, SH1).
const maxMoves = 2

const (
	// maxFlaps is how many homes in a row may answer and fail within steadyTime, while pools
	// are watched, before the hunt begins with a pause.
	steadyTime = 10 * time.Second
	maxFlaps   = 3
	// hurryTime is how long the pauses of the hunt stay short, hurryPause at most, after the loss
	// of a home that has sent updates: it may have been restarted. After maxHurries homes in a row
	// that have failed soon they grow: it may serve each watch for a moment only.
	hurryTime  = 5 * time.Minute
	hurryPause = 2 * time.Second
	maxHurries = 12
)

// core is the protocol of a pool user. The runner calls one of its methods for
// each event, then take, and Tick no later than NextDeadline.
//
// Responses name their request by the pool handle alone, so that an answer is
// that to the oldest question for its handle.
type core struct {
	timers   Timers
	hunt     *hunt.Hunt
	requests []*request // oldest first
	asked    []question // that the home has not answered, oldest first
	lastID   reqID
	home     sctp.AssocID // 0: none
	homeAt   rserpool.Registrar
	since    time.Time // it is the home
	flaps    int       // homes in a row that did not serve a watch for steadyTime
	renewing bool      // the home has gone to be connected to again: see sctp.ErrRenew
	rounds   int       // of the hunt that requests were told of
	reports  hunt.Reports
	closing  bool
	closeBy  time.Time
	over     bool

	actions []hunt.Action
	results []result
}

func newCore(c Config, rnd *rand.Rand) *core {
	return &core{
		timers: c.Timers,
		hunt: hunt.New(hunt.Config{
			Registrars: c.registrars,
			TCP:        true,
			ServerHunt: c.Timers.ServerHunt,
			Outdate:    c.Timers.Outdate,
			RetranMax:  c.Timers.RetranMax,
			Rand:       rnd,
		}),
	}
}

// take gives what has gathered since the last call.
func (k *core) take() ([]hunt.Action, []result) {
	k.actions = append(k.actions, k.hunt.Take()...)
	actions, results := k.actions, k.results
	k.actions, k.results = nil, nil
	return actions, results
}

// resolve asks for n elements of a pool, or as many as the registrar likes if n
// is 0; with watch, also for the changes from then on (RFC 5352, Section 3.3).
func (k *core) resolve(now time.Time, h rserpool.PoolHandle, n uint32, watch bool) reqID {
	return k.add(now, &request{
		handle: h,
		msg:    &asap.HandleResolution{Handle: h, Items: n, HasItems: n > 0, Subscribe: watch},
		n:      n,
		watch:  watch,
	})
}

// report tells a registrar of an element that cannot be reached (RFC 5352,
// Section 3.5).
func (k *core) report(now time.Time, h rserpool.PoolHandle, id rserpool.PEID) reqID {
	return k.add(now, &request{handle: h, msg: &asap.EndpointUnreachable{Handle: h, ID: id}, report: true})
}

func (k *core) add(now time.Time, r *request) reqID {
	k.lastID++
	r.id = k.lastID
	if k.closing {
		k.end(r, nil, errClosed)
		return r.id
	}
	k.requests = append(k.requests, r)
	if _, err := r.msg.Append(nil); err != nil { // no registrar can be asked
		k.end(r, nil, err)
	} else if k.home != 0 {
		k.send(now, r)
	} else {
		k.begin(now, nil)
	}
	return r.id
}

// cancel ends a request. It tells how far it got.
func (k *core) cancel(id reqID, cause error) {
	i := slices.IndexFunc(k.requests, func(r *request) bool { return r.id == id })
	if i < 0 {
		return
	}
	r := k.requests[i]
	if r.awaited && k.home != 0 {
		k.end(r, nil, &TimeoutError{Registrar: k.homeAt.String(), Requests: r.sent, After: k.timers.Request, Cause: cause})
	} else {
		k.end(r, nil, &rserpool.UnreachableError{Attempts: k.hunt.Report(), Cause: cause})
	}
	if len(k.requests) == 0 {
		k.hunt.Stop()
	}
}

// end tells a request's result and forgets it.
func (k *core) end(r *request, res *Resolution, err error) {
	r.ended, r.awaited = true, false
	k.results = append(k.results, result{id: r.id, res: res, err: err, final: true})
	k.requests = slices.DeleteFunc(k.requests, func(o *request) bool { return o == r })
}

func (k *core) begin(now time.Time, why error) {
	if k.hunt.Hunting() {
		return
	}
	k.rounds = 0
	if k.renewing {
		k.hunt.ReturnTo(now, k.homeAt)
	} else {
		k.hunt.Begin(now, k.homeAt, why)
	}
}

// send sends a request to the home registrar. Reports are not answered.
func (k *core) send(now time.Time, r *request) {
	switch m := r.msg.(type) {
	case *asap.EndpointUnreachable:
		if !k.reports.May(now, m.Handle, m.ID) {
			k.end(r, nil, nil)
			return
		}
	case *asap.HandleResolution:
		if r.watch {
			m.Items = k.mostWanted(r.handle)
			m.HasItems = m.Items > 0
		}
	}
	data, err := r.msg.Append(nil)
	if err != nil {
		k.end(r, nil, err)
		return
	}
	k.actions = append(k.actions, hunt.Send{Assoc: k.home, Data: data})
	if r.report {
		k.end(r, nil, nil)
		return
	}
	r.sent++
	r.awaited, r.askAt = true, time.Time{}
	r.answerBy = now.Add(k.timers.Request)
	k.forget(now)
	k.asked = append(k.asked, question{r, r.answerBy})
}

// forget forgets the oldest questions that nothing waits for and that the home has not answered in
// time: if it never does, later answers must not be taken for theirs.
func (k *core) forget(now time.Time) {
	for len(k.asked) > 0 && !k.asked[0].r.awaited && !now.Before(k.asked[0].by) {
		k.asked = k.asked[1:]
	}
}

// mostWanted is how many elements to subscribe to: an association has one subscription to
// a pool, which serves all requests that watch it.
func (k *core) mostWanted(h rserpool.PoolHandle) (n uint32) {
	for _, r := range k.requests {
		if r.watch && r.handle == h {
			n = max(n, r.n)
		}
	}
	return n
}

// Ended reports whether the association has ended after Stop.
func (k *core) Ended() bool { return k.over }

// Stop ends all requests and the association, in good order.
func (k *core) Stop(now time.Time) {
	if k.closing {
		return
	}
	for _, r := range slices.Clone(k.requests) {
		k.end(r, nil, errClosed)
	}
	k.closing, k.closeBy = true, now.Add(k.timers.Close)
	k.hunt.Stop()
	k.over = k.home == 0
	if !k.over {
		k.actions = append(k.actions, hunt.Close{Assoc: k.home})
	}
}

// Tick does what is due.
func (k *core) Tick(now time.Time) {
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	if due(k.closeBy) {
		k.over = true
	}
	for _, r := range slices.Clone(k.requests) {
		switch {
		case k.home == 0:
		case r.awaited && due(r.answerBy):
			k.unanswered(now, r)
		case !r.awaited && due(r.askAt):
			k.send(now, r)
		}
	}
	k.hunt.Tick(now)
	k.checkRounds()
}

// unanswered: RFC 5352, Section 3.7.2. The request is repeated, and another
// registrar sought meanwhile.
func (k *core) unanswered(now time.Time, r *request) {
	if r.sent <= k.timers.MaxRequestRetransmit {
		k.send(now, r)
		if k.hunt.Alternatives(now, k.homeAt) {
			k.begin(now, nil)
		}
		return
	}
	err := &TimeoutError{Registrar: k.homeAt.String(), Requests: r.sent, After: k.timers.Request}
	if r.watch {
		k.tellWatch(now, r, nil, err)
		return
	}
	k.end(r, nil, err)
	if k.hunt.Alternatives(now, k.homeAt) {
		k.drop(now, err) // the next request begins with another one
	}
	if len(k.requests) == 0 {
		k.hunt.Stop()
	}
}

// drop aborts the association with a home registrar that does not answer. Its open
// requests are sent again once another one is found.
func (k *core) drop(now time.Time, why error) {
	a := k.home
	k.actions = append(k.actions, hunt.Close{Assoc: a, Abort: true})
	k.Down(now, a, why)
}

// checkRounds ends the requests when a round of the hunt has reached no registrar, except
// watches, which wait for a registrar.
func (k *core) checkRounds() {
	rounds := k.hunt.Rounds()
	if !k.hunt.Hunting() || rounds <= k.rounds {
		return
	}
	k.rounds = rounds
	if k.home != 0 {
		k.hunt.Stop() // there is no alternative; the present one may answer yet
		return
	}
	err := &rserpool.UnreachableError{Attempts: k.hunt.Report()}
	for _, r := range slices.Clone(k.requests) {
		if r.watch {
			k.results = append(k.results, result{id: r.id, err: err})
			continue
		}
		k.end(r, nil, err)
	}
	if len(k.requests) == 0 {
		k.hunt.Stop()
	}
}

// NextDeadline is when Tick has something to do.
func (k *core) NextDeadline() (time.Time, bool) {
	next, ok := k.hunt.NextDeadline()
	take := func(d time.Time) {
		if !d.IsZero() && (!ok || d.Before(next)) {
			next, ok = d, true
		}
	}
	take(k.closeBy)
	if k.home != 0 {
		for _, r := range k.requests {
			if r.awaited {
				take(r.answerBy)
			} else {
				take(r.askAt)
			}
		}
	}
	return next, ok && !k.over
}

func (k *core) Connecting(now time.Time, ref uint64, a sctp.AssocID, err error) {
	k.hunt.Connecting(now, ref, a, err)
	k.checkRounds()
}

// Up makes the registrar at the other end of a new association the home registrar, and
// sends the open requests.
func (k *core) Up(now time.Time, a sctp.AssocID, _ []netip.AddrPort) {
	at, ours := k.hunt.Up(a)
	if !ours || k.closing {
		k.actions = append(k.actions, hunt.Close{Assoc: a, Abort: true}) // nobody connects to a user
		return
	}
	if k.home != 0 {
		k.actions = append(k.actions, hunt.Close{Assoc: k.home})
		k.tellLost()
	}
	k.home, k.homeAt, k.since, k.renewing = a, at, now, false
	k.asked = nil
	for _, r := range slices.Clone(k.requests) {
		// Subscriptions end with the association (RFC 5352, Section 2.2.5).
		k.send(now, r)
	}
}

// Down handles the end of an association, or one that was never established.
func (k *core) Down(now time.Time, a sctp.AssocID, err error) {
	if k.hunt.Down(now, a, err) {
		k.checkRounds()
		return
	}
	if a != k.home {
		return
	}
	k.home, k.renewing = 0, errors.Is(err, sctp.ErrRenew)
	k.asked = nil
	single := func(r *request) bool { return !r.watch }
	if k.renewing || len(k.requests) == 0 || slices.ContainsFunc(k.requests, single) || now.Sub(k.since) >= steadyTime {
		k.flaps = 0
	} else {
		k.flaps++
	}
	k.hurry(now)
	if k.closing {
		k.over = true
		return
	}
	k.tellLost()
	for _, r := range k.requests {
		r.awaited, r.sent, r.askAt = false, 0, time.Time{}
	}
	if len(k.requests) > 0 {
		k.begin(now, err)
		k.checkRounds()
	}
}

// hurry has the hunt be quick to find a home again that has sent updates.
func (k *core) hurry(now time.Time) {
	switch {
	case k.flaps >= maxHurries:
		k.hunt.Hurry(now, 0, 0)
	case slices.ContainsFunc(k.requests, func(r *request) bool { return r.live }):
		k.hunt.Hurry(now, hurryPause, hurryTime)
	}
}

// tellLost tells the requests that watch that updates end with the association (RFC 5352,
// Section 2.2.5).
func (k *core) tellLost() {
	for _, r := range k.requests {
		if r.live {
			r.live = false
			k.results = append(k.results, result{id: r.id, lost: true})
		}
	}
}

// SendFailed: RFC 5352, Section 3.7.1. The requests are sent again once a home
// registrar is found.
func (k *core) SendFailed(now time.Time, a sctp.AssocID, err error) {
	if a == k.home && !k.closing {
		k.drop(now, fmt.Errorf("message not delivered: %w", err))
	}
}

// Announced handles a datagram of the announce group.
func (k *core) Announced(now time.Time, from netip.AddrPort, data []byte) {
	_ = k.hunt.Announced(now, from, data)
}

// Found handles the result of a lookup.
func (k *core) Found(now time.Time, f client.Found) {
	k.hunt.Found(now, f.Ref, f.Addrs, f.Err)
	k.checkRounds()
}

var errClosed = rserpool.ErrClosed
