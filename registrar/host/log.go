package host

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// logQueue is how many lines wait for a log that is slow.
	logQueue = 256
	// logFlush is how long Close waits for such a log.
	logFlush = time.Second
)

// logger queues lines for a log that may block, such as a pipe without a reader. Lines
// for which there is no room are dropped and counted.
type logger struct {
	to    *slog.Logger
	lines chan logLine
	lost  atomic.Int64

	stop, ended chan struct{} // while started
}

type logLine struct {
	warn bool
	text string
}

func newLogger(to *slog.Logger) *logger {
	return &logger{to: to, lines: make(chan logLine, logQueue)}
}

// add queues a line. It never waits, and may be called at any time.
func (l *logger) add(warn bool, text string) {
	select {
	case l.lines <- logLine{warn, text}:
	default:
		l.lost.Add(1)
	}
}

// start starts the goroutine that writes.
func (l *logger) start() {
	l.stop, l.ended = make(chan struct{}), make(chan struct{})
	go l.run(l.stop, l.ended)
}

func (l *logger) run(stop, ended chan struct{}) {
	defer close(ended)
	for {
		select {
		case line := <-l.lines:
			l.write(line)
			continue
		case <-stop:
		}
		for {
			select {
			case line := <-l.lines:
				l.write(line)
			default:
				return
			}
		}
	}
}

func (l *logger) write(line logLine) {
	l.log(line.warn, line.text)
	if n := l.lost.Swap(0); n > 0 {
		l.log(true, fmt.Sprintf("%d log lines were dropped: the log did not accept them in time", n))
	}
}

func (l *logger) log(warn bool, text string) {
	level := slog.LevelInfo
	if warn {
		level = slog.LevelWarn
	}
	l.to.Log(context.Background(), level, text)
}

// end writes the remaining lines. A log that blocks holds the goroutine, not the caller.
func (l *logger) end() {
	close(l.stop)
	timer := time.NewTimer(logFlush)
	defer timer.Stop()
	select {
	case <-l.ended:
	case <-timer.C:
	}
}
