package network

import (
	"fmt"
	"os"
	"sync"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// elementsEnv has this test's binary be many elements: its value is a pool, a registrar and
// a number. It says "all registered" when they are. The tests of the other package in this
// directory name the variable themselves.
const elementsEnv = "NETWORK_ELEMENTS"

func elementsMain(text string) {
	var pool, registrar string
	var n int
	via, err := rserpool.ParseVia(via())
	if err != nil {
		panic(err)
	}
	if _, err := fmt.Sscan(text, &pool, &registrar, &n); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var up sync.WaitGroup
	for i := range n {
		var once sync.Once
		up.Add(1)
		_, err := pe.Open(pe.Config{
			Pool: rserpool.PoolHandle(pool), ID: rserpool.PEID(i + 1),
			Transport:  rserpool.Transport{Type: rserpool.TCP, Port: 80},
			Policy:     rserpool.Policy{Type: rserpool.RoundRobin},
			Registrars: []string{registrar},
			Via:        via,
			Notify: func(ev pe.Event) {
				if ev.Type == pe.Registered {
					once.Do(up.Done)
				}
			},
		})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	up.Wait()
	fmt.Println("all registered")
	select {}
}
