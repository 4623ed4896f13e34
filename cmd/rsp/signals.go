package main

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// passedOn are the signals that reach the command.
var passedOn = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP,
	syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT,
	syscall.SIGTSTP,
}

// endCommand are those of them that ask for the command's end.
var endCommand = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT}

// endAlone are the signals that end rsp without a command.
var endAlone = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}

// repeatTime is how long the same signal counts as the same request. GNU
// timeout sends one to the process, and then to its group.
const repeatTime = 250 * time.Millisecond

// take has signals sent to a channel, but for repeats of ends, and those that rsp was started to
// ignore: nohup ignores SIGHUP, and a shell SIGINT and SIGQUIT for what it runs
// in the background. They stay ignored, and the command inherits that, as if
// it had been started in place of rsp.
func take(signals, ends []os.Signal) (c <-chan os.Signal, stop func()) {
	if signal.Ignored(syscall.SIGINT) {
		// Go does not tell of SIGQUIT; shells ignore both or neither.
		signal.Ignore(syscall.SIGQUIT)
	}
	all, once, done := make(chan os.Signal, 8), make(chan os.Signal, 8), make(chan struct{})
	signal.Notify(all, slices.DeleteFunc(slices.Clone(signals), signal.Ignored)...)
	go dropRepeats(all, once, ends, done)
	return once, func() { signal.Stop(all); close(done) }
}

// dropRepeats passes signals from one channel to another until done is closed,
// but for one of ends that comes again within repeatTime.
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
		default: // nobody has read the last eight
		}
	}
}

// ignoreTerminal keeps a terminal that stops what writes to it from the
// background (stty tostop) from stopping rsp for its log, and lets rsp give
// the terminal away and take it back.
// The commands of checks and loads inherit it; they read and write no terminal.
func ignoreTerminal() { signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU) }
