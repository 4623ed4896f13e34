package localaddr

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// watch waits for changes of the machine's interfaces and addresses.
type watch struct{ file *os.File }

// newWatch watches the network namespace of the calling goroutine (rtnetlink(7)). close
// ends it.
func newWatch() (*watch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	groups := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR}
	if err := unix.Bind(fd, groups); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("netlink", err)
	}
	return &watch{os.NewFile(uintptr(fd), "netlink")}, nil
}

// wait waits for a change. What has changed is left to the caller to find out. The error
// is os.ErrClosed after close.
func (w *watch) wait() error {
	b := make([]byte, 4096) // the rest of a longer message is dropped
	_, err := w.file.Read(b)
	if errors.Is(err, syscall.ENOBUFS) {
		return nil // so many changes that some were not queued
	}
	return err
}

// close has wait return.
func (w *watch) close() error { return w.file.Close() }
