package host

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestAlarm: an alarm rings at the earliest time to which it was set, once.
func TestAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := alarm{Timer: time.NewTimer(time.Hour)}
		defer a.Stop()
		began := time.Now()
		for _, d := range []time.Duration{5 * time.Second, 7 * time.Second, 3 * time.Second, 4 * time.Second} {
			a.set(time.Now(), d)
		}
		for _, tt := range []struct{ again, rings time.Duration }{{2 * time.Second, 3 * time.Second}, {time.Second, 5 * time.Second}} {
			<-a.C
			a.rings = time.Time{}
			if got := time.Since(began); got != tt.rings {
				t.Errorf("the alarm rings after %v, want %v", got, tt.rings)
			}
			a.set(time.Now(), tt.again)
		}
	})
}
