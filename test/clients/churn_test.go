package clients_test

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/clients"
	"github.com/rserpool/coredns-rserpool/test/clients/recipe"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// sizes are the sizes of the pools, whose names are "p" and the size. Answers have no
// more than most elements (option answers).
var sizes = []int{3, 8, 60, 150}

const most = 100

// watched is a client that the test watches.
type watched struct {
	consumer
	kind string
	pool int
	via  string
	// part: the client may have a part of the pool; single: it has one element at a time.
	part, single bool

	want set // what it has
	base int // losses at that time
}

func (w *watched) String() string { return fmt.Sprintf("%s, pool of %d, %s", w.kind, w.pool, w.via) }

// kinds are the clients. Each is started with the recipe of docs/clients.md.
var kinds = []string{"haproxy", "haproxy by TCP", "haproxy with 512 octets", "prometheus", "prometheus, A", "caddy", "nginx"}

// inShort reports whether the short form has a combination: each client and each name
// server, and pools of each size.
func inShort(kind string, pool int, via string) bool {
	return slices.Contains([]string{
		"haproxy 150 directly", "haproxy 60 unbound", "haproxy 8 BIND", "haproxy by TCP 150 BIND", "haproxy by TCP 60 unbound",
		"haproxy with 512 octets 60 directly", "haproxy with 512 octets 3 unbound",
		"prometheus 60 unbound", "prometheus 150 BIND", "prometheus, A 8 directly",
		"caddy 60 directly", "caddy 8 unbound",
		"nginx 3 unbound", "nginx 8 BIND",
	}, fmt.Sprint(kind, " ", pool, " ", via))
}

// cut reports whether a resolver's answer over UDP is too short for the pool. It has no
// record then: resolvers remove the whole set where we keep the elements that fit.
// HAProxy does not repeat the query over TCP, so it has no server.
func cut(kind string, pool int, via string) bool {
	switch {
	case kind == "haproxy with 512 octets":
		return pool > 8 && via != "directly"
	case kind == "haproxy":
		return pool > 8 && via == "BIND" || pool > 60 && via == "unbound"
	}
	return false
}

// TestChurn: clients that use a set of servers lose none of them while nothing changes.
// An element that dies is out of each client within the TTL, 2 s and the client's poll
// interval; a new one is in within that time.
func TestChurn(t *testing.T) {
	t.Parallel()
	ttl, poll, watch := 1, 1, 6*time.Second
	if *long {
		ttl, poll, watch = 5, 5, 10*time.Minute
	}
	c := &churn{t: t, at: map[string]string{}, ttl: time.Duration(ttl) * time.Second, poll: time.Duration(poll) * time.Second}
	text := corefile(fmt.Sprintf("ttl %d", ttl)) + setCorefile(ttl)
	if *long {
		// So many clients make the machine busy.
		text = strings.ReplaceAll(text, "KEEP-ALIVE-INTERVAL 500ms", "KEEP-ALIVE-INTERVAL 1s\n        timer KEEP-ALIVE-TIMEOUT 20s")
	}
	c.site = clients.NewBridged(t, text)
	c.fill()
	c.start()
	c.each(func(w *watched) error { return c.steady(w) })
	t.Logf("%d clients have their servers", len(c.list))
	c.each(func(w *watched) error { return c.watch(w, watch) })
	c.die()
	c.join()
}

// setCorefile is a zone with the same registrar, for clients that read A records as a set.
func setCorefile(ttl int) string {
	return strings.NewReplacer(clients.Zone, "set.example.org", "transport udp", fmt.Sprintf("transport udp\nttl %d\naddresses 16", ttl)).Replace(clients.Corefile)
}

type churn struct {
	t         *testing.T
	site      *clients.Site
	ttl, poll time.Duration
	list      []*watched
	victims   *clients.Elements

	mu sync.Mutex
	at map[string]string // identifiers by address
}

// The identifiers of the elements that die and that come.
const victim, newcomer = 0xdead, 0xbea7

func (c *churn) fill() {
	var list, victims []clients.Element
	for _, n := range sizes {
		name := fmt.Sprint("p", n)
		for _, e := range pool(1, n-1) {
			e.Pool = name
			list = append(list, e)
		}
		victims = append(victims, clients.Element{ID: victim, Pool: name})
	}
	c.name(c.site.Elements("", list...))
	c.victims = c.site.Elements("", victims...)
	c.name(c.victims)
}

// name notes the addresses of elements, for clients that know no more of them.
func (c *churn) name(e *clients.Elements) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, el := range e.List {
		c.at[el.Address] = fmt.Sprintf("%08x", el.ID)
	}
}

