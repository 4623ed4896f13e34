//go:build !unix

package rserpool

// refuseUpgrade does nothing: these systems have no SIGUSR2.
func refuseUpgrade() {}
