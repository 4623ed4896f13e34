package busy

import "runtime"

func wait(done func() bool) {
	for !done() {
		runtime.Gosched() // want "busy wait"
	}
}
