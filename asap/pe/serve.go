package pe

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Handler serves one session, in a goroutine of its own. The session is closed when the
// Handler returns. ctx ends when the session has ended, as that of an HTTP request does, and when
// it must end. Receive still returns the messages that came before. A panic of the Handler ends the session
// with an error that has the stack, see [Session.Err], and is logged; the other sessions go on.
type Handler func(ctx context.Context, s *Session)

// ListenAndServe listens, and serves sessions until ctx ends: see [Listen] and
// [Listener.Serve].
func ListenAndServe(ctx context.Context, cfg ListenConfig, handler Handler) error {
	if handler == nil {
		return errNoHandler
	}
	l, err := Listen(cfg)
	if err != nil {
		return err
	}
	return l.Serve(ctx, handler)
}

var errNoHandler = errors.New("no Handler: sessions need one that serves them")

// Serve accepts sessions and has the handler serve them, until ctx ends. Then it leaves as
// [Listener.Leave] does, for ListenConfig.LeaveTime at most, and closes the Listener. It
// returns when all handlers have returned. The error is that of Close, or a *RejectedError
// if a registrar refuses the element.
func (l *Listener) Serve(ctx context.Context, handler Handler) error {
	if handler == nil {
		return errors.Join(errNoHandler, l.Close())
	}
	work, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var handlers sync.WaitGroup
	for {
		s, err := l.Accept(ctx)
		if err != nil {
			break
		}
		handlers.Go(func() { l.handled(work, s, handler) })
	}
	leave, stop := context.WithTimeout(work, l.cfg.LeaveTime)
	defer stop()
	_ = l.Leave(leave)
	end()
	err := l.Close()
	handlers.Wait()
	return err
}

// handled calls a Handler. The session keeps its place until it returns, also after its end:
// otherwise a user that begins sessions and ends them could have any number of Handlers run.
func (l *Listener) handled(ctx context.Context, s *Session, handler Handler) {
	l.mu.Lock()
	l.hold(s)
	l.mu.Unlock()
	defer func() {
		_ = s.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.release(s)
	}()
	ctx, end := s.whileOpen(ctx)
	defer end()
	if err := client.Call("Handler", func() { handler(ctx, s) }); err != nil {
		s.fail(err)
	}
}

// Leave has the element leave its pool in good order: it is deregistered, accepts no more
// sessions, and recommends the other elements of the pool to its users, unless Recommend was
// called. Then it waits until all sessions have ended: nil, or the error of ctx. Call Close
// afterwards, which ends the remaining sessions; their users fail over.
//
// The element does not come back: SetAvailable has no effect any more.
//
// Leave ends no session itself, since only the application knows when the work of a session
// allows it: see [Listener.Leaving].
func (l *Listener) Leave(ctx context.Context) error {
	l.begin()
	l.mu.Lock()
	ended, willed := l.whenEmpty(), l.willed
	l.mu.Unlock()
	if !willed {
		l.recommendOthers(ctx)
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// willTime is how long a registrar may take to name the other elements. Sessions may end
// meanwhile without a will.
const willTime = 2 * time.Second

// maxWill is how many elements are recommended. More would say little, and users need not
// keep more.
const maxWill = 16

// recommendOthers recommends the other elements of the pool, in the order of the pool's
// policy. Without an answer of a registrar, it recommends none.
func (l *Listener) recommendOthers(ctx context.Context) {
	if n, _ := l.Sessions(); n == 0 || l.cfg.Cards == CardsNever {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, willTime)
	defer cancel()
	all, err := l.element.Resolve(ctx, l.cfg.Pool, maxWill+1)
	if err != nil {
		return
	}
	own := l.element.State().ID
	var others []rserpool.PoolElement
	for _, e := range all {
		if e.ID != own && e.UserTransport.Type == rserpool.SCTP && len(others) < maxWill {
			others = append(others, e)
		}
	}
	if err := l.setCard(others); err != nil && l.cfg.Logger != nil {
		l.cfg.Logger.Warn("the last will cannot be sent: " + err.Error())
	}
}
