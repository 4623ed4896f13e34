package pu

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// FuzzCache: whatever a registrar answers, the cache stays within its bounds, and selects
// each element that it has.
func FuzzCache(f *testing.F) {
	for _, m := range []interface {
		Append(b []byte) ([]byte, error)
	}{answer(2, true), answer(3, false), negative(rserpool.CauseUnknownPoolHandle)} {
		data, err := m.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, data)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		d := newDriver(t)
		c := newCacheCore(CacheConfig{Elements: 4}, rand.New(rand.NewPCG(1, 2)))
		c.pick(d.now, testPool, choice{})
		id := c.take()[0].id
		d.resolve(4, true)
		d.up(1)
		for _, data := range [][]byte{first, second} {
			d.k.Received(d.now, 1, data)
			_, results := d.k.take()
			for _, r := range results {
				c.answered(d.now, testPool, id, r)
			}
			if pools, elements := c.space.Len(); pools > 1 || elements > 4 {
				t.Fatalf("%d pools, %d elements", pools, elements)
			}
			var tried []rserpool.PEID
			for {
				el, v := c.pick(d.now, testPool, choice{without: tried, answered: true})
				if v != picked {
					break
				}
				tried = append(tried, el.ID)
				if len(tried) > 4 {
					t.Fatalf("selected %v", tried)
				}
				c.failed(d.now, testPool, el.ID)
			}
			d.now = d.now.Add(time.Minute)
		}
	})
}
