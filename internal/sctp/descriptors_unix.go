//go:build unix

package sctp

import (
	"errors"
	"fmt"
	"syscall"
)

// Descriptors is how many associations, each with a descriptor, an endpoint may
// have: a quarter of the limit of open files. The rest is for other endpoints, and
// for all else that the process does, such as to answer DNS over TCP.
func Descriptors() int {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 256
	}
	return int(min(r.Cur, 1<<20) / 4)
}

// NoDescriptor returns err, with what to do if it says that no file descriptor is left.
func NoDescriptor(err error) error {
	if errors.Is(err, syscall.EMFILE) {
		return fmt.Errorf("no file descriptor is left: %w; raise the limit of open files (ulimit -n)", err)
	}
	if errors.Is(err, syscall.ENFILE) {
		return fmt.Errorf("no file descriptor is left: %w; raise the machine's limit (sysctl fs.file-max)", err)
	}
	return err
}
