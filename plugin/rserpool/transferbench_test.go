package rserpool

import (
	"fmt"
	"net"
	"testing"

	"github.com/coredns/coredns/plugin/file"
	"github.com/coredns/coredns/plugin/transfer"
	"github.com/miekg/dns"

	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// largeSpace has n elements in pools of size.
func largeSpace(t testing.TB, n, size int) *fakeRegistrar {
	f := newFake()
	for i := range n {
		a := fmt.Sprintf("10.%d.%d.%d 2001:db8::%x:%x", i>>16, i>>8&0xff, i&0xff, i>>16, i&0xffff)
		put(t, f.space, fmt.Sprintf("pool-%06d", i/size), element(rsp.PEID(i), 8080, a))
	}
	return f
}

// BenchmarkTransfer compares the transfer of 100,000 elements, in pools of three and in one
// pool, with that of the same zone by the file plugin: packed, without the network.
func BenchmarkTransfer(b *testing.B) {
	for _, size := range []int{3, 100_000} {
		h := newTestHandler(b, "rserpool pool.example.org", largeSpace(b, 100_000, size))
		all := transferred(b, h, zoneZ, 0)
		z := file.NewZone(zoneZ, "")
		for _, rr := range all[:len(all)-1] {
			if err := z.Insert(rr); err != nil {
				b.Fatal(err)
			}
		}
		records := len(all)
		all = nil
		f := file.File{Zones: file.Zones{Z: map[string]*file.Zone{zoneZ: z}, Names: []string{zoneZ}}}
		for _, c := range []struct {
			name string
			from transfer.Transferer
		}{{"rserpool", h}, {"file", f}} {
			b.Run(fmt.Sprintf("%d/%s", size, c.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					ch, err := c.from.Transfer(zoneZ, 0)
					if err != nil {
						b.Fatal(err)
					}
					if n := packAll(b, ch); n != records {
						b.Fatalf("%d records, want %d", n, records)
					}
				}
			})
		}
	}
}

// packAll does what the transfer plugin does with the records.
func packAll(b *testing.B, ch <-chan []dns.RR) (n int) {
	out := make(chan *dns.Envelope)
	done := make(chan error)
	go func() { done <- new(dns.Transfer).Out(discard{}, new(dns.Msg).SetAxfr(zoneZ), out) }()
	var rrs []dns.RR
	size := 0
	for records := range ch {
		for _, rr := range records {
			n++
			length := dns.Len(rr)
			if len(rrs) > 0 && size+length > 63000 {
				out <- &dns.Envelope{RR: rrs}
				rrs, size = nil, 0
			}
			rrs, size = append(rrs, rr), size+length
		}
	}
	out <- &dns.Envelope{RR: rrs}
	close(out)
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	return n
}

// discard packs messages and forgets them.
type discard struct{}

func (discard) WriteMsg(m *dns.Msg) error {
	_, err := m.Pack()
	return err
}
func (discard) LocalAddr() net.Addr         { return nil }
func (discard) RemoteAddr() net.Addr        { return nil }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }
func (discard) TsigStatus() error           { return nil }
func (discard) TsigTimersOnly(bool)         {}
func (discard) Hijack()                     {}
func (discard) Network() string             { return "tcp" }
