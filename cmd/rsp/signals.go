package main

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/child"
)

// passedOn returns the signals that rsp passes on to the command: all that package
// os/signal delivers, except those that the kernel or Go's runtime sends rsp on its own
// account. With a terminal, SIGTTIN and SIGTTOU are among these.
func passedOn(terminal bool) []os.Signal {
	own := []os.Signal{
		syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPROF,
		syscall.SIGPIPE, syscall.SIGXCPU, syscall.SIGXFSZ,
	}
	if terminal {
		own = append(own, ofTerminal...)
	}
	var list []os.Signal
	for s := syscall.Signal(1); s <= lastSignal; s++ {
		if !slices.Contains(own, os.Signal(s)) {
			list = append(list, s)
		}
	}
	return list
}

// lastSignal is the last real-time signal.
const lastSignal syscall.Signal = 64

// endCommand are the signals of passedOn that ask for the command's end.
var endCommand = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT}

// endAlone are the signals that end rsp without a command.
var endAlone = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP}

// repeatTime is how long a repeated signal counts as the same request. GNU timeout sends
// a signal to the process, and then to its group.
const repeatTime = 250 * time.Millisecond

// take sends signals to a channel, without repeats of ends, and without the signals that
// rsp was started to ignore: nohup ignores SIGHUP, and a shell ignores SIGINT and SIGQUIT
// for commands in the background. These signals stay ignored, and the command inherits
// that, as if it had been started in place of rsp.
func take(signals, ends []os.Signal) (c <-chan os.Signal, stop func()) {
	child.InheritIgnored()
	all, once, done := make(chan os.Signal, 8), make(chan os.Signal, 8), make(chan struct{})
	signal.Notify(all, slices.DeleteFunc(slices.Clone(signals), signal.Ignored)...)
	go dropRepeats(all, once, ends, done)
	return once, func() { signal.Stop(all); close(done) }
}

// dropRepeats passes signals from one channel to another until done is closed, except a
// signal of ends that is repeated within repeatTime.
func dropRepeats(from <-chan os.Signal, to chan<- os.Signal, ends []os.Signal, done <-chan struct{}) {
	var last os.Signal
	var at time.Time
	for {
		var sig os.Signal
		select {
		case <-done:
			return
		case sig = <-from:
		}
		if slices.Contains(ends, sig) {
			if sig == last && time.Since(at) < repeatTime {
				continue
			}
			last, at = sig, time.Now()
		}
		select {
		case to <- sig:
		default: // the last eight have not been read
		}
	}
}

// ofTerminal are the signals of a terminal to processes in the background.
var ofTerminal = []os.Signal{syscall.SIGTTIN, syscall.SIGTTOU}

// ignoreTerminal ignores the signals of a terminal. With stty tostop, rsp's log would stop
// rsp otherwise; and rsp gives the terminal to the command and takes it back. The commands
// of checks and loads inherit that; they use no terminal.
func ignoreTerminal() { signal.Ignore(ofTerminal...) }
