package main

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// passedOn are the signals that reach the command.
var passedOn = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP,
	syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT,
}

// endAlone are the signals that end rsp without a command.
var endAlone = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}

// take has signals sent to a channel, but for those that rsp was started to
// ignore: nohup ignores SIGHUP, and a shell SIGINT and SIGQUIT for what it runs
// in the background. They stay ignored, and the command inherits that, as if
// it had been started in place of rsp.
func take(signals []os.Signal) (c chan os.Signal, stop func()) {
	if signal.Ignored(syscall.SIGINT) {
		// Go does not tell of SIGQUIT; shells ignore both or neither.
		signal.Ignore(syscall.SIGQUIT)
	}
	c = make(chan os.Signal, 8)
	signal.Notify(c, slices.DeleteFunc(slices.Clone(signals), signal.Ignored)...)
	return c, func() { signal.Stop(c) }
}

// ignoreTerminal keeps a terminal that stops what writes to it from the
// background (stty tostop) from stopping rsp for its log, and lets rsp give
// the terminal away and take it back.
// The commands of checks and loads inherit it; they read and write no terminal.
func ignoreTerminal() { signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU) }
