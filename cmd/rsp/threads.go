package main

import (
	"runtime"
	"sync"
)

const (
	// maxProcs is how many threads run Go code at the same time. An element needs no
	// more, and each of them could need another thread.
	maxProcs = 2
	// spareThreads is the largest number of threads in use at the same time: threads that
	// run code, and threads that wait for the command, for the commands of the check and
	// the load, for a file that hangs, and for the system's resolver.
	spareThreads = 16
)

// reserveThreads makes all threads that rsp can need. If a process needs a thread and
// gets none, the Go runtime ends it, and the server ends with rsp. So rsp must not need
// a new thread when the machine, the user or the container has no more. The runtime keeps
// idle threads.
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
