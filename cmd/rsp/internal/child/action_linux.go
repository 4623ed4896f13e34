package child

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// action is what a process does with a signal: the kernel's struct sigaction, at most.
// The zero value is the default action.
type action struct {
	handler uintptr
	rest    [7]uint64
}

// ignore is SIG_IGN.
var ignore = action{handler: 1}

// setAction is rt_sigaction(2), for what package os/signal cannot do.
func setAction(s syscall.Signal, to, from *action) unix.Errno {
	_, _, err := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s),
		uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(from)), unsafe.Sizeof(uint64(0)), 0, 0)
	return err
}

// firstRealTime is SIGRTMIN of glibc. Go's runtime leaves it to C libraries.
const firstRealTime syscall.Signal = 34

// IgnoreFirstRealTime ignores SIGRTMIN, which package os/signal does not deliver. It would
// end this process.
func IgnoreFirstRealTime() {
	var now action
	if setAction(firstRealTime, nil, &now) == 0 && now.handler == 0 {
		_ = setAction(firstRealTime, &ignore, nil)
	}
}

// EndBySignal ends this process by the default action of a signal, but without a core
// file. It returns if the signal does not end this process, as for process 1.
func EndBySignal(s syscall.Signal) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	if setAction(s, new(action), nil) == 0 {
		// A thread that signals itself gets the signal before the call returns.
		_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), s)
	}
}
