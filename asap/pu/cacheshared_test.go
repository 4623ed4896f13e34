package pu

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestCloseAsks: a user of a shared cache is closed while it asks for a pool. The others get
// the pool.
func TestCloseAsks(t *testing.T) {
	for _, test := range []struct {
		name   string
		end    func(a *User)
		before bool // the request
	}{
		{"closed", func(a *User) { a.Close() }, false},
		{"ended by a mistake", func(a *User) {
			a.driver.Do(func(time.Time) { panic("the test says so") })
			<-a.driver.Done()
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Which the driver of the user takes first, the request or the end, is chance.
			for range 20 {
				inWorld(t, 1, func(t *testing.T, w *world) {
					cache := NewCache(CacheConfig{})
					a, b := w.open(Config{Cache: cache}), w.open(Config{Cache: cache})
					defer b.Close()
					block := make(chan struct{})
					a.driver.Do(func(time.Time) { <-block })
					synctest.Wait()
					if test.before {
						go test.end(a)
						synctest.Wait()
					}
					go func() { _, _ = a.Select(context.Background(), testPool) }()
					synctest.Wait()
					if !test.before {
						go test.end(a)
						synctest.Wait()
					}
					close(block)
					<-a.driver.Done()
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					if _, err := b.Select(ctx, testPool); err != nil {
						t.Errorf("Select of the other user: %v", err)
					}
				})
			}
		})
	}
}

// TestPopulateOfOthers: a user waits for what another one has asked. When that one is closed,
// it asks itself.
func TestPopulateOfOthers(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		cache := NewCache(CacheConfig{})
		a, b := w.open(Config{Cache: cache}), w.open(Config{Cache: cache})
		user, registrar := netip.MustParseAddr("10.0.0.21"), netip.MustParseAddr("10.0.0.1")
		w.nw.Cut(user, registrar)
		go func() { _ = a.Populate(context.Background(), testPool) }()
		synctest.Wait()
		got := make(chan error)
		go func() { got <- b.Populate(t.Context(), testPool) }()
		go func() {
			_, err := b.Elements(t.Context(), testPool)
			got <- err
		}()
		synctest.Wait()
		go a.Close()
		time.Sleep(time.Second)
		w.nw.Heal(user, registrar)
		for range 2 {
			if err := <-got; err != nil {
				t.Errorf("the other user gets %v", err)
			}
		}
		<-a.driver.Done()
		b.Close()
	})
}
