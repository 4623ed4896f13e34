package clients

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// Element is an element of a pool, with its server: whatever one asks it by HTTP, it
// answers with Page.
type Element struct {
	ID      uint32
	Pool    string // "": that of its process
	Address string // "": the next free one of 203.0.113.0/24
	Port    uint16 // 0: 8080
	Policy  string // as `rsp register --policy` has it; "": rr
}

// Page is what an element's server says: a metric, for Prometheus.
func (e Element) Page() string { return fmt.Sprintf("element{id=\"%08x\"} 1\n", e.ID) }

// Elements is a process with elements of a pool.
type Elements struct {
	List []Element
	s    *Site
	p    *network.Process
	in   io.Writer
}

// Elements starts a process with elements, and waits until they are registered.
func (s *Site) Elements(pool string, list ...Element) *Elements {
	s.t.Helper()
	if s.elements == nil {
		s.elements = s.Host("elements", elementsRouter)
	}
	e := &Elements{s: s}
	var addrs []string
	for _, el := range list {
		if el.Pool == "" {
			el.Pool = pool
		}
		if el.Address == "" {
			s.used++
			el.Address = fmt.Sprintf("203.0.113.%d", s.used)
			addrs = append(addrs, el.Address)
		}
		if el.Port == 0 {
			el.Port = 8080
		}
		if el.Policy == "" {
			el.Policy = "rr"
		}
		e.List = append(e.List, el)
	}
	s.addresses(addrs)
	text, err := json.Marshal(e.List)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := s.elements.Command(os.Args[0])
	cmd.Env = append(os.Environ(), elementsEnv+"="+string(text))
	if e.in, err = cmd.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	e.p = s.elements.StartCommand(cmd)
	e.p.Next("done")
	return e
}

// addresses gives the elements' host more addresses.
func (s *Site) addresses(list []string) {
	s.t.Helper()
	if len(list) == 0 {
		return
	}
	var batch strings.Builder
	for _, a := range list {
		fmt.Fprintf(&batch, "addr add %s/32 dev eth0\n", a)
	}
	s.elements.Run("ip", "-batch", s.elements.NewFile("addresses", batch.String()))
}

// Kill kills the process: nothing is deregistered, and the sockets are gone.
func (e *Elements) Kill() {
	e.p.Signal(os.Kill)
	e.p.Wait()
}

// Update changes an element's policy values, in the form of Element.Policy.
func (e *Elements) Update(id uint32, policy string) { e.s.t.Helper(); e.do("update", id, policy) }

// Leave deregisters an element. Its server goes on.
func (e *Elements) Leave(id uint32) { e.s.t.Helper(); e.do("leave", id, "") }

func (e *Elements) do(what string, id uint32, policy string) {
	e.s.t.Helper()
	if _, err := fmt.Fprintf(e.in, "%s %d %s\n", what, id, policy); err != nil {
		e.s.t.Fatal(err)
	}
	e.p.Next("done")
}

// elementsEnv has a process of elements know what it is: this test's binary, run again.
const elementsEnv = "CLIENTS_ELEMENTS"

// Main is called first in TestMain. In a process of elements or of a pool user it does not
// return.
func Main() {
	// An ordinary user's path may lack the directory of most daemons.
	if path := os.Getenv("PATH"); !strings.Contains(path, "/usr/sbin") {
		_ = os.Setenv("PATH", path+":/usr/sbin")
	}
	elements, user := os.Getenv(elementsEnv), os.Getenv(userEnv)
	var err error
	switch {
	case elements != "":
		err = serveElements(elements)
	case user != "":
		err = resolve(user)
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serveElements registers elements, and obeys commands until standard input ends.
func serveElements(text string) error {
	var list []Element
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return err
	}
	open := map[uint32]*pe.Element{}
	for _, e := range list {
		p, err := e.open()
		if err != nil {
			return fmt.Errorf("element %08x: %w", e.ID, err)
		}
		open[e.ID] = p
	}
	for _, p := range open {
		if err := p.Wait(context.Background()); err != nil {
			return err
		}
	}
	fmt.Println("done")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := obey(open, in.Text()); err != nil {
			return fmt.Errorf("%s: %w", in.Text(), err)
		}
		fmt.Println("done")
	}
	return errors.New("the test has ended")
}

// open starts the server and joins the pool.
func (e Element) open() (*pe.Element, error) {
	policy, err := rserpool.ParsePolicy(e.Policy)
	if err != nil {
		return nil, err
	}
	at, err := netip.ParseAddr(e.Address)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(at, e.Port).String())
	if err != nil {
		return nil, err
	}
	page := e.Page()
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, page) }))
	}()
	return pe.Open(pe.Config{
		Pool: rserpool.PoolHandle(e.Pool), ID: rserpool.PEID(e.ID), Policy: policy,
		Transport:  rserpool.Transport{Type: rserpool.TCP, Port: e.Port, Addrs: []netip.Addr{at}},
		Registrars: []string{Server}, Via: rserpool.ViaUDP,
	})
}

func obey(open map[uint32]*pe.Element, line string) error {
	what, rest, _ := strings.Cut(line, " ")
	id, policy, _ := strings.Cut(rest, " ")
	var n uint32
	if _, err := fmt.Sscan(id, &n); err != nil {
		return err
	}
	switch what {
	case "leave":
		return open[n].Close()
	case "update":
		p, err := rserpool.ParsePolicy(policy)
		if err != nil {
			return err
		}
		return open[n].Update(p)
	}
	return errors.New("unknown command")
}
