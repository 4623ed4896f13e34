package serve

import (
	"os"
	"syscall"
)

// attributes are those of a program's first process: a group of its own, which ends with
// rsp, another user and namespaces.
func (b *Sandbox) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if b.SwitchUser {
		a.Credential = &syscall.Credential{Uid: b.UID, Gid: b.GID}
	}
	if !b.Isolate {
		return a
	}
	a.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWNS
	if os.Geteuid() != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	}
	return a
}

// CanIsolate reports whether this system has namespaces.
const CanIsolate = true
