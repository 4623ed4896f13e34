package host

import (
	"context"

	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// removal is a registrar.Remove with the caller that waits for the answer.
type removal struct {
	registrar.Remove
	answer chan<- registrar.Removed // has room for it
}

// ErrClosed is returned by Remove if the Host is closed before it has answered. It is
// [rserpool.ErrClosed], too.
var ErrClosed error = stopped{}

type stopped struct{}

func (stopped) Error() string { return "the registrar has stopped" }
func (stopped) Unwrap() error { return rserpool.ErrClosed }

// Remove removes a pool element that this registrar is the home of, for the operator. An
// element that is alive is removed as well, and is back with its next registration. The
// result says if there is no such element, or where its home is. The error is that of the
// context, or ErrClosed; the element may have been removed all the same.
func (h *Host) Remove(ctx context.Context, pool rserpool.PoolHandle, id rserpool.PEID) (registrar.Removed, error) {
	answer := make(chan registrar.Removed, 1)
	h.loop.enqueueUntil(ctx.Done(), removal{registrar.Remove{Handle: pool, ID: id}, answer})
	select {
	case r := <-answer:
		return r, nil
	case <-ctx.Done():
		return registrar.Removed{}, ctx.Err()
	case <-h.loop.ended:
		return registrar.Removed{}, ErrClosed
	}
}

// removed hands the answer to the removal that is being handled over.
func (l *loop) removed(a registrar.Removed) {
	if l.answer != nil {
		l.answer <- a
	}
	l.answer = nil
}
