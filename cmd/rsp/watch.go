package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
)

const watchHelp = `Show pools, and each change of them, until a signal ends rsp (Ctrl-C), or nobody reads
the output any more.

rsp subscribes to the pools' automatic updates (RFC 5352, 2.2.5). If the registrar sends
no updates, or the pool does not exist, rsp asks every 2 s. If the registrar fails, rsp
continues with the next one.

In a terminal, rsp shows a table that it redraws after each change. New elements have +
in front of them and are green for 5 s, changed elements * and yellow. Elements that
have left have - and are red, and stay in the table for 15 s. SINCE is the time when an
element joined; - means before rsp began to watch. The last changes are below the
tables. In a narrow terminal some columns are left out. Without colours if the variable
NO_COLOR is set. At the end, the last table stays on the terminal.

If the output is no terminal, and with --lines or -v, rsp prints a line for each change.
With --json, it prints a JSON object for each change, with these members:
  time        when rsp learnt of the change (RFC 3339)
  pool        the pool's handle (and pool_hex, see below)
  change      what has changed:
    registrar   another registrar answers, or the way to learn of changes has changed;
                with registrar, policy, and subscribed: whether it sends updates
    policy      the pool has another policy; with policy
    present     the first answer has this element; with element
    joined      a new element; with element
    left        an element is not in the pool any more; with element, as it was
    changed     with element, was (as it was), and fields, which lists what differs:
                transport, addresses, values, home, life
    unknown     the registrar does not know the pool; with error
    empty       the pool has no element that can be selected; with error
    error       no registrar answers, or one refuses; with error. The elements may
                still be in the pool
    restored    the registrar answers again; with registrar
  element, was  an element, as rsp resolve --json prints it

Changes faster than the registrar's updates, and faster than a slow reader takes them,
become one change. A registrar gives a limited number of elements in an answer (CoreDNS:
resolution_items, 128 by default). Of a larger pool, rsp watch shows the part that the
policy selects, and elements outside this part count as left. The selections that other
users make are not visible to a pool user: registrars count them.

` + jsonHandleHelp

type watchFlags struct {
	userFlags
	n     uint32
	json  bool
	lines bool
}

func newWatch() *cobra.Command {
	f := new(watchFlags)
	cmd := &cobra.Command{
		Use:   "watch POOL...",
		Short: "show pools and their changes as they happen",
		Long:  watchHelp + "\n\n" + registrarHelp + "\n\n" + exitHelp,
		Example: `  rsp watch web
  rsp watch --registrar 192.0.2.1 web database
  rsp watch --json web | jq -r 'select(.change == "left").element.id'`,
		Args: usageArgs(func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return errors.New("POOL is missing")
			case slices.Contains(args, ""):
				return emptyError("a POOL")
			}
			return nil
		}),
		RunE:              func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().Uint32VarP(&f.n, "items", "n", 1000, "number of elements to ask for; 0 lets the registrar decide")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON, one object for each change")
	cmd.Flags().BoolVar(&f.lines, "lines", false, "print lines in a terminal, too")
	notTogether(cmd, "json", "lines")
	f.userFlags.add(cmd)
	cmd.Flags().Lookup("timeout").Usage = "time after which rsp tries the next registrar"
	return cmd
}

// poolNews is what the pool user tells of one of the pools.
type poolNews struct {
	pool int
	res  *pu.Resolution
	err  error
}

