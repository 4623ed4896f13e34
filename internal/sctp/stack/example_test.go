package stack_test

import (
	"fmt"
	"net/netip"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
)

func Example() {
	// A server that sends back what it gets.
	server, err := stack.New(stack.Config{Only: sctp.UDP})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	local := sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}}
	var echo sctp.Endpoint
	echo, err = server.Listen(local, func(ev sctp.Event) {
		if ev.Type == sctp.Received {
			_ = echo.Send(ev.Assoc, ev.Message)
		}
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	// A client.
	client, err := stack.New(stack.Config{Only: sctp.UDP})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	done := make(chan struct{})
	e, err := client.Listen(local, func(ev sctp.Event) {
		switch ev.Type {
		case sctp.Up:
			fmt.Println("up over", ev.Kind)
		case sctp.Received:
			fmt.Printf("%s, PPID %d\n", ev.Message.Data, ev.Message.PPID)
			close(done)
		}
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	a := e.Connect(sctp.Dest{Addrs: echo.LocalAddrs(), EncapPort: server.EncapPort()})
	if err := e.Send(a, sctp.Message{Data: []byte("hello"), PPID: 11}); err != nil {
		fmt.Println(err)
	}
	<-done
	// Output:
	// up over udp
	// hello, PPID 11
}
