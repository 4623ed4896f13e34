package clients_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/clients"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// TestLoad: requests to proxies land on the elements as the pool's policy says, as far as
// the proxy reads it: HAProxy uses the weights of SRV records, and no priorities; Caddy
// uses neither.
func TestLoad(t *testing.T) {
	t.Parallel()
	n := 200
	if *long {
		n = 10000
	}
	s := clients.NewBridged(t, corefile(""))
	var list []clients.Element
	for _, p := range policies {
		for id, text := range p.elements {
			list = append(list, clients.Element{ID: uint32(id + 1), Pool: p.name, Policy: text})
		}
	}
	s.Elements("", list...)
	even := []float64{1, 1, 1, 1}
	var wg sync.WaitGroup
	for _, p := range policies {
		weights := p.shares
		switch {
		case p.name == "prio":
			weights = even
		case p.srv != nil:
			weights = p.srv
		}
		for kind, want := range map[string][]float64{"haproxy": weights, "caddy": even} {
			if !*long && !slices.Contains([]string{"rr haproxy", "wrr haproxy", "prio haproxy", "lu haproxy", "wrr caddy"}, p.name+" "+kind) {
				continue
			}
			st := start{Site: s, t: t, host: s.Client(kind), server: clients.Server, name: p.name + "." + clients.Zone}
			wg.Go(func() {
				count, err := load(st, kind, n)
				x, good := chiSquare(count, want)
				t.Logf("%s, %s: %v, chi-square %.2f", p.name, kind, count, x)
				if err != nil || !good {
					t.Errorf("%s, %s: %v, %v, want %v", p.name, kind, count, err, want)
				}
			})
		}
	}
	wg.Wait()
}

// load sends n requests to a proxy that has all servers of its pool, and counts those that
// each server gets.
func load(s start, kind string, n int) (map[uint32]int, error) {
	var c consumer
	switch kind {
	case "haproxy":
		c = startHAProxy(s, s.recipe("haproxy.cfg"))
	case "caddy":
		c = startCaddy(s, s.recipe("Caddyfile"), 4)
	}
	network.Eventually(s.t, kind+" has its servers", func() error {
		got, err := c.servers()
		if err == nil && len(got) != 4 {
			err = fmt.Errorf("%d", len(got))
		}
		return err
	})
	h := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: s.host.DialContext}}
	defer h.CloseIdleConnections()
	count := map[uint32]int{}
	for range n {
		r, err := h.Get("http://127.0.0.1/")
		if err != nil {
			return count, err
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return count, err
		}
		var id uint32
		if _, err := fmt.Sscanf(strings.TrimPrefix(string(b), "element"), "{id=\"%08x\"}", &id); err != nil {
			return count, fmt.Errorf("%s: %q", r.Status, b)
		}
		count[id]++
	}
	return count, nil
}
