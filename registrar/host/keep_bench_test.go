package host

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/state"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// manyKept is element i of many, 1000 to a pool and 16 to a host.
func manyKept(i int) *kept {
	host := i / 16
	addr := netip.AddrFrom4([4]byte{10, byte(host >> 16), byte(host >> 8), byte(host)})
	addrs := []netip.Addr{addr}
	return &kept{
		Handle: rserpool.PoolHandle(fmt.Sprintf("service-%d.region", i%1000)),
		PE: &handlespace.Element{PoolElement: rserpool.PoolElement{
			ID: rserpool.PEID(i*2654435761 + 1), Home: 1, Life: 600,
			UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: uint16(i), Addrs: addrs},
			ASAPTransport: rserpool.Transport{Type: rserpool.SCTP, Port: 40000, Addrs: addrs},
			Policy:        rserpool.Policy{Type: rserpool.RoundRobin},
		}},
		Via: rserpool.ViaUDP, EncapPort: 9899, Host: []netip.AddrPort{netip.AddrPortFrom(addr, 40000)},
	}
}

// manyElements is a state directory with n elements.
func manyElements(b testing.TB, n int) string {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "state")
	s, err := state.Open(state.Config{Dir: dir, MaxPending: n, Stamp: func(now time.Time) map[string][]byte {
		return map[string][]byte{stampAlive: fmt.Appendf(nil, "%s", number(now.UnixMilli()))}
	}})
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		k := manyKept(i)
		s.Put(keyOf(k.Handle, k.PE.ID), k)
	}
	s.Start()
	if err := s.Close(10 * time.Minute); err != nil {
		b.Fatal(err)
	}
	return dir
}

func number(n int64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(n >> (56 - 8*i))
	}
	return b
}

// BenchmarkRestore opens a registrar that begins with a million elements, until all of them
// are in the handlespace. Its heap is small at first, as that of a new process.
func BenchmarkRestore(b *testing.B) {
	const n = 1_000_000
	all := manyElements(b, n)
	var used time.Duration
	var bytes uint64
	rounds := 0
	for b.Loop() {
		b.StopTimer()
		dir := filepath.Join(b.TempDir(), "state")
		if err := os.CopyFS(dir, os.DirFS(all)); err != nil {
			b.Fatal(err)
		}
		before := heap()
		begin := cpu(b)
		b.StartTimer()
		h, err := Open(Config{
			Config:  registrar.Config{Limits: registrar.Limits{Elements: n, Pools: n}},
			ASAP:    []netip.AddrPort{netip.MustParseAddrPort(hostAddr)},
			network: func() (network, error) { return memory{sctptest.NewNetwork()}, nil },
			State:   dir,
		})
		if err != nil {
			b.Fatal(err)
		}
		if _, got := h.Space().Len(); got != n {
			b.Fatalf("%d elements", got)
		}
		b.StopTimer()
		used += cpu(b) - begin
		bytes += heap() - before
		rounds++
		h.cfg.CloseTimeout = time.Nanosecond
		_ = h.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(used.Microseconds())/float64(rounds)/1000, "cpu-ms/op")
	b.ReportMetric(float64(bytes)/float64(rounds)/n, "B/element")
}

// heap is how much memory is in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkKeep writes 1000 changes of a million elements: what a second costs in which so
// many change.
func BenchmarkKeep(b *testing.B) {
	const n, changes = 1_000_000, 1000
	s, err := state.Open(state.Config{Dir: manyElements(b, n), Every: time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	s.Start()
	defer s.Close(time.Minute)
	wait := func(writes uint64) {
		for s.Stats().Writes < writes || s.Stats().Pending > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	wait(1)
	begin := cpu(b)
	i, rounds := 1, 0
	for b.Loop() {
		before := s.Stats().Writes
		for range changes {
			k := manyKept(i % n)
			i += 7919
			k.PE.Policy.Weight = uint32(i)
			k.PE.Policy.Type = rserpool.WeightedRoundRobin
			s.Put(keyOf(k.Handle, k.PE.ID), k)
		}
		wait(before + 1)
		rounds++
	}
	b.ReportMetric(float64((cpu(b)-begin).Microseconds())/float64(rounds)/1000, "cpu-ms/op")
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
