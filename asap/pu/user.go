package pu

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// User asks registrars. [Open] makes one; the zero value cannot be used. Its methods may be
// called from any goroutine.
type User struct {
	driver *client.Driver
	runner *runner // the Driver's goroutine's
	cache  *Cache

	sessions sessions
}

// runner is what the Driver's goroutine has of a User: the core, the requests that
// wait for it, and the addresses from which the home registrar is reached.
type runner struct {
	*core
	cfg     *Config
	waiting map[reqID]func(result)
	left    func()       // called at the end
	at      sctp.AssocID // the home registrar whose source is known
	from    []netip.Addr // the addresses from which that was reached
}

// Open checks the configuration, opens the sockets and starts the one
// goroutine of a User. Nothing is sent before the first request.
func Open(cfg Config) (*User, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	tr, err := client.Open(client.Config{
		Via:           cfg.Via,
		Local:         cfg.Local,
		EncapPort:     cfg.EncapPort,
		AnnounceGroup: cfg.AnnounceGroup,
		Trust:         cfg.trust(),
		Logger:        cfg.Logger,
		Listen:        cfg.listen,
		LookupHost:    cfg.lookupHost,
	})
	if err != nil {
		return nil, err
	}
	var seed [32]byte
	_, _ = crand.Read(seed[:])
	r := &runner{core: newCore(cfg, rand.New(rand.NewChaCha8(seed))), cfg: &cfg, waiting: make(map[reqID]func(result))}
	u := &User{driver: client.NewDriver(tr, r), runner: r, cache: cfg.Cache}
	r.left = func() { u.cache.left(u) }
	u.sessions.cfg = &cfg
	u.driver.Start()
	return u, nil
}

// Close ends all sessions and requests, delivers what has been sent, as far as
// Timers.Close leaves time, and closes the sockets. It may be called more than
// once.
func (u *User) Close() error { return errors.Join(u.sessions.close(), u.driver.Close()) }

// Resolve asks for n elements of a pool, which its policy selects, or as many
// as the registrar likes if n is 0. The error is a *RefusedError if a
// registrar refuses (ErrUnknownPool if it knows no such pool), a
// *NoElementsError if it names no element, a *TimeoutError if one does not
// answer, and an *rserpool.UnreachableError if none can be reached; the last two
// wrap the error of ctx where that ended it.
func (u *User) Resolve(ctx context.Context, pool rserpool.PoolHandle, n uint32) (*Resolution, error) {
	return u.one(ctx, func(now time.Time) reqID { return u.runner.resolve(now, pool, n, false) })
}

// ReportUnreachable tells a registrar that an element cannot be reached (RFC
// 5352, Section 3.5). It returns when the report is on its way; there is no
// answer to it. A user reports an element once each time that it finds it
// unreachable. Within a second, only the first report of an element is sent, and no
// more than 64 reports in all; the others are dropped without an error.
func (u *User) ReportUnreachable(ctx context.Context, pool rserpool.PoolHandle, id rserpool.PEID) error {
	_, err := u.one(ctx, func(now time.Time) reqID { return u.runner.report(now, pool, id) })
	return err
}

// Watch resolves a pool and follows its changes; errors do not end it, except the
// last one: that of ctx, or [rserpool.ErrClosed] after Close. The errors are those of
// Resolve. Watch subscribes with the registrar. If the registrar sends no updates, and
// while the pool does not exist, it asks every Timers.Refresh. A slow consumer misses
// older news.
func (u *User) Watch(ctx context.Context, pool rserpool.PoolHandle, n uint32) iter.Seq2[*Resolution, error] {
	return func(yield func(*Resolution, error) bool) {
		id, news, err := u.submit(func(now time.Time) reqID { return u.runner.resolve(now, pool, n, true) })
		if err != nil {
			yield(nil, err)
			return
		}
		defer u.cancel(id, context.Canceled)
		for {
			select {
			case r := <-news:
				if !yield(r.res, r.err) {
					return
				}
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			case <-u.driver.Stopping():
				yield(nil, errClosed)
				return
			}
		}
	}
}

// one makes a request with one answer.
func (u *User) one(ctx context.Context, f func(now time.Time) reqID) (*Resolution, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("nothing sent: %w", err)
	}
	id, answer, err := u.submit(f)
	if err != nil {
		return nil, err
	}
	select {
	case r := <-answer:
		return r.res, r.err
	case <-ctx.Done():
		u.cancel(id, ctx.Err())
	case <-u.driver.Done():
	}
	// The core has an answer to a request that is cancelled as well.
	select {
	case r := <-answer:
		return r.res, r.err
	case <-u.driver.Done():
		return nil, errClosed
	}
}

// submit has the Driver's goroutine make a request.
func (u *User) submit(f func(now time.Time) reqID) (reqID, chan result, error) {
	answer := make(chan result, 1)
	made := make(chan reqID, 1)
	if !u.driver.Do(func(now time.Time) {
		id := f(now)
		u.runner.waiting[id] = newest(answer)
		made <- id
	}) {
		return 0, nil, errClosed
	}
	select {
	case id := <-made:
		return id, answer, nil
	case <-u.driver.Done():
		return 0, nil, errClosed
	}
}

func (u *User) cancel(id reqID, cause error) {
	u.driver.Do(func(time.Time) { u.runner.cancel(id, cause) })
}

// Changed follows this machine's addresses after an event.
func (r *runner) Changed(now time.Time, ev client.Event) {
	if ev.Network {
		r.hunt.Retry(now)
	}
	r.follow(now, ev.Network)
}

// follow looks for a registrar anew when this machine's addresses have changed: an
// association from an address that was removed cannot continue, and SCTP detects that
// only after half a minute.
func (r *runner) follow(now time.Time, changed bool) {
	if r.home == 0 || r.closing || r.home == r.at && !changed {
		return
	}
	from, err := r.cfg.toward([]rserpool.Registrar{r.homeAt})
	if r.home == r.at && err == nil && len(r.from) > 0 && !slices.Equal(from, r.from) {
		r.drop(now, errMoved)
		return
	}
	if r.home != r.at || len(r.from) == 0 {
		r.at, r.from = r.home, from
	}
}

var errMoved = errors.New("the addresses of this machine have changed")

// Take hands out the results and gives the actions.
func (r *runner) Take() ([]hunt.Action, bool) {
	actions, results := r.core.take()
	for _, res := range results {
		r.deliver(res)
	}
	return actions, len(actions) > 0 || len(results) > 0
}

// Left ends what still waits in the cache after a panic.
func (r *runner) Left() { r.left() }

// deliver hands a result to whom it is for.
func (r *runner) deliver(res result) {
	f, ok := r.waiting[res.id]
	if !ok {
		return
	}
	if res.final {
		delete(r.waiting, res.id)
	}
	f(res)
}

// newest puts results into a channel with room for one. The newest one takes the place of
// one that was not taken.
func newest(ch chan result) func(result) {
	return func(res result) {
		if res.lost {
			return
		}
		select {
		case <-ch:
		default:
		}
		ch <- res
	}
}
