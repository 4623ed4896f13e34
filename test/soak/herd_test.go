package soak

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// A herd is a crowd's process with elements as products have them (asap/pe), which
// look for a registrar when theirs is gone. Each has a socket of its own. It takes
// the commands
//
//	join ID POOL ADDRESS       registers an element
//	leave ID                   deregisters it
//
// in the same way. startCrowd starts one as the kind "elements".
const herdKind = "elements"

type herdChild struct {
	registrar string
	out       sync.Mutex
	mu        sync.Mutex
	elements  map[string]*pe.Element
}

// herdMain is the process's main program; at is the registrar's address, and encap
// its port for SCTP in UDP.
func herdMain(at, encap string) {
	c := &herdChild{registrar: at + "/" + encap, elements: make(map[string]*pe.Element)}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		f := strings.Fields(in.Text())
		switch f[1] {
		case "join":
			c.join(f[0], f[2], f[3], f[4])
		case "leave":
			go c.leave(f[0], f[2])
		}
	}
}

func (c *herdChild) say(number string, err error) {
	if err != nil {
		number += " " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	c.out.Lock()
	defer c.out.Unlock()
	fmt.Println(number)
}

func (c *herdChild) join(number, id, pool, addr string) {
	var n uint32
	_, err := fmt.Sscanf(id, "%x", &n)
	if err != nil {
		c.say(number, err)
		return
	}
	via := rserpool.ViaUDP
	if inLab() {
		via = rserpool.ViaKernel
	}
	var once sync.Once
	var last atomic.Value
	slow := time.AfterFunc(patience, func() {
		fmt.Fprintf(os.Stderr, "element %s is not registered after %v: %v\n", id, patience, last.Load())
	})
	at := netip.MustParseAddr(addr)
	e, err := pe.Open(pe.Config{
		Pool:       rserpool.PoolHandle(pool),
		ID:         rserpool.PEID(n),
		Transport:  rserpool.Transport{Type: rserpool.TCP, Port: crowdPort, Addrs: []netip.Addr{at}},
		Policy:     rserpool.Policy{Type: rserpool.RoundRobin},
		Registrars: []string{c.registrar},
		Via:        via,
		Notify: func(ev pe.Event) {
			last.Store(ev.String())
			if ev.Type == pe.Registered {
				slow.Stop()
				once.Do(func() { c.say(number, nil) })
			}
		},
	})
	if err != nil {
		c.say(number, err)
		return
	}
	c.mu.Lock()
	c.elements[id] = e
	c.mu.Unlock()
	go func() {
		<-e.Done()
		once.Do(func() { c.say(number, errors.New("the element has ended")) })
	}()
}

// leave ends an element; that no registrar has confirmed it is an error.
func (c *herdChild) leave(number, id string) {
	c.mu.Lock()
	e := c.elements[id]
	delete(c.elements, id)
	c.mu.Unlock()
	if e == nil {
		c.say(number, errors.New("no such element"))
		return
	}
	c.say(number, e.Close())
}

// herd is a herd's process with its elements, as its test sees it.
type herd struct {
	*churn
	crowd    *crowd
	elements []int64
}

func (c *churn) herd() *herd {
	return &herd{churn: c, crowd: startCrowd(c.t, c.s.ports, herdKind)}
}

// join registers an element.
func (h *herd) join(pool string) (wait func() error) {
	id := h.ids.Add(1)
	h.churn.elements[id].pool = pool
	h.elements = append(h.elements, id)
	return h.crowd.begin("join %08x %s 127.%d.%d.%d", id, pool, 64+id>>16, id>>8&0xff, id&0xff)
}

// fill registers n elements, in pools in turn, at most 16 at the same time.
func (h *herd) fill(n int) error {
	var waits []func() error
	for i := range n {
		waits = append(waits, h.join(h.pools[i%len(h.pools)]))
		if len(waits) == 16 {
			if err := all(waits); err != nil {
				return err
			}
			waits = waits[:0]
		}
	}
	return all(waits)
}

// gone notes that all elements have gone, before they go.
func (h *herd) gone(f fate) {
	now := time.Now()
	for _, id := range h.elements {
		h.end(id, f, now)
	}
	h.elements = nil
}
