package lookup

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// now is the time of tests whose time stands still.
var now = time.Unix(1_000_000_000, 0)

func newSpace() *handlespace.Space { return handlespace.New(rand.New(rand.NewPCG(1, 2))) }

// element makes a round robin element.
func element(id rsp.PEID, addrs string) *handlespace.Element {
	e := &handlespace.Element{PoolElement: rsp.PoolElement{
		ID:            id,
		Home:          0x0000cafe,
		Life:          -1,
		UserTransport: rsp.Transport{Type: rsp.TCP, Port: 80},
		Policy:        rsp.Policy{Type: rsp.RoundRobin},
	}}
	for _, a := range strings.Fields(addrs) {
		e.UserTransport.Addrs = append(e.UserTransport.Addrs, netip.MustParseAddr(a))
	}
	return e
}

func put(t testing.TB, s *handlespace.Space, pool string, elements ...*handlespace.Element) {
	t.Helper()
	for _, e := range elements {
		if _, err := s.Put(rsp.PoolHandle(pool), e); err != nil {
			t.Fatalf("pool %q, element %v: %v", pool, e.ID, err)
		}
	}
}

// asker asks a memory.
type asker struct {
	memory *Memory
	pools  []*handlespace.Pool
	moved  int // selections of the policies
}

func newAsker(t testing.TB, pools, elements int) *asker {
	space := newSpace()
	a := &asker{memory: New(256, 1)}
	for i := range pools {
		name := fmt.Sprint("pool", i)
		for id := 1; id <= elements; id++ {
			put(t, space, name, element(rsp.PEID(id), fmt.Sprintf("192.0.2.%d 2001:db8::%x", id, id)))
		}
		a.pools = append(a.pools, space.Pool(rsp.PoolHandle(name)))
	}
	return a
}

func (a *asker) ask(c Origin, pool int, k Kind, at time.Duration) rsp.PEID {
	var buf [1]*handlespace.Element
	families := k.Families()
	got, reused := a.memory.Pick(buf[:0], &c, a.pools[pool], k, families, 1, now.Add(at))
	if !reused {
		a.moved++
	}
	return got[0].ID
}
