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

// outputDelay is how long the output is read after the command has ended, if a process
// in another group, such as a daemon, still has it open.
const outputDelay = 200 * time.Millisecond

var errOutput = fmt.Errorf("it prints more than %d bytes", MaxOutput)

// Shell runs a shell command and returns what it prints, on standard error too if asked.
// Shell kills the command when ctx ends, and when the command prints more than MaxOutput.
// The rest of the command's process group is killed when the command ends.
func Shell(ctx context.Context, line string, stderr bool) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The kernel sends the signal when the thread that starts the command ends.
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
	// Until the command is waited for, no other process or group has its number.
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
