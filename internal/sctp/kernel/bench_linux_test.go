package kernel

import (
	"os"
	"strconv"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// BenchmarkKernelEcho sends requests of 200 bytes and gets them back, several
// at a time. Each operation is four messages' work: two sent, two received.
func BenchmarkKernelEcho(b *testing.B) {
	for _, outstanding := range []int{1, 16} {
		b.Run(strconv.Itoa(outstanding), func(b *testing.B) {
			server := Side(b, "", sctp.Limits{}, "127.0.0.1:0")
			client := Side(b, "", sctp.Limits{}, "127.0.0.1:0")
			server.Hooked(func(ev sctp.Event) {
				if ev.Type == sctp.Received {
					_ = server.Send(ev.Assoc, ev.Message)
				}
			})
			answers := make(chan struct{}, outstanding)
			id := client.Connect(sctp.Dest{Addrs: server.LocalAddrs(), Kind: sctp.Kernel})
			client.Up()
			client.Hooked(func(ev sctp.Event) {
				if ev.Type == sctp.Received {
					answers <- struct{}{}
				}
			})
			data := make([]byte, 200)
			for range outstanding {
				answers <- struct{}{}
			}
			b.ReportAllocs()
			for b.Loop() {
				<-answers
				if err := client.Send(id, sctp.Message{Data: data, PPID: 11}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestKernelEchoes makes the number of echoes in SCTP_TEST_ECHOES, one after
// the other, for strace to count the system calls of.
func TestKernelEchoes(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("SCTP_TEST_ECHOES"))
	if n == 0 {
		t.Skip("SCTP_TEST_ECHOES is not set")
	}
	server := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	client := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	server.Hooked(func(ev sctp.Event) {
		if ev.Type == sctp.Received {
			_ = server.Send(ev.Assoc, ev.Message)
		}
	})
	got := make(chan struct{})
	id := client.Connect(sctp.Dest{Addrs: server.LocalAddrs(), Kind: sctp.Kernel})
	client.Up()
	client.Hooked(func(ev sctp.Event) {
		if ev.Type == sctp.Received {
			got <- struct{}{}
		}
	})
	for range n {
		if err := client.Send(id, sctp.Message{Data: make([]byte, 200)}); err != nil {
			t.Fatal(err)
		}
		<-got
	}
}
