package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Sandbox says with which rights and within which limits users' programs run.
type Sandbox struct {
	// UID and GID are the user and the group to run as, if SwitchUser is set, which needs
	// the privilege to do so.
	SwitchUser bool
	UID, GID   uint32
	// Isolate runs the program in namespaces of its own, without a network, and so that
	// none of its processes can survive it. Only Linux can.
	Isolate bool
	Time    time.Duration // in all; the processor time is bounded as well
	// Memory and FileSize bound a process's address space and a file, in bytes.
	Memory, FileSize int64
	// Processes bounds the processes of the user that the program runs as; 0 does not.
	Processes int
	Output    *os.File // gets what the program prints; nil discards it
}

// script runs a program within limits. The units are those of ulimit.
const limitsScript = `ulimit -t %d && ulimit -f %d && ulimit -v %d && ulimit -c 0 && %s exec ./` + scriptFile + ` "$@"`

func (b *Sandbox) limits() string {
	processes := ""
	if b.Processes > 0 {
		processes = fmt.Sprintf("{ ulimit -u %[1]d || ulimit -p %[1]d; } 2>/dev/null &&", b.Processes)
	}
	return fmt.Sprintf(limitsScript, int64(max(b.Time, time.Second)/time.Second), (b.FileSize+511)/512, b.Memory>>10, processes)
}

// run runs the program in a directory, and returns its exit status. When it returns, no
// process of the program's group runs.
func (b *Sandbox) run(ctx context.Context, dir string, args ...string) (int, error) {
	if b.SwitchUser {
		if err := chownAll(dir, int(b.UID), int(b.GID)); err != nil {
			return 0, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, b.Time)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", b.limits(), "sh"}, args...)...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + dir, "TMPDIR=" + dir, "PWD=" + dir, "LANG=C.UTF-8"}
	if b.Output != nil {
		cmd.Stdout, cmd.Stderr = b.Output, b.Output
	}
	cmd.SysProcAttr = b.attributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	// The kernel ends the program when this thread ends, not only when rsp does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, b.explain(err)
	}
	err := cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the rest of the group
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, fmt.Errorf("ended after %v: %w", b.Time, context.Cause(ctx))
	case errors.As(err, &exit):
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return 128 + int(s.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// explain says what to do if a program cannot be started.
func (b *Sandbox) explain(err error) error {
	if b.Isolate && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL)) {
		return fmt.Errorf("this machine allows no namespaces: %w: run rsp as a user that may make them, or with --no-isolation", err)
	}
	return err
}

// Check runs a program that does nothing, to find out whether the machine allows the
// sandbox.
func (b *Sandbox) Check(ctx context.Context, dir string) error {
	dir, err := os.MkdirTemp(dir, "check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, scriptFile), []byte("#!/bin/sh\nexit 0\n"), 0o700); err != nil {
		return err
	}
	status, err := b.run(ctx, dir)
	if err == nil && status != 0 {
		err = fmt.Errorf("a program that does nothing ends with status %d: can the user of --run-as reach %s?", status, dir)
	}
	return err
}

// chownAll gives a directory and all in it to a user.
func chownAll(dir string, uid, gid int) error {
	return filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !strings.HasPrefix(name, dir) {
			return fmt.Errorf("%s is not in %s", name, dir)
		}
		return os.Lchown(name, uid, gid)
	})
}
