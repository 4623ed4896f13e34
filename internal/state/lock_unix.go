//go:build unix

package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockPause is the pause between two attempts to lock a file.
const lockPause = 50 * time.Millisecond

// acquire locks a file, which has the process identifier of its owner, and waits so long for
// its owner. The lock ends with the process. If the file cannot be locked for another reason,
// for instance because the disk is read-only, nothing is locked.
func acquire(path string, timeout time.Duration) (io.Closer, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(timeout); ; time.Sleep(lockPause) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || !time.Now().Before(end) {
			break
		}
	}
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = inUse(filepath.Dir(path), owner(f))
	case err == nil:
		pid := strconv.Itoa(os.Getpid()) + "\n"
		if _, err := f.WriteAt([]byte(pid), 0); err == nil {
			_ = f.Truncate(int64(len(pid)))
		}
		return f, nil // without the identifier, too, it is locked
	}
	_ = f.Close()
	return nil, err
}

// openLock opens the file of a lock, which is made if it is not there. It is written to, so a link
// could have this process write to any file, and opening a pipe or a device could have an effect.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, fileMode)
	info, statErr := os.Lstat(path)
	if err == nil {
		info, statErr = f.Stat()
	}
	if statErr == nil && !info.Mode().IsRegular() {
		if err == nil {
			_ = f.Close()
		}
		return nil, fmt.Errorf("%w: remove %s", errNoLock, path)
	}
	return f, err
}

// exposed returns the mode of a directory to which every user may write, 0 otherwise.
func exposed(dir string) os.FileMode {
	if info, err := os.Stat(dir); err == nil && info.Mode()&0o002 != 0 {
		return info.Mode().Perm()
	}
	return 0
}

// isLocked reports whether another file descriptor has a lock on a file. bbolt locks its file so.
func isLocked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// unlock ends the lock on a file.
func unlock(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

// owner is the process that holds the lock on a file, as far as that is known; 0 otherwise. What
// the file says may be of another time, or of another container, where the same process
// identifier is another process. Linux tells who holds a lock, among the processes that this
// one can see.
func owner(f *os.File) int {
	pid := readOwner(f)
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return pid
	}
	inode := fmt.Sprintf(":%d", info.Sys().(*syscall.Stat_t).Ino)
	for line := range strings.Lines(string(locks)) {
		// 1: FLOCK ADVISORY WRITE 1234 fe:00:5678 0 EOF
		if w := strings.Fields(line); len(w) > 5 && w[1] == "FLOCK" && w[4] == strconv.Itoa(pid) && strings.HasSuffix(w[5], inode) {
			return pid
		}
	}
	return 0
}

// readOwner reads the process identifier in a lock file; 0 if there is none.
func readOwner(f *os.File) int {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		return 0
	}
	return pid
}

func inUse(dir string, pid int) error {
	switch pid {
	case os.Getpid():
		return fmt.Errorf("%w: another registrar of this process uses %s: give each registrar a directory of its own", ErrInUse, dir)
	case 0:
		return inUseBySomebody(dir)
	}
	return fmt.Errorf("%w: another process (pid %d) uses %s: end it, or use another directory", ErrInUse, pid, dir)
}