// idAt is the identifier of the element at an address.
func (c *churn) idAt(address string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[address]
}

// start starts the clients.
func (c *churn) start() {
	resolvers := map[string]string{
		"directly": clients.Server,
		"unbound":  c.site.Unbound(caseAndMinimisation + recipe.Text(c.t, "unbound.conf") + strings.ReplaceAll(stubZone(recipe.Text(c.t, "unbound.conf")), clients.Zone, "set.example.org")).Address,
		"BIND":     c.site.BIND("", recipe.Text(c.t, "named.conf")+strings.ReplaceAll(recipe.Text(c.t, "named.conf"), clients.Zone, "set.example.org")).Address,
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	some := make(chan bool, 8) // that start at the same time
	for _, kind := range kinds {
		for _, n := range sizes {
			for via, server := range resolvers {
				if cut(kind, n, via) {
					continue
				}
				if *long && !(kind == "prometheus, A" && n > 8) || inShort(kind, n, via) {
					w := &watched{kind: kind, pool: n, via: via}
					s := start{Site: c.site, t: c.t, host: c.site.Client(kind), server: server, name: fmt.Sprintf("p%d.%s", n, clients.Zone), poll: c.poll, idAt: c.idAt}
					some <- true
					wg.Go(func() {
						defer func() { <-some }()
						c.run(w, s)
						if err := c.steady(w); err != nil {
							c.t.Errorf("%v: %v", w, err)
						}
						mu.Lock()
						c.list = append(c.list, w)
						mu.Unlock()
					})
				}
			}
		}
	}
	wg.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// caseAndMinimisation has unbound draw the case of its questions, and ask for no more
// than it must.
const caseAndMinimisation = `	use-caps-for-id: yes
	qname-minimisation: yes
	qname-minimisation-strict: yes
`

// stubZone is the part of unbound's configuration that begins with the zone.
func stubZone(conf string) string { return conf[strings.Index(conf, "stub-zone:"):] }

// run starts one client.
func (c *churn) run(w *watched, s start) {
	const check, scrape = "init-addr none check", "scrape_interval: 5s"
	checkEvery, scrapeEvery := check, scrape
	if *long {
		checkEvery, scrapeEvery = check+" inter 20s", "scrape_interval: 15s"
	}
	every := fmt.Sprintf("%ds", int(c.poll.Seconds()))
	servers := min(w.pool, most)
	switch w.kind {
	case "haproxy":
		w.consumer = startHAProxy(s, s.recipe("haproxy.cfg", "192.0.2.53", s.server, "hold valid 5s", "hold valid "+every, check, checkEvery))
	case "haproxy by TCP":
		section := regexp.MustCompile(`(?s)resolvers pools\n.*?\n\n`).FindString(recipe.Text(c.t, "haproxy.cfg"))
		byTCP := strings.ReplaceAll(recipe.Text(c.t, "haproxy-resolver.cfg"), "192.0.2.1", s.server) + "\n"
		w.consumer = startHAProxy(s, strings.Replace(s.recipe("haproxy.cfg", section, byTCP, check, checkEvery), "hold valid 5s", "hold valid "+every, 1))
	case "haproxy with 512 octets":
		w.part = true
		w.consumer = startHAProxy(s, s.recipe("haproxy.cfg", "192.0.2.53", s.server, "hold valid 5s", "hold valid "+every, check, checkEvery, "    accepted_payload_size 8192\n", ""))
	case "prometheus":
		w.consumer = startPrometheus(s, s.recipe("prometheus.yml", "refresh_interval: 5s", "refresh_interval: "+every, scrape, scrapeEvery))
	case "prometheus, A":
		s.name = strings.Replace(s.name, clients.Zone, "set.example.org", 1)
		w.consumer = startPrometheus(s, s.recipe("prometheus.yml", "refresh_interval: 5s", "refresh_interval: "+every+"\n        type: A\n        port: 8080", scrape, scrapeEvery, "_http._tcp.", ""))
	case "caddy":
		w.consumer = startCaddy(s, s.recipe("Caddyfile", "192.0.2.53", s.server, "refresh 5s", "refresh "+every), servers)
	case "nginx":
		w.single = true
		w.consumer = startNginx(s, s.recipe("nginx.conf", "192.0.2.53", s.server))
	}
	w.part = w.part || w.pool > most
}

// each does something with all clients at the same time.
func (c *churn) each(f func(w *watched) error) {
	c.t.Helper()
	var wg sync.WaitGroup
	for _, w := range c.list {
		wg.Go(func() {
			if err := f(w); err != nil {
				c.t.Errorf("%v: %v", w, err)
			}
		})
	}
	wg.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// steady waits until the client has all servers that it can have.
func (c *churn) steady(w *watched) error {
	deadline := time.Now().Add(network.Patience)
	for {
		got, err := w.servers()
		if err == nil && w.complete(got) {
			w.want = got
			w.base, _ = w.lost()
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("it has %d servers", len(got)), err)
		}
		pause()
	}
}

// complete reports whether a client has as many servers as it should.
func (w *watched) complete(got set) bool {
	switch {
	case w.single:
		return len(got) == 1
	case strings.HasPrefix(w.kind, "haproxy with"):
		return len(got) >= min(w.pool, 3)
	}
	return len(got) == min(w.pool, most)
}

// pause is the time between two looks at another process, which cannot tell us.
func pause() { time.Sleep(200 * time.Millisecond) }

// watch looks at a client for a time in which nothing changes.
func (c *churn) watch(w *watched, d time.Duration) error {
	looks, failed := 0, 0
	for end := time.Now().Add(d); time.Now().Before(end); looks++ {
		got, err := w.servers()
		if err != nil {
			// The machine may be too busy for a look.
			if failed++; failed > 3 {
				return err
			}
			continue
		}
		failed = 0
		if !w.single && !maps.Equal(got, w.want) {
			n, last := w.lost()
			return fmt.Errorf("nothing has changed, but it has lost %v and got %v (%d: %s)", w.want.without(got), got.without(w.want), n-w.base, last)
		}
		time.Sleep(d / 100)
	}
	n, last := w.lost()
	if n -= w.base; n > 0 {
		return fmt.Errorf("%d servers or requests lost, last: %s", n, last)
	}
	c.t.Logf("%v: %d servers, 0 lost in %v (%d looks)", w, len(w.want), d, looks)
	return nil
}

// without gives the members that others has not.
func (s set) without(others set) []string {
	var list []string
	for id := range s {
		if !others[id] {
			list = append(list, id)
		}
	}
	return list
}

// limit is how long a change may take to reach a client.
func (c *churn) limit(w *watched) time.Duration { return c.ttl + 2*time.Second + w.poll() }

// die kills an element of each pool.
func (c *churn) die() {
	c.victims.Kill()
	since := time.Now()
	id := fmt.Sprintf("%08x", victim)
	c.each(func(w *watched) error {
		var last time.Duration // when it was still there
		more := time.Second    // to look, if what it uses is known at each moment
		if w.requests() {
			more = c.limit(w)
		}
		for time.Since(since) < min(last+more, c.limit(w)+time.Second) {
			pause()
			failed, _ := w.lost()
			got, err := w.servers()
			if err != nil {
				return err
			}
			now, _ := w.lost()
			if got[id] || w.requests() && now > failed {
				last = time.Since(since)
			}
			if lost := w.want.without(got); !w.single && slices.ContainsFunc(lost, func(other string) bool { return other != id }) && !w.requests() {
				return fmt.Errorf("one element has died, but it has lost %v", lost)
			}
		}
		if last > c.limit(w) {
			return fmt.Errorf("a dead element is in use after %v, limit %v", last, c.limit(w))
		}
		c.t.Logf("%v: a dead element is out after %.1f s, limit %v", w, last.Seconds(), c.limit(w))
		return nil
	})
}

// requests reports whether the client is known by its answers to requests.
func (w *watched) requests() bool { _, ok := w.consumer.(*proxy); return ok }

// join adds an element to each pool.
func (c *churn) join() {
	var list []clients.Element
	for _, n := range sizes {
		list = append(list, clients.Element{ID: newcomer, Pool: fmt.Sprint("p", n)})
	}
	c.name(c.site.Elements("", list...))
	since := time.Now()
	id := fmt.Sprintf("%08x", newcomer)
	c.each(func(w *watched) error {
		if w.single {
			return nil
		}
		for limit := c.limit(w); ; pause() {
			got, err := w.servers()
			took := time.Since(since)
			switch {
			case err != nil:
				return err
			case got[id]:
				c.t.Logf("%v: a new element is in after %.1f s, limit %v", w, took.Seconds(), limit)
				return nil
			case took > limit && w.part && w.complete(got):
				c.t.Logf("%v: a new element is not in its part of the pool, %d", w, len(got))
				return nil
			case took > limit:
				return fmt.Errorf("a new element is not in use after %v; it has %d", took, len(got))
			}
		}
	})
}
