package client

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// panicError is a panic of a function of the program that the library has called.
type panicError struct {
	name  string // of the function, as the documentation has it
	value any
	stack []byte
}

// Error names the function, and has the stack of its goroutine.
func (e *panicError) Error() string {
	return fmt.Sprintf("%s, a function of this program, has panicked: %v\n%s", e.name, e.value, e.stack)
}

// Call calls a function of the program. If that panics, err is a *panicError that has its
// name: the library goes on, so that others are served and Close returns.
func Call(name string, f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{name, p, debug.Stack()}
		}
	}()
	f()
	return nil
}

// LogPanic logs an error of Call that may have no other reader. Without a Logger, the
// program's default one gets it: a panic must not go by unseen.
func LogPanic(l *slog.Logger, err error) {
	if l == nil {
		l = slog.Default()
	}
	l.Error(err.Error())
}
