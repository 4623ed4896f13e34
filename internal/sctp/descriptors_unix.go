//go:build unix

package sctp

import "syscall"

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
