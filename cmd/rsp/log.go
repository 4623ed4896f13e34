package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/spf13/cobra"
)

// level says how much is logged.
type level int

const (
	quiet   level = iota // errors and warnings
	normal               // and changes
	verbose              // and everything else
)

// logger writes one line for each event. It may be used by any goroutine; w
// takes each line in one call, and must not block, as [backlog] does not.
type logger struct {
	w     io.Writer
	level level
	mu    sync.Mutex
}

func (l *logger) log(at level, format string, args ...any) {
	if at > l.level {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, "rsp: "+format+"\n", args...)
}

// transport is the logger for what the transport has to tell: one line a record, warnings
// always and the others with -v.
func (l *logger) transport() *slog.Logger { return slog.New(transportHandler{l}) }

type transportHandler struct{ l *logger }

func (h transportHandler) Enabled(_ context.Context, at slog.Level) bool {
	return levelOf(at) <= h.l.level
}

func levelOf(at slog.Level) level {
	if at >= slog.LevelWarn {
		return quiet
	}
	return verbose
}

func (h transportHandler) Handle(_ context.Context, r slog.Record) error {
	h.l.log(levelOf(r.Level), "%s", r.Message)
	return nil
}

func (h transportHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h transportHandler) WithGroup(string) slog.Handler { return h }

// logFlags are -q and -v.
type logFlags struct{ quiet, verbose bool }

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "log only errors and warnings")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "log more: re-registrations, loads, messages of the transport")
	notTogether(cmd, "quiet", "verbose")
}

func (f *logFlags) logger(w io.Writer) *logger {
	l := &logger{w: w, level: normal}
	switch {
	case f.quiet:
		l.level = quiet
	case f.verbose:
		l.level = verbose
	}
	return l
}
