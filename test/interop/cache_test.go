package interop

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestReferenceRegistrarCache: a user with a cache selects from a pool of RSPLIB's registrar,
// which gives all elements that are requested, and sends no updates: the cache asks again
// when its answer is stale, and only then.
func TestReferenceRegistrarCache(t *testing.T) {
	l := newLab(t)
	r, pe := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24")
	r.rspregistrar(registrarIP)
	var all []rserpool.PEID
	servers := map[rserpool.PEID]*proc{}
	for id := rserpool.PEID(1); id <= 5; id++ {
		servers[id] = pe.rspserver("echo", "0x"+id.String(), "-echo", fmt.Sprintf("-port=%d", 7000+uint32(id)))
		all = append(all, id)
	}
	u, err := pu.Open(pu.Config{
		Registrars: []string{registrarIP}, Via: rserpool.ViaKernel, Local: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.254:0")},
		Cache: pu.NewCache(pu.CacheConfig{Stale: time.Second}),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	// selected are the elements of two rounds.
	selected := func() ([]rserpool.PEID, error) {
		var seen []rserpool.PEID
		for range 10 {
			e, err := u.Select(t.Context(), "echo")
			if err != nil {
				return nil, err
			}
			seen = append(seen, e.ID)
		}
		slices.Sort(seen)
		return slices.Compact(seen), nil
	}
	want := func(want []rserpool.PEID) {
		t.Helper()
		eventually(t, fmt.Sprintf("the user selects %v", want), func() error {
			seen, err := selected()
			if err == nil && !slices.Equal(seen, want) {
				err = fmt.Errorf("%v", seen)
			}
			return err
		})
	}
	want(all)
	captured, begun := l.capture(), time.Now()
	u.Failed("echo", 2)
	if seen, err := selected(); err != nil || slices.Contains(seen, 2) {
		t.Errorf("selected %v, %v after the failure of 2", seen, err)
	}
	servers[3].kill(syscall.SIGKILL)
	want([]rserpool.PEID{1, 4, 5})
	most := int(time.Since(begun)/time.Second) + 1
	time.Sleep(2 * time.Second) // until the last packets are in the file
	captured.stop()
	if n := captured.countOf(asap.TypeHandleResolution); n == 0 || n > most {
		t.Errorf("%d requests, want at most one a second: %d", n, most)
	}
	if n := captured.countOf(asap.TypeEndpointUnreachable); n != 1 {
		t.Errorf("%d reports, want one", n)
	}
}