func (f *watchFlags) run(cmd *cobra.Command, pools []string) error {
	slices.Sort(pools)
	pools = slices.Compact(pools)
	cfg, err := f.config(cmd)
	if err != nil {
		return err
	}
	cfg.Timers.Close = leaveTime // Ctrl-C ends rsp at once
	u, err := pu.Open(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := whileRead(cmd.Context(), cmd.OutOrStdout())
	w := &watcher{
		out: cmd.OutOrStdout(), json: f.json,
		board:  &board{pools: newWatchedPools(pools, time.Now()), tls: cfg.TLS.Set()},
		log:    f.logger(cmd.ErrOrStderr()),
		redraw: make(chan os.Signal, 1), continued: make(chan os.Signal, 1),
	}
	if !f.json && !f.lines && !f.verbose {
		w.screen = newScreen(w.out)
	}
	signals, stop := take(watchSignals, endAlone)
	news := make(chan poolNews)
	var watches sync.WaitGroup
	for i, p := range w.board.pools {
		watches.Go(func() { watchPool(ctx, u, i, p.handle, f.n, news) })
	}
	watches.Go(func() { w.onSignals(ctx, func() { cancel(nil) }, signals) })
	if err = w.follow(ctx, news); err == nil {
		err = whyEnded(ctx)
	}
	cancel(nil)
	stop()
	_ = u.Close()
	watches.Wait()
	return err
}

// watchSignals are the signals that rsp watch handles.
var watchSignals = append(slices.Clone(endAlone), syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT)

// watchPool passes on what is told of a pool. A consumer that is slow misses older news.
func watchPool(ctx context.Context, u *pu.User, i int, pool rserpool.PoolHandle, n uint32, news chan<- poolNews) {
	for res, err := range u.Watch(ctx, pool, n) {
		if ctx.Err() != nil {
			return
		}
		select {
		case news <- poolNews{i, res, err}:
		case <-ctx.Done():
			return
		}
		if errors.Is(err, rserpool.ErrClosed) {
			return
		}
	}
}

// watcher prints the changes, or draws the table if it has a screen.
type watcher struct {
	out    io.Writer
	json   bool
	board  *board
	screen *screen
	log    *logger
	hinted bool // the hint is logged once

	redraw    chan os.Signal // SIGWINCH, or SIGTSTP
	continued chan os.Signal // SIGCONT
}

// onSignals ends the watch at a signal that asks for that.
func (w *watcher) onSignals(ctx context.Context, end context.CancelFunc, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-signals:
			if slices.Contains(endAlone, sig) {
				end()
				return
			}
			to := w.redraw
			if sig == syscall.SIGCONT {
				to = w.continued
			}
			select {
			case to <- sig:
			default: // the same follows from the one before it
			}
		}
	}
}

// follow handles news until ctx ends.
func (w *watcher) follow(ctx context.Context, news <-chan poolNews) error {
	if w.screen != nil {
		return w.live(ctx, news)
	}
	for {
		select {
		case n := <-news:
			var text strings.Builder
			for _, c := range w.board.pools[n.pool].update(time.Now(), n.res, n.err) {
				write := c.writeLine
				if w.json {
					write = c.writeJSON
				}
				if err := write(&text); err != nil {
					return err
				}
			}
			if err := writeUntil(ctx, w.out, text.String()); err != nil {
				return err
			}
			w.advise(n.err)
		case <-ctx.Done():
			return nil
		}
	}
}

// advise logs what to try if no registrar answers. The table shows that itself.
func (w *watcher) advise(err error) {
	if err == nil || w.hinted {
		return
	}
	if h := hint(err, w.board.tls); h != "" {
		w.hinted = true
		w.log.log(normal, "%s", h)
	}
}

// frame is the least time between two drawings of the table.
const frame = 100 * time.Millisecond

// live draws the table until ctx ends.
func (w *watcher) live(ctx context.Context, news <-chan poolNews) error {
	if err := w.screen.enter(ctx); err != nil {
		return err
	}
	due := time.After(0)      // to draw changes; nil if there are none
	var fade <-chan time.Time // to end a highlight
	draw := func() error {
		now := time.Now()
		width, height := w.screen.size()
		err := w.screen.draw(ctx, w.board.lines(now, width, height))
		due, fade = nil, nil
		if next := w.board.fades(now); !next.IsZero() {
			fade = time.After(next.Sub(now))
		}
		return err
	}
	for {
		var err error
		select {
		case n := <-news:
			w.board.note(w.board.pools[n.pool].update(time.Now(), n.res, n.err))
			if due == nil {
				due = time.After(frame)
			}
		case sig := <-w.redraw:
			if sig == syscall.SIGTSTP {
				err = w.suspend(ctx)
			}
			due = time.After(0)
		case <-w.continued: // after SIGSTOP: a shell has used the terminal meanwhile
			err = w.screen.enter(ctx)
			due = time.After(0)
		case <-due:
			err = draw()
		case <-fade:
			err = draw()
		case <-ctx.Done():
			return w.screen.leave(w.lastLines())
		}
		if err != nil {
			return err
		}
	}
}

// suspend gives the terminal back and stops rsp, as Ctrl-Z does without a handler. A
// signal to the own process may take effect after Kill has returned, so that only SIGCONT
// says that rsp continues.
func (w *watcher) suspend(ctx context.Context) error {
	if err := w.screen.leave(nil); err != nil {
		return err
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		return err
	}
	select {
	case <-w.continued:
		return w.screen.enter(ctx)
	case <-ctx.Done():
		return nil
	}
}

// lastLines are the tables that stay on the terminal.
func (w *watcher) lastLines() []tableLine {
	now := time.Now()
	width, height := w.screen.size()
	w.board.recent = nil
	return w.board.lines(now, width, height-1)
}
