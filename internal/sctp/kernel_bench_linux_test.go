package sctp

import (
	"os"
	"strconv"
	"testing"
)

// BenchmarkKernelEcho sends requests of 200 bytes and gets them back, several
// at a time. Each operation is four messages' work: two sent, two received.
func BenchmarkKernelEcho(b *testing.B) {
	for _, outstanding := range []int{1, 16} {
		b.Run(strconv.Itoa(outstanding), func(b *testing.B) {
			server := kernelSide(b, "", Limits{}, "127.0.0.1:0")
			client := kernelSide(b, "", Limits{}, "127.0.0.1:0")
			server.hooked(func(ev Event) {
				if ev.Type == Received {
					_ = server.Send(ev.Assoc, ev.Message)
				}
			})
			answers := make(chan struct{}, outstanding)
			id := client.Connect(Dest{Addrs: server.LocalAddrs(), Kind: Kernel})
			client.up()
			client.hooked(func(ev Event) {
				if ev.Type == Received {
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
				if err := client.Send(id, Message{Data: data, PPID: 11}); err != nil {
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
	server := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	client := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	server.hooked(func(ev Event) {
		if ev.Type == Received {
			_ = server.Send(ev.Assoc, ev.Message)
		}
	})
	got := make(chan struct{})
	id := client.Connect(Dest{Addrs: server.LocalAddrs(), Kind: Kernel})
	client.up()
	client.hooked(func(ev Event) {
		if ev.Type == Received {
			got <- struct{}{}
		}
	})
	for range n {
		if err := client.Send(id, Message{Data: make([]byte, 200)}); err != nil {
			t.Fatal(err)
		}
		<-got
	}
}
