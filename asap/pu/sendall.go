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
// Elements that did not get the message are in the error, a *[FailoverError].
func (u *User) SendToAll(ctx context.Context, pool rserpool.PoolHandle, m Message, except ...rserpool.PEID) error {
	start := time.Now()
	list, err := u.Elements(ctx, pool)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	failure := &FailoverError{Pool: pool}
	room := make(chan struct{}, maxTogether)
	for _, e := range list {
		if slices.Contains(except, e.ID) {
			continue
		}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			if err := u.sendTo(ctx, pool, e.ID, m); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failure.Attempts = append(failure.Attempts, rserpool.ElementAttempt{Element: e, Err: err})
			}
		})
	}
	wg.Wait()
	if failure.After = time.Since(start); len(failure.Attempts) > 0 {
		return failure
	}
	return nil
}

// sendTo sends a message to one element.
func (u *User) sendTo(ctx context.Context, pool rserpool.PoolHandle, id rserpool.PEID, m Message) error {
	s, err := u.DialSession(ctx, SessionConfig{Pool: pool, Element: id, NoFailover: true})
	if err != nil {
		return err
	}
	defer s.Close()
	if e, ok := s.Element(); !ok || e.ID != id {
		return errNotReached
	}
	if err := s.SendMessage(ctx, m); err != nil {
		return fmt.Errorf("not sent: %w", err)
	}
	_ = s.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.emptied {
		return errNotDelivered
	}
	return nil
}

var (
	errNotReached   = errors.New("no association with it came up")
	errNotDelivered = errors.New("it has not acknowledged the message in time")
)
