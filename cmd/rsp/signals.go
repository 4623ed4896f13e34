package main

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// passedOn are the signals that rsp passes on to the command.
var passedOn = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP,
	syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT,
	syscall.SIGTSTP,
}

// endCommand are the signals of passedOn that ask for the command's end.
var endCommand = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT}

// endAlone are the signals that end rsp without a command.
var endAlone = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}

// repeatTime is how long a repeated signal counts as the same request. GNU timeout sends
// a signal to the process, and then to its group.
const repeatTime = 250 * time.Millisecond

// take sends signals to a channel, without repeats of ends, and without the signals that
// rsp was started to ignore: nohup ignores SIGHUP, and a shell ignores SIGINT and SIGQUIT
// for commands in the background. These signals stay ignored, and the command inherits
// that, as if it had been started in place of rsp.
func take(signals, ends []os.Signal) (c <-chan os.Signal, stop func()) {
	if signal.Ignored(syscall.SIGINT) {
		// Go does not report an ignored SIGQUIT; shells ignore both or neither.
		signal.Ignore(syscall.SIGQUIT)
	}
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

// ignoreTerminal ignores the signals of a terminal to processes in the background. With
// stty tostop, rsp's log would stop rsp otherwise; and rsp gives the terminal to the
// command and takes it back. The commands of checks and loads inherit that; they use no
// terminal.
func ignoreTerminal() { signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU) }
