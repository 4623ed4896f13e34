//go:build !linux

package child

import "context"

// AdoptsOrphans reports whether this process must wait for orphans.
func AdoptsOrphans() bool { return false }

// Reap does nothing on this system.
func Reap(context.Context) {}
