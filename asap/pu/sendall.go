package pu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Elements returns all elements of a pool that the cache has (RFC 5352, Section 6.9.1), by
// identifier, and asks a registrar first if it has none. Those that [User.Failed] has named
// are among them. The errors are those of [User.Resolve].
func (u *User) Elements(ctx context.Context, pool rserpool.PoolHandle) ([]rserpool.PoolElement, error) {
	if err := u.closed(); err != nil {
		return nil, err
	}
	if list := u.cache.list(u, pool); list != nil {
		return list, nil
	}
	err := u.Populate(ctx, pool)
	list := u.cache.list(u, pool)
	if list == nil {
		return nil, cmp.Or(err, error(&NoElementsError{Pool: pool}))
	}
	return list, nil
}

// maxTogether is how many elements SendToAll dials at the same time.
const maxTogether = 16

// SendToAll sends a copy of a message to each element of a pool (ASAP_SEND_TO_ALL; RFC 5352,
// Section 6.5.5). A pool user that is an element of the pool itself names its identifier in
// except, unless it wants a copy (ASAP_SEND_TO_SELF). Each element gets the message in a
// session of its own, which ends then; it returns when all have ended. There is no failover.
// If elements do not get the message, the error is a *[SendToAllError] that lists them; all others
// have got it. If the elements are not known, the errors are those of [User.Elements].
func (u *User) SendToAll(ctx context.Context, pool rserpool.PoolHandle, m Message, except ...rserpool.PEID) error {
	start := time.Now()
	list, err := u.Elements(ctx, pool)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(e rserpool.PoolElement) bool { return slices.Contains(except, e.ID) })
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	room := make(chan struct{}, maxTogether)
	for i := range list {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			errs[i] = u.sendTo(ctx, pool, &list[i], m)
		})
	}
	wg.Wait()
	failure := &SendToAllError{Pool: pool, Elements: len(list), After: time.Since(start)}
	for i, err := range errs {
		if err != nil {
			failure.Attempts = append(failure.Attempts, rserpool.ElementAttempt{Element: list[i], Err: err})
		}
	}
	if len(failure.Attempts) > 0 {
		return failure
	}
	return nil
}

// SendToAllError says which elements of a pool did not get a message.
type SendToAllError = rserpool.SendToAllError

// sendTo sends a message to one element.
func (u *User) sendTo(ctx context.Context, pool rserpool.PoolHandle, e *rserpool.PoolElement, m Message) error {
	s, err := u.dialSession(ctx, SessionConfig{Pool: pool}, e)
	if err != nil {
		return reasonOf(err)
	}
	defer s.Close()
	if err := s.SendMessage(ctx, m); err != nil {
		return fmt.Errorf("not sent: %w", reasonOf(err))
	}
	_ = s.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.emptied {
		return errNotDelivered
	}
	return nil
}

// reasonOf returns why the only element of a session does not serve it.
func reasonOf(err error) error {
	var f *FailoverError
	switch {
	case !errors.As(err, &f):
		return err
	case f.Selection != nil: // the context's error
		return f.Selection
	case len(f.Attempts) > 0:
		return f.Attempts[len(f.Attempts)-1].Err
	}
	return err
}

var errNotDelivered = errors.New("it has not acknowledged the message in time")
