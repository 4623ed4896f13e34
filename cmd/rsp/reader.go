package main

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// whileRead returns a context that ends with EPIPE as its cause when nobody reads w any
// more. A write would find that out, but a pool may change once a week. cancel ends the
// context, too. The goroutine that waits for the end of the reader stays until rsp ends.
func whileRead(parent context.Context, w io.Writer) (ctx context.Context, cancel context.CancelCauseFunc) {
	ctx, cancel = context.WithCancelCause(parent)
	if f, ok := fileOf(w); ok {
		go func() {
			if unread(f) {
				cancel(syscall.EPIPE)
			}
		}()
	}
	return ctx, cancel
}

// unread waits until the last reader of a pipe or a socket is gone. It returns false if f
// is neither, and where the system does not tell.
func unread(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return false
	}
	c, err := f.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	_ = c.Control(func(fd uintptr) {
		// No event is asked for; errors are always told.
		fds := []unix.PollFd{{Fd: int32(fd)}}
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			_, err = unix.Poll(fds, -1)
		}
		gone = err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
	})
	return gone
}

// whyEnded returns EPIPE if whileRead has ended a context, and nil otherwise.
func whyEnded(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, syscall.EPIPE) {
		return cause
	}
	return nil
}
