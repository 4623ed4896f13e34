package pu

import (
	"context"
	crand "crypto/rand"
	"errors"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/endpoint"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// User asks registrars. Its methods may be called from any goroutine.
type User struct {
	cfg      Config
	tr       *endpoint.Transport
	commands chan func(now time.Time)
	closing  chan struct{} // closed when Close begins
	done     chan struct{} // closed when the loop has ended
	once     sync.Once
	err      error

	// The loop's alone.
	core    *core
	waiting map[reqID]chan result
	home    sctp.AssocID // whose source is known
	from    []netip.Addr // the addresses from which the home registrar was reached
}

// Open checks the configuration, opens the sockets and starts the one
// goroutine of a User. Nothing is sent before the first request.
func Open(cfg Config) (*User, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	tr, err := endpoint.Open(endpoint.TransportConfig{
		Via:           cfg.Via,
		Local:         cfg.Local,
		EncapPort:     cfg.EncapPort,
		AnnounceGroup: cfg.AnnounceGroup,
		Logf:          cfg.Logf,
		Listen:        cfg.listen,
		LookupHost:    cfg.lookupHost,
	})
	if err != nil {
		return nil, err
	}
	var seed [32]byte
	_, _ = crand.Read(seed[:])
	u := &User{
		cfg:      cfg,
		tr:       tr,
		commands: make(chan func(time.Time)),
		closing:  make(chan struct{}),
		done:     make(chan struct{}),
		core:     newCore(cfg, rand.New(rand.NewChaCha8(seed))),
		waiting:  make(map[reqID]chan result),
	}
	go u.loop()
	return u, nil
}

// Close ends all requests, delivers what has been sent, as far as
// Timers.Close leaves time, and closes the sockets. It may be called more than
// once.
func (u *User) Close() error {
	u.once.Do(func() {
		close(u.closing)
		<-u.done
		u.err = u.tr.Close()
	})
	<-u.done
	return u.err
}

// Resolve asks for n elements of a pool, which its policy selects, or as many
// as the registrar likes if n is 0. The error is a *RefusedError if a
// registrar refuses (ErrUnknownPool if it knows no such pool), a
// *NoElementsError if it names no element, a *TimeoutError if one does not
// answer, and an *endpoint.UnreachableError if none can be reached; the last two
// wrap the error of ctx where that ended it.
func (u *User) Resolve(ctx context.Context, pool rserpool.PoolHandle, n uint32) (*Resolution, error) {
	return u.one(ctx, func(now time.Time) reqID { return u.core.resolve(now, pool, n, false) })
}

// ReportUnreachable tells a registrar that an element cannot be reached (RFC
// 5352, Section 3.5). It returns when the report is on its way; there is no
// answer to it. A user reports an element once each time that it finds it
// unreachable. Within a second, only the first report of an element is sent, and no
// more than 64 reports in all; the others are dropped without an error.
func (u *User) ReportUnreachable(ctx context.Context, pool rserpool.PoolHandle, id rserpool.PEID) error {
	_, err := u.one(ctx, func(now time.Time) reqID { return u.core.report(now, pool, id) })
	return err
}

// Watch resolves a pool and follows its changes, until the consumer stops or
// ctx ends. It subscribes with the registrar, or asks time and again where the
// registrar sends no updates, and while the pool does not exist. Errors are
// those of Resolve; they do not end the watch, but for that of ctx, which is
// the last. A consumer that is slow misses older news.
func (u *User) Watch(ctx context.Context, pool rserpool.PoolHandle, n uint32) iter.Seq2[*Resolution, error] {
	return func(yield func(*Resolution, error) bool) {
		id, news, err := u.submit(func(now time.Time) reqID { return u.core.resolve(now, pool, n, true) })
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
			case <-u.closing:
				yield(nil, errClosed)
				return
			}
		}
	}
}

// one makes a request with one answer.
func (u *User) one(ctx context.Context, f func(now time.Time) reqID) (*Resolution, error) {
	id, answer, err := u.submit(f)
	if err != nil {
		return nil, err
	}
	select {
	case r := <-answer:
		return r.res, r.err
	case <-ctx.Done():
		u.cancel(id, ctx.Err())
	case <-u.done:
	}
	// The core has an answer to a request that is cancelled as well.
	select {
	case r := <-answer:
		return r.res, r.err
	case <-u.done:
		return nil, errClosed
	}
}

