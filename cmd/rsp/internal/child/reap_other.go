//go:build !linux

package child

import "context"

// AdoptsOrphans reports whether this process has orphans to take note of.
func AdoptsOrphans() bool { return false }

// Reap does nothing here.
func Reap(context.Context) {}
