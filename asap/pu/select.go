package pu

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Select selects an element of a pool by the pool's policy (RFC 5352, Section 6.5.2; RFC
// 5356) among those in the cache. If there are none, it asks a registrar first, and
// begins to follow the pool; the errors are those of [User.Resolve]. Otherwise it returns
// at once and sends nothing, except that elements older than CacheConfig.Stale are
// refreshed. If ctx has ended, the error is that of ctx, also with elements in the cache.
//
// Elements that [User.Failed] has named are left out. If no other is left, Select asks a
// registrar anew, and then selects one of them.
func (u *User) Select(ctx context.Context, pool rserpool.PoolHandle) (rserpool.PoolElement, error) {
	return u.next(ctx, pool, 0, false, nil)
}

// Failed says that an element could not be reached, or did not serve, when the program
// tried to use it. Selections leave it out until the registrar has removed it and names
// it again, or it has another address, or CacheConfig.Retry is over. The registrar gets a
// report (RFC 5352, Section 3.5), unless another user of the cache has reported the same
// failure. Failed returns at once.
func (u *User) Failed(pool rserpool.PoolHandle, id rserpool.PEID) {
	if u.cache.failed(pool, id) {
		u.driver.Do(func(now time.Time) { u.runner.report(now, pool, id) })
	}
}

// Populate asks a registrar for a pool's elements, whether the cache has them or not, and
// waits until they are in the cache (RFC 5352, Section 6.3). The errors are those of
// [User.Resolve].
func (u *User) Populate(ctx context.Context, pool rserpool.PoolHandle) error {
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("nothing sent: %w", err)
		}
		err := u.populate(ctx, pool)
		if !errors.Is(err, errClosed) || u.closed() != nil {
			return err
		} // else another user of the cache had asked, and was closed
	}
}

func (u *User) populate(ctx context.Context, pool rserpool.PoolHandle) error {
	answer := make(chan error, 1)
	w := &waiter{wake: func(err error) { answer <- err }}
	if err := u.cache.populate(u, pool, w); err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		u.cache.forget(pool, w)
		return waitEnded(ctx, pool)
	case <-u.driver.Stopping():
		u.cache.forget(pool, w)
		return errClosed
	}
}

// Purge removes a pool from the cache (RFC 5352, Section 6.4): the next selection asks a
// registrar. Sessions with its elements go on.
func (u *User) Purge(pool rserpool.PoolHandle) { u.cache.purge(u, pool) }

// ExhaustedError says that a pool has elements, but none that was not tried.
type ExhaustedError struct {
	Pool rserpool.PoolHandle
}

// Error names the pool.
func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("pool %q has no element that was not tried", string(e.Pool))
}

var errCacheFull = errors.New("all pools of the cache wait for registrars: set a greater CacheConfig.Pools")

func waitEnded(ctx context.Context, pool rserpool.PoolHandle) error {
	return fmt.Errorf("no registrar has answered for pool %q: %w", string(pool), ctx.Err())
}

// next selects an element that is none of without: the one that is wanted, if there is
// one and it serves, otherwise by policy. With fresh, a registrar is asked first. The
// error is an *ExhaustedError if no element is left.
func (u *User) next(ctx context.Context, pool rserpool.PoolHandle, want rserpool.PEID, fresh bool, without []rserpool.PEID) (rserpool.PoolElement, error) {
	return u.choose(ctx, pool, choice{want: want, fresh: fresh, without: without})
}

func (u *User) choose(ctx context.Context, pool rserpool.PoolHandle, w choice) (rserpool.PoolElement, error) {
	if err := ctx.Err(); err != nil {
		return rserpool.PoolElement{}, fmt.Errorf("nothing sent: %w", err)
	}
	if err := u.closed(); err != nil {
		return rserpool.PoolElement{}, err
	}
	if !w.fresh {
		if el, err := u.cache.pick(u, pool, w, nil); el != nil || err != nil {
			return clone(el), err
		}
	}
	type answer struct {
		el  rserpool.PoolElement
		err error
	}
	ch := make(chan answer, 1)
	s := u.selection(pool, w, func(el rserpool.PoolElement, err error) { ch <- answer{el, err} })
	s.step()
	select {
	case a := <-ch:
		return a.el, a.err
	case <-ctx.Done():
		s.cancel()
		return rserpool.PoolElement{}, waitEnded(ctx, pool)
	case <-u.driver.Stopping():
		s.cancel()
		return rserpool.PoolElement{}, errClosed
	}
}

// closed returns ErrClosed after Close, when the cache may still have elements.
func (u *User) closed() error {
	select {
	case <-u.driver.Stopping():
		return errClosed
	default:
		return nil
	}
}

// cached selects as next does, but only what needs no answer of a registrar. It does not
// block.
func (u *User) cached(pool rserpool.PoolHandle, want rserpool.PEID, without []rserpool.PEID) (rserpool.PoolElement, bool) {
	el, _ := u.cache.pick(u, pool, choice{want: want, without: without}, nil)
	return clone(el), el != nil
}

// clone returns a copy for the program, which may change it.
func clone(el *handlespace.Element) rserpool.PoolElement {
	if el == nil {
		return rserpool.PoolElement{}
	}
	return el.PoolElement.Clone()
}

// nextAsync selects as next does, and calls done with the result: once, in the goroutine
// of a user's driver, which done must not block. After cancel it may still be called.
// It is never called if the user is closed.
func (u *User) nextAsync(pool rserpool.PoolHandle, want rserpool.PEID, fresh bool, without []rserpool.PEID,
	done func(rserpool.PoolElement, error)) (cancel func()) {
	s := u.selection(pool, choice{want: want, fresh: fresh, without: without}, done)
	u.driver.Do(func(time.Time) { s.step() })
	return s.cancel
}

// selection is a selection that may wait for an answer.
type selection struct {
	u    *User
	pool rserpool.PoolHandle
	w    choice
	wt   *waiter
	done func(rserpool.PoolElement, error)
}

func (u *User) selection(pool rserpool.PoolHandle, w choice, done func(rserpool.PoolElement, error)) *selection {
	s := &selection{u: u, pool: pool, w: w, done: done}
	s.wt = &waiter{wake: s.answered}
	return s
}

func (s *selection) step() {
	if el, err := s.u.cache.pick(s.u, s.pool, s.w, s.wt); el != nil || err != nil {
		s.done(clone(el), err)
	}
}

// answered goes on after an answer. If the user that had asked was closed, this one asks.
func (s *selection) answered(err error) {
	if errors.Is(err, errClosed) {
		s.step()
		return
	}
	s.w.answered = true
	el, none := s.u.cache.pick(s.u, s.pool, s.w, nil)
	if el == nil && err == nil {
		err = none
	}
	if el != nil {
		err = nil
	}
	s.done(clone(el), err)
}

func (s *selection) cancel() { s.u.cache.forget(s.pool, s.wt) }

// hold has the cache follow a pool until release, because a session is open.
func (u *User) hold(pool rserpool.PoolHandle) (release func()) { return u.cache.hold(pool) }

// busy says that an element cannot be used at the moment, and that this does not mean that it
// is dead: selections leave it out for a second, twice as long each time, and it is not
// reported.
func (u *User) busy(pool rserpool.PoolHandle, id rserpool.PEID) { u.cache.busy(pool, id) }

// reached says that an element serves after all.
func (u *User) reached(pool rserpool.PoolHandle, id rserpool.PEID) { u.cache.reached(pool, id) }