// submit has the loop make a request.
func (u *User) submit(f func(now time.Time) reqID) (reqID, chan result, error) {
	answer := make(chan result, 1)
	made := make(chan reqID, 1)
	if !u.command(func(now time.Time) {
		id := f(now)
		u.waiting[id] = answer
		made <- id
	}) {
		return 0, nil, errClosed
	}
	return <-made, answer, nil
}

func (u *User) cancel(id reqID, cause error) {
	u.command(func(time.Time) { u.core.cancel(id, cause) })
}

// command has the loop call f, unless it is to end.
func (u *User) command(f func(now time.Time)) bool {
	select {
	case <-u.closing:
		return false
	default:
	}
	select {
	case u.commands <- f:
		return true
	case <-u.closing:
		return false
	}
}

// loop drives the core.
func (u *User) loop() {
	defer close(u.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	closing := u.closing
	for {
		u.perform()
		if u.core.over {
			return
		}
		if d, ok := u.core.nextDeadline(); ok {
			timer.Reset(time.Until(d))
		} else {
			timer.Stop()
		}
		select {
		case ev := <-u.tr.Events():
			u.handle(time.Now(), ev)
			u.follow(time.Now(), ev.Network)
		case f := <-u.commands:
			f(time.Now())
		case <-timer.C:
			u.core.tick(time.Now())
		case <-closing:
			closing = nil
			u.core.close(time.Now())
		}
	}
}

// handle hands an event of the transport to the core.
func (u *User) handle(now time.Time, ev endpoint.Event) {
	switch {
	case ev.Announce != nil:
		u.core.announced(now, ev.From, ev.Announce)
	case ev.Found != nil:
		u.core.found(now, *ev.Found)
	case ev.Network:
		u.core.hunt.Retry(now)
	case ev.Type == sctp.Up:
		u.core.up(now, ev.Assoc)
	case ev.Type == sctp.Received:
		if ev.Kind == sctp.TCP || ev.Message.PPID == asap.PPID {
			u.core.received(now, ev.Assoc, ev.Message.Data)
		}
	case ev.Type == sctp.SendFailed:
		u.core.sendFailed(now, ev.Assoc, ev.Err)
	case ev.Type == sctp.Down:
		u.core.down(now, ev.Assoc, endpoint.DownError(ev.Event))
	}
}

// follow has the core look for a registrar anew when this machine's addresses
// have changed: from one that is gone no association goes on, which SCTP finds out
// only after half a minute.
func (u *User) follow(now time.Time, changed bool) {
	home := u.core.home
	if home == 0 || u.core.closing || home == u.home && !changed {
		return
	}
	from, err := u.cfg.toward([]endpoint.Registrar{u.core.homeAt})
	if home == u.home && err == nil && len(u.from) > 0 && !slices.Equal(from, u.from) {
		u.core.drop(now, errMoved)
		return
	}
	if home != u.home || len(u.from) == 0 {
		u.home, u.from = home, from
	}
}

var errMoved = errors.New("the addresses of this machine have changed")

// perform performs what the core wants done until it wants no more.
func (u *User) perform() {
	for {
		actions, results := u.core.take()
		if len(actions) == 0 && len(results) == 0 {
			return
		}
		for _, r := range results {
			u.deliver(r)
		}
		u.tr.Perform(actions,
			func(ref uint64, a sctp.AssocID, err error) { u.core.connecting(time.Now(), ref, a, err) },
			func(a sctp.AssocID, err error) { u.core.sendFailed(time.Now(), a, err) })
	}
}

// deliver hands a result to who waits for it. The newest one of a watch takes
// the place of one that was not taken.
func (u *User) deliver(r result) {
	ch, ok := u.waiting[r.id]
	if !ok {
		return
	}
	if r.final {
		delete(u.waiting, r.id)
	}
	select {
	case <-ch:
	default:
	}
	ch <- r
}
