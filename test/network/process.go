package network

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a process on a host. The end of the test kills it.
type Process struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	exited chan struct{}

	mu    sync.Mutex
	cond  sync.Cond
	out   bytes.Buffer
	next  int // what Next has not seen begins here
	ended bool
}

// Write gathers the process's output.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cond.Broadcast()
	return p.out.Write(b)
}

// Output is what the process has written to stdout and stderr so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// Command makes a command to be started by StartCommand.
func (h *Host) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = h.dir
	cmd.SysProcAttr = new(syscall.SysProcAttr)
	return cmd
}

// Start starts a process on the host. Its output is shown if the test fails.
func (h *Host) Start(args ...string) *Process {
	h.t.Helper()
	return h.StartCommand(h.Command(args...))
}

// StartCommand starts a command; Stdout and Stderr are set here if they are nil.
func (h *Host) StartCommand(cmd *exec.Cmd) *Process {
	h.t.Helper()
	t := h.t
	p := &Process{t: t, name: h.Name + ": " + filepath.Base(cmd.Path), cmd: cmd, exited: make(chan struct{})}
	p.cond.L = &p.mu
	if cmd.Stdout == nil {
		cmd.Stdout = p
	}
	if cmd.Stderr == nil {
		cmd.Stderr = p
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // with the host's thread
	cmd.SysProcAttr.Setpgid = !cmd.SysProcAttr.Setsid
	cmd.WaitDelay = time.Second // for children that hold the output
	if err := h.space.on(cmd.Start); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		p.mu.Lock()
		p.ended = true
		p.cond.Broadcast()
		p.mu.Unlock()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // and its children, should they live
		<-p.exited
		if t.Failed() {
			t.Logf("[%s] %s:\n%s", h.Name, strings.Join(cmd.Args, " "), p.Output())
		}
	})
	return p
}

// WaitFor waits until the process has written a text.
func (p *Process) WaitFor(text string) { p.t.Helper(); p.find(text, false) }

// Next waits for a text that comes after the one that the Next before found.
func (p *Process) Next(text string) { p.t.Helper(); p.find(text, true) }

func (p *Process) find(text string, next bool) {
	p.t.Helper()
	late := false
	timer := time.AfterFunc(Patience, func() {
		p.mu.Lock()
		late = true
		p.cond.Broadcast()
		p.mu.Unlock()
	})
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		from := 0
		if next {
			from = p.next
		}
		if i := bytes.Index(p.out.Bytes()[from:], []byte(text)); i >= 0 {
			if next {
				p.next += i + len(text)
			}
			return
		}
		if late || p.ended {
			// The output comes with the end of the test.
			p.t.Fatalf("%s does not say %q (ended: %v)", p.name, text, p.ended)
		}
		p.cond.Wait()
	}
}

// Signal sends the process a signal.
func (p *Process) Signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Wait waits for the process to end and gives its exit status as a shell has it: 128 + N if
// signal N has ended it.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-patient():
		p.t.Fatalf("%s does not end", p.name)
	}
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

// Run runs a command on the host that must succeed, and gives its stdout.
func (h *Host) Run(args ...string) string {
	h.t.Helper()
	out, err := h.Try(args...)
	if err != nil {
		h.t.Fatalf("[%s] %s: %v", h.Name, strings.Join(args, " "), err)
	}
	return out
}

// Try runs a command on the host to its end, and gives its stdout; the error has
// what it wrote to stderr.
func (h *Host) Try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = h.dir
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	err := h.space.on(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = &runError{err, errs.String()}
	}
	return out.String(), err
}

// runError is a command's failure with what it said.
type runError struct {
	error
	said string
}

func (e *runError) Error() string { return e.error.Error() + "\n" + e.said }
func (e *runError) Unwrap() error { return e.error }
