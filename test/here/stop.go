package here

import (
	"syscall"
	"testing"
)

// Stop stops a process that this one has started, and returns when it stands still. A signal
// alone is on its way for a moment, in which the process still works.
func Stop(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatalf("process %d cannot be stopped: %v", pid, err)
	}
	var status syscall.WaitStatus
	for !status.Stopped() {
		if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil && err != syscall.EINTR {
			t.Fatalf("process %d does not stop: %v", pid, err)
		}
		if status.Exited() || status.Signaled() {
			t.Fatalf("process %d has ended, want it stopped", pid)
		}
	}
}
