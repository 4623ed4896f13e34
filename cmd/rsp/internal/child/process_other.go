//go:build !linux

package child

import "syscall"

func attributes(syscall.Signal) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitEnd cannot wait on this system without also reaping the child.
func awaitEnd(int) (s syscall.Signal, ok bool) { return 0, false }
