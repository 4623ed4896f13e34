package core

import (
	"math/rand"
	v2 "math/rand/v2"
	"net"  // want "import of net in a protocol core"
	"sync" // want "import of sync in a protocol core"
	"time"
)

var now = time.Now // want "time.Now reads a clock"

func clocks(since time.Time) {
	time.Sleep(time.Second)        // want "time.Sleep"
	_ = time.Since(since)          // want "time.Since"
	_ = time.Until(since)          // want "time.Until"
	_ = time.NewTimer(0)           // want "time.NewTimer"
	<-time.After(0)                // want "time.After"
	time.AfterFunc(0, func() {})   // want "time.AfterFunc"
	_ = since.Add(time.Minute)     // the time of an event
	_ = time.Unix(0, 0).Sub(since) // no clock
}

func chance() {
	_ = v2.IntN(2) // want "rand.IntN draws from the global source"
	_ = v2.N(7)    // want "rand.N draws"
	_ = rand.Int() // want "rand.Int draws"
	_ = v2.New(v2.NewPCG(1, 2)).IntN(2)
}

func goroutine() {
	go chance() // want "goroutine in a protocol core"
	var _ sync.Mutex
	var _ net.Addr
}
