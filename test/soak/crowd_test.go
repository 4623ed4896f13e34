package soak

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// A crowd is a process with many associations, each with several elements, so
// that a test can kill and suspend them. It is this test's binary, run again
// with crowdEnv set. It takes commands from its standard input, one a line:
//
//	open N ADDRESS             an endpoint at an address, associated with the registrar
//	register N POOL ID LOAD    an element; again to change its load
//	deregister N POOL ID
//	close N                    the endpoint, as by an exit in good order
//
// and answers with the words behind it, "ok" or "failed" first, when that is
// done.
const crowdEnv = "SOAK_CROWD"

// crowdPort is where the elements say that they serve.
const crowdPort = 8080

type crowdChild struct {
	stack *stack.Stack
	kind  sctp.Kind
	dest  sctp.Dest

	mu     sync.Mutex
	out    *bufio.Writer
	places map[string]*crowdPlace
	// waiting are the numbers of the commands that wait for a response about
	// an element.
	waiting map[string]string
}

// crowdPlace is an endpoint with its association.
type crowdPlace struct {
	ep    sctp.Endpoint
	addr  netip.Addr
	assoc sctp.AssocID
	open  string // the number of the command that waits for Up
}

func crowdMain() {
	f := strings.Fields(os.Getenv(crowdEnv)) // kind, registrar, encapsulation port
	if f[0] == herdKind {
		herdMain(f[1], f[2])
		return
	}
	c := &crowdChild{out: bufio.NewWriter(os.Stdout), places: map[string]*crowdPlace{}, waiting: map[string]string{}}
	mode := sctp.UDP
	c.kind = sctp.UDP
	if f[0] == "kernel" {
		c.kind, mode = sctp.Kernel, sctp.Kernel
	}
	c.dest = sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort(f[1])}, Kind: c.kind}
	_, _ = fmt.Sscan(f[2], &c.dest.EncapPort)
	var err error
	if c.stack, err = stack.New(stack.Config{Only: mode}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		c.command(in.Text())
	}
}

// say tells that a command is done, or why it is not.
func (c *crowdChild) say(number string, err error) {
	if err != nil {
		number += " " + err.Error()
	}
	fmt.Fprintln(c.out, number)
	_ = c.out.Flush()
}

func (c *crowdChild) command(line string) {
	number, line, _ := strings.Cut(line, " ")
	f := strings.Fields(line)
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.places[f[1]]
	var id uint32
	if len(f) > 3 {
		_, _ = fmt.Sscanf(f[3], "%x", &id)
	}
	var m asap.Message
	switch f[0] {
	case "open":
		p = &crowdPlace{addr: netip.MustParseAddr(f[2]), open: number}
		ep, err := c.stack.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.AddrPortFrom(p.addr, 0)}}, func(ev sctp.Event) { c.event(p, ev) })
		if err != nil {
			c.say(number, err)
			return
		}
		p.ep = ep
		p.assoc = ep.Connect(c.dest)
		c.places[f[1]] = p
		return
	case "close":
		delete(c.places, f[1])
		c.mu.Unlock()
		_ = p.ep.Close() // it waits for event
		c.mu.Lock()
		c.say(number, nil)
		return
	case "register":
		load := uint32(0)
		_, _ = fmt.Sscanf(f[4], "%x", &load)
		m = &asap.Registration{Handle: rserpool.PoolHandle(f[2]), Element: rserpool.PoolElement{
			ID: rserpool.PEID(id), Life: 86400,
			UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: crowdPort, Addrs: []netip.Addr{p.addr}},
			Policy:        crowdPolicy(f[2], load),
		}}
	case "deregister":
		m = &asap.Deregistration{Handle: rserpool.PoolHandle(f[2]), ID: rserpool.PEID(id)}
	}
	c.waiting[f[3]] = number
	if err := c.send(p, p.assoc, m); err != nil {
		delete(c.waiting, f[3])
		c.say(number, err)
	}
}

// crowdPolicy is a pool's policy, by its name.
func crowdPolicy(pool string, load uint32) rserpool.Policy {
	if strings.HasPrefix(pool, "lu") {
		return rserpool.Policy{Type: rserpool.LeastUsed, Load: load}
	}
	return rserpool.Policy{Type: rserpool.RoundRobin}
}

