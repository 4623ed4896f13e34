package child

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attributes give a command a process group of its own, and a signal if this process is
// killed.
func attributes(vanish syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: vanish}
}

// news is what waitid(2) returns about a child.
type news struct {
	pid    int // 0 for no news
	code   int32
	status int32 // its exit status, or the signal
}

// waitid is waitid(2). With WNOWAIT in options, os/exec can still wait for the child.
func waitid(kind, id, options int) (news, error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(kind, id, &info, options, nil)
		if err == unix.EINTR {
			continue
		}
		// The fields for SIGCHLD stand behind three numbers, where a pointer
		// could stand (siginfo_t in sigaction(2)).
		const pointer = unsafe.Sizeof(uintptr(0))
		at := unsafe.Add(unsafe.Pointer(&info), (3*4+pointer-1)/pointer*pointer)
		fields := (*struct {
			pid, uid, status int32
		})(at)
		return news{int(fields.pid), info.Code, fields.status}, err
	}
}

// awaitEnd waits for the end of a child, which os/exec can still wait for. It returns the
// signal that has ended the child, 0 for none. ok says that the child has ended and that
// no other process has its number yet.
func awaitEnd(pid int) (s syscall.Signal, ok bool) {
	n, err := waitid(unix.P_PID, pid, unix.WEXITED|unix.WNOWAIT)
	if err != nil || n.code == cldExited {
		return 0, err == nil
	}
	return syscall.Signal(n.status), true
}

// cldExited is the code of a child that no signal has ended (sigaction(2)).
const cldExited = 1
