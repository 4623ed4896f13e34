package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// MaxOutput is how much a command of [Shell] may print, in bytes.
const MaxOutput = 64 << 10

// outputDelay is how long the output is read after the command has ended, should
// a process in another group, such as a daemon that it has started, hold on to it.
const outputDelay = 200 * time.Millisecond

var errOutput = fmt.Errorf("it prints more than %d bytes", MaxOutput)

// Shell runs a command of the shell and gives what it prints, on standard
// error too if so asked. The command ends with ctx, and when it prints more
// than MaxOutput. What it has started and left running ends with it, unless
// that has made itself a process group of its own.
func Shell(ctx context.Context, line string, stderr bool) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The signal at this process's end is tied to the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	cmd.SysProcAttr = attributes(syscall.SIGKILL)
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = kill
	cmd.WaitDelay = outputDelay
	out := &limited{full: func() { cancel(errOutput) }}
	cmd.Stdout = out
	if stderr {
		cmd.Stderr = out
	}
	if err := start(cmd, true); err != nil {
		return nil, fmt.Errorf("command %q: %w", line, err)
	}
	// As long as nobody has taken note of its end, its number and that of its
	// group are nobody else's.
	if _, ok := awaitEnd(cmd.Process.Pid); ok {
		_ = kill()
	}
	err := wait(cmd)
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errOutput):
		err = errOutput
	case cause != nil:
		err = fmt.Errorf("it takes too long: %w", cause)
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // the command itself has succeeded
	}
	if err != nil {
		err = fmt.Errorf("command %q: %w", line, err)
	}
	return out.buf.Bytes(), err
}

// limited keeps MaxOutput bytes.
type limited struct {
	buf  bytes.Buffer
	full func()
}

func (l *limited) Write(b []byte) (int, error) {
	if l.buf.Len()+len(b) > MaxOutput {
		l.full()
		return 0, errOutput
	}
	return l.buf.Write(b)
}
