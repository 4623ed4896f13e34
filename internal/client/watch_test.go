package client

import (
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatcher: one look every 2 s for all subscribers, none without any; a slow
// subscriber holds up nobody.
func TestWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks, state atomic.Int64
		w := watcher{subscribers: make(map[chan struct{}]struct{}), changes: func() (<-chan struct{}, func()) { return nil, func() {} }, look: func() string {
			looks.Add(1)
			return strconv.FormatInt(state.Load(), 10)
		}}
		a, b := w.subscribe(), w.subscribe()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := looks.Load(); n != 31 || len(a) != 0 {
			t.Errorf("%d looks, %d changes, want 31 and none", n, len(a))
		}
		for range 3 { // b does not look
			state.Add(1)
			time.Sleep(watchInterval)
			synctest.Wait()
			if len(a) != 1 || len(b) != 1 {
				t.Errorf("%d and %d changes are told, want one each", len(a), len(b))
			}
			<-a
		}
		w.unsubscribe(a)
		w.unsubscribe(b)
		n := looks.Load()
		time.Sleep(time.Minute)
		if looks.Load() != n {
			t.Error("it looks for nobody")
		}
	})
}
