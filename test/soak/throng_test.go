package soak

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// A throng is a process with many pool elements as products have them (asap/pe), each with
// its own sockets. It is this test's binary, run again with throngEnv set. A line on its
// standard input is a question: "count" is how many elements are back, "news" and "again" ask
// for a line of JSON, a throngNews. After "again" the next news begin. "leave FROM TO" closes
// elements and says how many could not deregister, "join FROM TO" opens them again.
const throngEnv = "SOAK_THRONG"

// With a directory in $SOAK_THRONG_TLS, each element has the files of a trusted scope in a
// directory there with its number.
const throngTLSEnv = "SOAK_THRONG_TLS"

// With $SOAK_THRONG_LEAN, the throng is a lean one: leanMain, which only Linux has.
const leanEnv = "SOAK_THRONG_LEAN"

var leanMain func(n int, pool, registrar string)

// $SOAK_THRONG_LOOK is how often the elements look at their files, in place of each minute.
const throngLookEnv = "SOAK_THRONG_LOOK"

// throngNews are the times at which elements were registered, or their registration stood
// again, and the numbers of other events.
type throngNews struct {
	Back                []time.Time // one for each element, its first one since it joined
	Resumed, Lost, Vain int
	Last                []string // what the last element to be back has told, with the times
}

// throngRecord notes what happens to the elements of a throng.
type throngRecord struct {
	mu   sync.Mutex
	news throngNews
	back []bool
	told [][]string // what each element has told until it was back
}

// throngChild is a throng in its process.
type throngChild struct {
	throngRecord
	config   pe.Config
	dir      string // of the files of a trusted scope, if there is one
	elements []*pe.Element
}

func throngMain() {
	var n int
	var pool, registrar, via string
	_, _ = fmt.Sscan(os.Getenv(throngEnv), &n, &pool, &registrar, &via)
	if os.Getenv(leanEnv) != "" {
		leanMain(n, pool, registrar)
		return
	}
	c := &throngChild{dir: os.Getenv(throngTLSEnv), elements: make([]*pe.Element, n)}
	c.expect(n)
	c.config = pe.Config{
		Pool:       rserpool.PoolHandle(pool),
		Policy:     rserpool.Policy{Type: rserpool.RoundRobin},
		Registrars: []string{registrar},
		Via:        rserpool.ViaUDP,
	}
	if via == "kernel" {
		c.config.Via = rserpool.ViaKernel
	}
	c.config.Timers.Files, _ = time.ParseDuration(os.Getenv(throngLookEnv))
	c.join(0, n)
	answerAll(c.answer)
}

// answerAll answers the questions on the standard input.
func answerAll(answer func(question string) any) {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		line, err := json.Marshal(answer(in.Text()))
		if err != nil {
			panic(err)
		}
		fmt.Println(string(line))
	}
}

func (c *throngChild) answer(question string) any {
	var what string
	var from, to int
	_, _ = fmt.Sscan(question, &what, &from, &to)
	switch what {
	case "leave":
		return c.leave(from, to)
	case "join":
		c.join(from, to)
	}
	return c.throngRecord.answer(what)
}

// expect makes a record of n elements.
func (r *throngRecord) expect(n int) { r.back, r.told = make([]bool, n), make([][]string, n) }

// answer answers a question about the record: how many elements are back, unless it is another one.
func (r *throngRecord) answer(what string) any {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, back := range r.back {
		if back {
			n++
		}
	}
	news := r.news
	switch what {
	case "again":
		r.news = throngNews{}
		clear(r.back)
		clear(r.told)
		return news
	case "news":
		return news
	}
	return n
}

