package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// rowTime is how long an element may take for a row. One that takes longer hangs.
const rowTime = 5 * time.Second

// picture is what is drawn, in tiles of tileRows rows.
type picture struct {
	width, height, tileRows, limit int
}

func (p picture) check() error {
	if p.width < 1 || p.width > maxWidth || p.height < 1 || p.tileRows < 1 || p.tileRows > maxRows || p.limit < 1 || p.limit > maxLimit {
		return fmt.Errorf("a picture has 1 to %d pixels in width, tiles of 1 to %d rows, and 1 to %d iterations", maxWidth, maxRows, maxLimit)
	}
	return nil
}

func (p picture) jobs() (list []Job) {
	step := 3.0 / float64(p.width)
	top := -step * float64(p.height) / 2
	for y := 0; y < p.height; y += p.tileRows {
		list = append(list, Job{
			Number: len(list), Left: -2.2, Top: top + float64(y)*step, Step: step,
			Width: p.width, Rows: min(p.tileRows, p.height-y), Limit: p.limit,
		})
	}
	return list
}

// drawing is a picture that a pool calculates.
type drawing struct {
	picture
	user     *pu.User
	pool     rserpool.PoolHandle
	parallel int            // how many jobs at a time
	progress func(rows int) // called with the number of finished rows, if set

	img       *image.Gray16
	rows      atomic.Int64
	failovers atomic.Int64
	again     atomic.Int64 // rows that came twice: an element failed after its last cookie
}

// draw calculates the picture.
func (d *drawing) draw(ctx context.Context) error {
	d.img = image.NewGray16(image.Rect(0, 0, d.width, d.height))
	jobs := make(chan Job)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range d.parallel {
		wg.Go(func() {
			for j := range jobs {
				if err := d.job(ctx, j); err != nil {
					cancel(fmt.Errorf("job %d: %w", j.Number, err))
				}
			}
		})
	}
	for _, j := range d.jobs() {
		select {
		case jobs <- j:
		case <-ctx.Done():
		}
	}
	close(jobs)
	wg.Wait()
	return context.Cause(ctx)
}

// job has an element calculate a tile, and others go on if that fails.
func (d *drawing) job(ctx context.Context, j Job) error {
	s, err := d.user.DialSession(ctx, pu.SessionConfig{
		Pool:    d.pool,
		Unacked: pu.Resend, // the request is never acknowledged, so that each element gets it
		Notify: func(ev pu.SessionEvent) {
			if ev.Type == pu.FailedOver {
				d.failovers.Add(1)
				slog.Info("job moves", "job", j.Number, "event", ev.String())
			}
		},
	})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Send(ctx, j.text()); err != nil {
		return err
	}
	seen := make([]bool, j.Rows)
	for left := j.Rows; left > 0; {
		m, err := nextRow(ctx, s)
		if err != nil {
			return err
		}
		y, row, err := parseRow(m.Data, j.Width)
		switch {
		case err != nil || y >= j.Rows:
			s.Fail(errors.New("an element has sent something that is not a row of the tile"))
		case seen[y]:
			d.again.Add(1)
		default:
			seen[y] = true
			left--
			d.set(j, y, row)
			if n := d.rows.Add(1); d.progress != nil {
				d.progress(int(n))
			}
		}
	}
	return nil
}

// set draws a row of a job. Each job has rows of its own, so that no lock is needed.
func (d *drawing) set(j Job, y int, row []uint16) {
	for x, n := range row {
		d.img.SetGray16(x, j.Number*d.tileRows+y, color.Gray16{Y: shade(n, d.limit)})
	}
}

// nextRow waits for a row. An element that sends none for rowTime hangs: the transport
// notices nothing of that, so the program says it.
func nextRow(ctx context.Context, s *pu.Session) (pu.Message, error) {
	for {
		wait, cancel := context.WithTimeout(ctx, rowTime)
		m, err := s.Receive(wait)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return m, err
		}
		s.Fail(fmt.Errorf("no row for %v", rowTime))
	}
}

// shade is the brightness of a pixel: black inside of the set.
func shade(n uint16, limit int) uint16 {
	if int(n) >= limit {
		return 0
	}
	return 65535 - uint16(n%64)*1000
}

func save(name string, img image.Image) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(png.Encode(f, img), f.Close())
}
