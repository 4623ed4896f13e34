package registrar

import (
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func TestLimits(t *testing.T) {
	limits := func(l Limits) func(*Config) { return func(c *Config) { c.Limits = l } }
	t.Run("elements", func(t *testing.T) {
		w := newWorld(t, limits(Limits{Elements: 2}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.recv(1, reg("q", 1, "10.0.0.1"))
		w.recv(1, reg("q", 2, "10.0.0.1"))
		w.recv(1, reg("q", 1, "10.0.0.1"))
		w.want("1 < registration granted p:1", "1 < registration granted q:1",
			"1 < registration rejected q:2 cause 6", "1 < registration granted q:1")
	})
	t.Run("elements of an association", func(t *testing.T) {
		w := newWorld(t, limits(Limits{ElementsPerAssoc: 1}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.up(2, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.recv(1, reg("p", 2, "10.0.0.1"))
		w.recv(2, reg("p", 2, "10.0.0.1"))
		w.recv(2, reg("p", 1, "10.0.0.1"))
		w.want("1 < registration granted p:1", "1 < registration rejected p:2 cause 6",
			"2 < registration granted p:2", "2 < registration rejected p:1 cause 6")
	})
	t.Run("pools", func(t *testing.T) {
		w := newWorld(t, limits(Limits{Pools: 1}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.recv(1, reg("q", 1, "10.0.0.1"))
		w.recv(1, reg("p", 2, "10.0.0.1"))
		w.want("1 < registration granted p:1", "1 < registration rejected q:1 cause 6", "1 < registration granted p:2")
	})
	t.Run("element bytes", func(t *testing.T) {
		w := newWorld(t, limits(Limits{ElementBytes: 300}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		fat := func(h string, id uint32, n int) *asap.Registration {
			m := reg(h, id, "10.0.0.1")
			m.Element.Unknown = []rserpool.Parameter{{Type: 0x8123, Value: make([]byte, n)}}
			return m
		}
		w.recv(1, fat("p", 1, 100)) // 148 and 48 for both addresses
		w.recv(1, fat("p", 2, 10))
		w.recv(1, fat("p", 1, 204))
		w.recv(1, fat("p", 1, 205))
		w.recv(1, fat("p", 1, 20))
		w.recv(1, fat("p", 2, 20))
		w.recv(1, dereg("p", 1))
		w.recv(1, fat("p", 3, 20))
		w.want("1 < registration granted p:1", "1 < registration rejected p:2 cause 6", "1 < registration granted p:1",
			"1 < registration rejected p:1 cause 6", "1 < registration granted p:1", "1 < registration granted p:2",
			"1 < deregistration p:1", "1 < registration granted p:3")
	})
	t.Run("handle bytes", func(t *testing.T) {
		w := newWorld(t, limits(Limits{HandleBytes: 5}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("abc", 1, "10.0.0.1"))
		w.recv(1, reg("def", 1, "10.0.0.1"))
		w.recv(1, reg("de", 1, "10.0.0.1"))
		w.want("1 < registration granted abc:1", "1 < registration rejected def:1 cause 6", "1 < registration granted de:1")
	})
	t.Run("handle bytes of many labels", func(t *testing.T) {
		w := newWorld(t, limits(Limits{HandleBytes: 140}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("a.b", 1, "10.0.0.1"))
		w.recv(1, reg("c.b", 1, "10.0.0.1"))
		w.recv(1, reg("c..b", 1, "10.0.0.1")) // fits no DNS name
		w.want("1 < registration granted a.b:1", "1 < registration rejected c.b:1 cause 6", "1 < registration granted c..b:1")
	})
	t.Run("handles alike", func(t *testing.T) {
		w := newWorld(t)
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		twin := func(i int) string {
			b := []byte("abcdefgh")
			for j := range b {
				b[j] -= byte(i>>j&1) * ('a' - 'A')
			}
			return string(b)
		}
		for i := range maxAlike {
			w.recv(1, reg(twin(i), 1, "10.0.0.1"))
		}
		w.skip("registration granted")
		w.recv(1, reg(twin(maxAlike), 1, "10.0.0.1"))
		w.recv(1, reg(twin(1), 2, "10.0.0.1"))
		w.recv(1, dereg(twin(2), 1))
		w.recv(1, reg(twin(maxAlike), 1, "10.0.0.1"))
		w.want("1 < registration rejected "+twin(maxAlike)+":1 cause 6", "1 < registration granted "+twin(1)+":2",
			"1 < deregistration "+twin(2)+":1", "1 < registration granted "+twin(maxAlike)+":1")
	})
	t.Run("element size", func(t *testing.T) {
		w := newWorld(t, limits(Limits{ElementSize: 50}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.recv(1, reg("p", 1, "10.0.0.1", asapAt(9, "10.0.0.1")))
		w.want("1 < registration granted p:1", "1 < registration rejected p:1 cause 6")
	})
}

// TestRefusalNamesLimit: the log says which limit a refused registration has met.
func TestRefusalNamesLimit(t *testing.T) {
	fat := func(id uint32, n int) *asap.Registration {
		m := reg("p", id, "10.0.0.1")
		m.Element.Unknown = []rserpool.Parameter{{Type: 0x8123, Value: make([]byte, n)}}
		return m
	}
	for _, tt := range []struct {
		name   string
		limits Limits
		first  *asap.Registration
		second *asap.Registration
		want   string
	}{
		{"pools", Limits{Pools: 1}, reg("p", 1, "10.0.0.1"), reg("q", 1, "10.0.0.1"), "limit pools (1) is reached"},
		{"elements", Limits{Elements: 1}, reg("p", 1, "10.0.0.1"), reg("p", 2, "10.0.0.1"), "limit elements (1) is reached"},
		{"elements of an association", Limits{ElementsPerAssoc: 1}, reg("p", 1, "10.0.0.1"), reg("p", 2, "10.0.0.1"), "limit elements_per_association (1) is reached"},
		{"handle bytes", Limits{HandleBytes: 3}, reg("pq", 1, "10.0.0.1"), reg("rs", 1, "10.0.0.1"), "limit handle_bytes (3) is reached"},
		{"element bytes", Limits{ElementBytes: 300}, fat(1, 100), fat(2, 100), "limit element_bytes (300) is reached"},
		{"element bytes, again", Limits{ElementBytes: 300}, fat(1, 100), fat(1, 300), "limit element_bytes (300) is reached"},
		{"element size", Limits{}, reg("p", 1, "10.0.0.1"), fat(2, 4096), "the Pool Element parameter has more than 4096 bytes"},
		{"handle", Limits{}, reg("p", 1, "10.0.0.1"), reg(strings.Repeat("h", maxHandle+1), 1, "10.0.0.1"), "the pool handle has 60001 bytes, and the most are 60000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.Limits = tt.limits })
			w.up(1, rserpool.ViaKernel, "10.0.0.1")
			w.recv(1, tt.first)
			w.skip("registration granted")
			w.logs = true
			w.recv(1, tt.second)
			if len(w.trace) != 2 || !strings.HasSuffix(w.trace[0], "is refused: lack of resources: "+tt.want) {
				t.Errorf("got %q, want a log line with %q", w.trace[:1], tt.want)
			}
		})
	}
	t.Run("handles alike", func(t *testing.T) {
		w := newWorld(t, func(c *Config) {})
		w.r.ledger.Limits.Alike = 1
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.logs = true
		w.recv(1, reg("P", 1, "10.0.0.1"))
		if want := "1 pools have handles that differ from this one in ASCII case only"; !strings.Contains(w.trace[len(w.trace)-2], want) {
			t.Errorf("got %q, want a log line with %q", w.trace, want)
		}
	})
}
