package main

import (
	"runtime"
	"sync"
)

const (
	// maxProcs is how many threads run Go code at the same time. An element
	// needs no more, and each could ask for another thread.
	maxProcs = 2
	// spareThreads are in use at the same time at most: those that run code,
	// and those that wait for the command, for the commands of the check and the
	// load, for a file that hangs, and for the resolver of the system.
	spareThreads = 16
)

// reserveThreads makes the threads that rsp can need. The runtime ends a process
// that needs one and gets none, and the server ends with rsp: so no thread must
// be needed when a process has taken the last one that the machine, the user or
// the container may have. The runtime keeps those that are idle.
func reserveThreads() {
	if runtime.GOMAXPROCS(0) > maxProcs {
		runtime.GOMAXPROCS(maxProcs)
	}
	var ready, done sync.WaitGroup
	ready.Add(spareThreads)
	for range spareThreads {
		done.Go(func() {
			runtime.LockOSThread() // which needs a thread of its own
			defer runtime.UnlockOSThread()
			ready.Done()
			ready.Wait()
		})
	}
	done.Wait()
}