func (c *crowdChild) send(p *crowdPlace, a sctp.AssocID, m asap.Message) error {
	b, err := m.Append(nil)
	if err != nil {
		return err
	}
	return p.ep.Send(a, sctp.Message{Data: b, PPID: asap.PPID})
}

// event takes part in ASAP: over the association that it has opened, and over
// those by which the registrar calls back.
func (c *crowdChild) event(p *crowdPlace, ev sctp.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch ev.Type {
	case sctp.Up:
		if p.open != "" && ev.Assoc == p.assoc {
			c.say(p.open, nil)
			p.open = ""
		}
	case sctp.Down:
		if p.open != "" && ev.Assoc == p.assoc {
			c.say(p.open, fmt.Errorf("%w, reason %d", ev.Err, ev.Reason))
			p.open = ""
		}
	case sctp.Received:
		m, _, err := asap.Parse(ev.Message.Data)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		switch m := m.(type) {
		case *asap.EndpointKeepAlive:
			_ = c.send(p, ev.Assoc, &asap.EndpointKeepAliveAck{Handle: m.Handle, ID: m.ID})
		case *asap.RegistrationResponse:
			c.done(m.ID, m.Reject, m.Causes)
		case *asap.DeregistrationResponse:
			c.done(m.ID, false, m.Causes)
		}
	}
}

func (c *crowdChild) done(id rserpool.PEID, reject bool, causes []rserpool.Cause) {
	key := fmt.Sprintf("%08x", uint32(id))
	number, ok := c.waiting[key]
	delete(c.waiting, key)
	switch {
	case !ok:
	case reject || len(causes) > 0:
		c.say(number, fmt.Errorf("refused: %v", causes))
	default:
		c.say(number, nil)
	}
}

// crowd is a crowd's process as its test sees it.
type crowd struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser

	mu      sync.Mutex
	number  int
	waiting map[string]chan string // by the command's number
	ended   chan struct{}
}

// polite is a command that leaves the processor to the registrar: elements run on machines of
// their own, and many processes of them would take its share here.
func polite(program string) *exec.Cmd { return exec.Command("nice", "-n", "10", program) }

// startCrowd starts a crowd for a registrar, over kernel or udp, or a herd.
func startCrowd(t *testing.T, p ports, kind string) *crowd {
	t.Helper()
	c := &crowd{t: t, waiting: map[string]chan string{}, ended: make(chan struct{})}
	c.cmd = polite(os.Args[0])
	c.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s:%d %d", crowdEnv, kind, p.host, p.asap, p.encap))
	c.cmd.Stderr = os.Stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			c.answer(s.Text())
		}
		_ = c.cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(c.kill)
	return c
}

func (c *crowd) answer(line string) {
	number, why, _ := strings.Cut(line, " ")
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch := c.waiting[number]; ch != nil {
		delete(c.waiting, number)
		ch <- why
	}
}

// begin gives a command; the returned function waits until it is done.
func (c *crowd) begin(format string, args ...any) (wait func() error) {
	command := fmt.Sprintf(format, args...)
	ch := make(chan string, 1)
	c.mu.Lock()
	c.number++
	number := strconv.Itoa(c.number)
	c.waiting[number] = ch
	_, err := io.WriteString(c.in, number+" "+command+"\n")
	c.mu.Unlock()
	return func() error {
		if err != nil {
			return fmt.Errorf("crowd: %s: %w", command, err)
		}
		select {
		case why := <-ch:
			if why != "" {
				return fmt.Errorf("crowd: %s: %s", command, why)
			}
			return nil
		case <-c.ended:
			return fmt.Errorf("crowd: %s: the process has ended", command)
		case <-time.After(4 * patience): // a herd can be thousands
			return fmt.Errorf("crowd: %s: not done within %v", command, 4*patience)
		}
	}
}

// do gives a command and waits until it is done.
func (c *crowd) do(format string, args ...any) error { return c.begin(format, args...)() }

func (c *crowd) signal(s syscall.Signal) { _ = c.cmd.Process.Signal(s) }

// kill ends the process without a chance to say goodbye.
func (c *crowd) kill() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}
