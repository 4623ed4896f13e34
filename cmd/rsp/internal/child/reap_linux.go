package child

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// AdoptsOrphans reports whether the kernel makes this process the parent of orphans, as
// it does with process 1 of a container.
func AdoptsOrphans() bool {
	if os.Getpid() == 1 {
		return true
	}
	var subreaper int32
	err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&subreaper)), 0, 0, 0)
	return err == nil && subreaper != 0
}

// again is when to look again after a child of our own has ended. Another goroutine is
// about to wait for that child, which hides the orphans that ended after it.
const again = 10 * time.Millisecond

// Reap waits for orphans until ctx ends. Otherwise each of them would stay in the process
// table as a zombie.
func Reap(ctx context.Context) {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGCHLD)
	defer signal.Stop(ends)
	for {
		var retry <-chan time.Time
		if reap() {
			retry = time.After(again)
		}
		select {
		case <-ctx.Done():
			return
		case <-ends:
		case <-retry:
		}
	}
}

// reap waits for all orphans that have ended, and reports whether it has found a child of
// our own.
func reap() bool {
	for {
		own.Lock()
		n, err := waitid(unix.P_ALL, 0, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT)
		_, ours := own.probe[n.pid]
		if err == nil && n.pid != 0 && !ours {
			_, err = waitid(unix.P_PID, n.pid, unix.WEXITED|unix.WNOHANG)
		}
		own.Unlock()
		switch {
		case err != nil, n.pid == 0:
			return false
		case ours:
			return true
		}
	}
}
