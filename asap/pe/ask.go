package pe

import (
	"context"
	"fmt"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Resolve asks the home registrar for n elements of a pool, over the association of the
// registration (RFC 5352, Section 3.3, NR3); n 0 is as many as the registrar likes. The
// first one is the first choice. If the element has no registrar, Resolve waits for one.
// The error is a *RefusedError, for which errors.Is with
// [rserpool.CauseUnknownPoolHandle] reports whether there is no such pool; a
// *[rserpool.NoElementsError] if the registrar names no element; a *[rserpool.TimeoutError] if
// it does not answer; or an *[rserpool.UnreachableError] if there is no registrar. The last two
// wrap the error of ctx if that has ended the request.
//
// A program that resolves more than now and then uses a user of package asap/pu, which
// has a cache.
func (e *Element) Resolve(ctx context.Context, pool rserpool.PoolHandle, n uint32) ([]rserpool.PoolElement, error) {
	return e.ask(ctx, func(now time.Time) requestID { return e.runner.resolve(now, pool, n) })
}

// ReportUnreachable tells the home registrar of an element that cannot be reached (RFC
// 5352, Section 3.5), over the association of the registration. It returns when the report
// is on its way; there is no answer to it. Within a second, only the first report of an
// element is sent, and no more than 64 in all; the others are dropped without an error.
func (e *Element) ReportUnreachable(ctx context.Context, pool rserpool.PoolHandle, id rserpool.PEID) error {
	_, err := e.ask(ctx, func(now time.Time) requestID { return e.runner.report(now, pool, id) })
	return err
}

// askGrace is how long ask waits, when its context has ended, for the state of the request.
const askGrace = 100 * time.Millisecond

// ask makes a request and waits for its answer.
func (e *Element) ask(ctx context.Context, f func(now time.Time) requestID) ([]rserpool.PoolElement, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("nothing sent: %w", err)
	}
	reply := make(chan answer, 1)
	var id requestID // the Driver's
	if !e.driver.Do(func(now time.Time) {
		id = f(now)
		e.runner.waiting[id] = reply
	}) {
		return nil, rserpool.ErrClosed
	}
	select {
	case a := <-reply:
		return a.elements, a.err
	case <-ctx.Done():
		e.driver.Do(func(time.Time) { e.runner.cancelRequest(id, ctx.Err()) })
	case <-e.driver.Stopping():
	}
	select {
	case a := <-reply:
		return a.elements, a.err
	case <-e.driver.Stopping(): // not Done, which waits for Notify, which may be the caller
		return nil, rserpool.ErrClosed
	case <-time.After(askGrace): // only after the end of ctx
		return nil, fmt.Errorf("no answer from the element itself: %w", ctx.Err())
	}
}
