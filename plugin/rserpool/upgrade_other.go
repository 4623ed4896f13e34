//go:build !unix

package rserpool

// refuseUpgrade has nothing to refuse: there are no signals for it.
func refuseUpgrade() {}