// join opens elements.
func (c *throngChild) join(from, to int) {
	for i := from; i < to; i++ {
		own := c.config
		own.ID = rserpool.PEID(i + 1)
		own.Transport = rserpool.Transport{Type: rserpool.TCP, Port: 8080, Addrs: []netip.Addr{throngAddr(i)}}
		own.Notify = func(ev pe.Event) { c.note(i, ev.Type, ev.String()) }
		if c.dir != "" {
			own.TLS = throngFiles(c.dir, i)
		}
		var err error
		if c.elements[i], err = pe.Open(own); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// leave closes elements, and returns how many could not deregister.
func (c *throngChild) leave(from, to int) int {
	var failed atomic.Int64
	var all sync.WaitGroup
	for _, e := range c.elements[from:to] {
		all.Go(func() {
			if err := e.Close(); err != nil {
				failed.Add(1)
				fmt.Fprintln(os.Stderr, err)
			}
		})
	}
	all.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.back[from:to])
	return int(failed.Load())
}

// note notes an event of an element.
func (r *throngRecord) note(i int, ev pe.EventType, text string) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.back[i] && len(r.told[i]) < 16 {
		r.told[i] = append(r.told[i], now.Format("15:04:05.000 ")+text)
	}
	switch ev {
	case pe.Registered, pe.Resumed:
		if !r.back[i] {
			r.back[i] = true
			r.news.Last = r.told[i]
			r.news.Back = append(r.news.Back, now)
		}
		if ev == pe.Resumed {
			r.news.Resumed++
		}
	case pe.HomeLost:
		r.news.Lost++
	case pe.NoRegistrar:
		r.news.Vain++
	}
}

// throngFiles are the files of an element.
func throngFiles(dir string, i int) rserpool.TLSFiles {
	own := filepath.Join(dir, strconv.Itoa(i))
	return rserpool.TLSFiles{
		Cert: filepath.Join(own, trust.CertName), Key: filepath.Join(own, trust.KeyName), CA: filepath.Join(own, trust.CAName),
	}
}

// throngAddr is the address of an element. Several elements share one.
func throngAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 1, byte(i / 250 % 250), byte(i%250 + 1)})
}

// throng is a throng's process as its test sees it.
type throng struct {
	t   *testing.T
	n   int
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Reader
}

// startThrong starts n elements of a pool.
func startThrong(t *testing.T, p ports, pool string, n int, env ...string) *throng {
	t.Helper()
	x := &throng{t: t, n: n, cmd: polite(os.Args[0])}
	at, via := fmt.Sprintf("%s:%d/%d", p.host, p.asap, p.encap), "udp"
	if p.transport == "kernel" {
		at, via = fmt.Sprintf("%s:%d", p.host, p.asap), "kernel"
	}
	x.cmd.Env = append(append(os.Environ(), env...), fmt.Sprintf("%s=%d %s %s %s", throngEnv, n, pool, at, via))
	x.cmd.Stderr = os.Stderr
	childIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	x.cmd.Stdin, x.cmd.Stdout = childIn, childOut
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	childIn.Close()
	childOut.Close()
	x.in, x.out = in, bufio.NewReaderSize(out, 1<<20)
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill()
		_ = x.cmd.Wait()
		in.Close()
		out.Close()
	})
	return x
}

// ask asks a question, to which the answer is JSON.
func (x *throng) ask(question string, answer any) {
	x.t.Helper()
	if _, err := fmt.Fprintln(x.in, question); err != nil {
		x.t.Fatal(err)
	}
	line, err := x.out.ReadString('\n')
	if err == nil {
		err = json.Unmarshal([]byte(line), answer)
	}
	if err != nil {
		x.t.Fatalf("the elements' process says %q: %v", line, err)
	}
}

// again has the next news begin now.
func (x *throng) again() { x.ask("again", new(throngNews)) }

// leave closes elements, which deregister.
func (x *throng) leave(from, to int) {
	x.t.Helper()
	var failed int
	if x.ask(fmt.Sprintf("leave %d %d", from, to), &failed); failed > 0 {
		x.t.Errorf("%d of %d elements could not deregister", failed, to-from)
	}
}

// join opens elements that have left, and returns the events since the last ones were read,
// when all are registered.
func (x *throng) join(from, to int) throngNews {
	x.t.Helper()
	x.ask(fmt.Sprintf("join %d %d", from, to), new(int))
	return x.all(4 * patience)
}

// all waits until all elements are registered, or their registrations stand again.
func (x *throng) all(within time.Duration) throngNews {
	x.t.Helper()
	eventuallyWithin(x.t, within, "return of all elements", func() error {
		var n int
		if x.ask("count", &n); n < x.n {
			return fmt.Errorf("%d of %d", n, x.n)
		}
		return nil
	})
	var n throngNews
	x.ask("news", &n)
	slices.SortFunc(n.Back, time.Time.Compare)
	return n
}

// cpu is the processor time that the elements have used.
func (x *throng) cpu() time.Duration { return cpuOf(x.t, x.cmd.Process.Pid) }
