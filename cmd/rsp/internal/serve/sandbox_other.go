//go:build !linux

package serve

import "syscall"

func (b *Sandbox) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true}
	if b.SwitchUser {
		a.Credential = &syscall.Credential{Uid: b.UID, Gid: b.GID}
	}
	return a
}

// CanIsolate reports whether this system has namespaces.
const CanIsolate = false
