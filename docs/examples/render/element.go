package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/cookie"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// cookieRows is how many rows an element calculates between two cookies. No more are
// calculated again when the element fails.
const cookieRows = 8

// element calculates jobs, one in each session.
type element struct {
	pace  time.Duration // least time for a row, to play a slow computer
	slots chan struct{} // one for each row that may be calculated at a time
}

// serve runs a pool element until ctx ends.
func serve(ctx context.Context, o options) error {
	text, err := os.ReadFile(o.keys)
	if err != nil {
		return err
	}
	keys, err := cookie.ParseKeys(text)
	if err != nil {
		return fmt.Errorf("%s: %w", o.keys, err)
	}
	sealer, err := cookie.New(cookie.Config{Pool: rserpool.PoolHandle(o.pool), Keys: keys, Life: time.Hour})
	if err != nil {
		return err
	}
	e := element{pace: o.pace, slots: make(chan struct{}, o.capacity)}
	return pe.ListenAndServe(ctx, pe.ListenConfig{
		Config: pe.Config{
			Pool:       rserpool.PoolHandle(o.pool),
			Registrars: o.registrars,
			Local:      o.local,
			Policy:     rserpool.Policy{Type: rserpool.LeastUsedDegradation},
			Notify:     func(ev pe.Event) { slog.Info(ev.String()) },
		},
		Cookies:  sealer,
		Capacity: o.capacity,
	}, e.session)
}

// session calculates one job. After a failover the user brings the cookie of the element
// before, and then its request once more.
func (e element) session(ctx context.Context, s *pe.Session) {
	m, err := s.Receive(ctx)
	if err != nil {
		return
	}
	job, err := parseJob(m.Data)
	if err != nil {
		slog.Warn("request refused", "user", s.RemoteAddrs(), "error", err)
		return
	}
	if state, ok := s.Cookie(); ok {
		if before, err := parseJob(state); err == nil && before.Number == job.Number {
			job = before
			slog.Info("job goes on here", "job", job.Number, "row", job.Next)
		}
	}
	if err := e.calculate(ctx, s, job); err == nil {
		_, _ = s.Receive(ctx) // the user ends the session when it has all rows
	}
}

func (e element) calculate(ctx context.Context, s *pe.Session, job Job) error {
	for ; job.Next < job.Rows; job.Next++ {
		if job.Next > 0 && job.Next%cookieRows == 0 {
			if err := s.SetCookie(job.text()); err != nil {
				return err
			}
		}
		row, err := e.row(s, job)
		if err != nil {
			return err
		}
		if err := s.Send(ctx, rowMessage(job.Next, row)); err != nil {
			return err
		}
	}
	return nil
}

// row calculates a row when it is this job's turn.
func (e element) row(s *pe.Session, job Job) ([]uint16, error) {
	select {
	case e.slots <- struct{}{}:
	case <-s.Done():
		return nil, s.Err()
	}
	defer func() { <-e.slots }()
	done := time.After(e.pace)
	row := job.row(job.Next)
	select {
	case <-done:
		return row, nil
	case <-s.Done():
		return nil, s.Err()
	}
}
