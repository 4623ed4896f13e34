package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pu"
)

// client is one kind of client with what it has seen.
type client struct {
	name string
	url  string
	http *http.Client

	mu      sync.Mutex
	took    []time.Duration
	servers map[string]int // requests by server
	errs    []error
}

// dnsClient finds servers as any program does: it asks for A, and connects to the address.
func dnsClient(o options) *client {
	dialer := net.Dialer{
		Timeout: 2 * time.Second,
		Resolver: &net.Resolver{
			PreferGo: true,
			Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, network, o.dns)
			},
		},
	}
	return newClient("by DNS", fmt.Sprintf("http://%s.%s.:%d/", o.pool, o.zone, o.port), dialer.DialContext)
}

// nativeClient is a pool user.
func nativeClient(o options, u *pu.User) *client {
	c := newClient("native", fmt.Sprintf("http://%s.pool/", o.pool), u.DialContext)
	c.http.Transport = again{c.http.Transport}
	return c
}

// again repeats a request that has failed, with another element: its element was killed, and
// the connection has ended by pu.ErrFailover or, if the element's kernel has closed it in good
// order, by one of the errors of package http. It is only for requests that may be repeated,
// such as those of this program.
type again struct{ http.RoundTripper }

func (a again) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := a.RoundTripper.RoundTrip(req)
	if err != nil && req.Context().Err() == nil {
		return a.RoundTripper.RoundTrip(req)
	}
	return resp, err
}

// newClient makes a client with a new connection for each request: it stands for many
// clients.
func newClient(name, url string, dial func(context.Context, string, string) (net.Conn, error)) *client {
	return &client{
		name: name, url: url, servers: make(map[string]int),
		http: &http.Client{
			Timeout:   5 * time.Second,
			Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
		},
	}
}

func (c *client) get(ctx context.Context) {
	began := time.Now()
	server, err := c.try(ctx)
	took := time.Since(began)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case ctx.Err() != nil: // the end
	case err != nil:
		c.errs = append(c.errs, err)
	default:
		c.took = append(c.took, took)
		c.servers[server]++
	}
}

func (c *client) try(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 100))
	return string(body), err
}

// run asks at a steady pace until ctx ends.
func (c *client) run(ctx context.Context, rate int) {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			wg.Go(func() { c.get(context.WithoutCancel(ctx)) })
		}
	}
}

// compare has both kinds of clients ask at the same time, and prints what they have seen.
func compare(ctx context.Context, o options) error {
	u, err := pu.Open(pu.Config{Registrars: o.registrars, Local: []netip.AddrPort{netip.AddrPortFrom(o.address, 0)}})
	if err != nil {
		return err
	}
	defer u.Close()
	clients := []*client{dnsClient(o), nativeClient(o, u)}
	ctx, cancel := context.WithTimeout(ctx, o.length)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() { c.run(ctx, o.rate) })
	}
	wg.Wait()
	return report(os.Stdout, clients)
}

func report(w io.Writer, clients []*client) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "client\trequests\tfailed\tservers\tmedian\t99 %\tslowest")
	for _, c := range clients {
		slices.Sort(c.took)
		at := func(percent int) time.Duration {
			if len(c.took) == 0 {
				return 0
			}
			return c.took[(len(c.took)-1)*percent/100].Round(10 * time.Microsecond)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%v\t%v\t%v\n", c.name, len(c.took)+len(c.errs), len(c.errs), len(c.servers), at(50), at(99), at(100))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range clients {
		if len(c.errs) > 0 {
			fmt.Fprintf(w, "\n%s, the first failure: %v\n", c.name, c.errs[0])
		}
		if len(c.took) == 0 {
			return errors.New("no request was answered: are registrar, DNS server and web servers there?")
		}
	}
	return nil
}
