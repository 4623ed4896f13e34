package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// LookupFunc gives the addresses of a host name. It returns when ctx ends.
type LookupFunc func(ctx context.Context, host string) ([]netip.Addr, error)

// Found is the result of the Lookup with the same Ref.
type Found struct {
	Ref   uint64
	Addrs []netip.Addr
	Err   error
}

// lookupTime is how long a lookup may take. It is longer than T5-Serverhunt: a
// later attempt takes the result.
const lookupTime = 20 * time.Second

// lookup looks a name up, once at a time for all attempts that need it. The result is for
// the last one.
func (t *Transport) lookup(ref uint64, host string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, on := t.lookups[host]
	t.lookups[host] = ref
	if on {
		return
	}
	t.wg.Go(func() {
		ctx, cancel := context.WithTimeout(t.ctx, lookupTime)
		defer cancel()
		addrs, err := t.cfg.lookupHost(ctx, host)
		t.mu.Lock()
		ref := t.lookups[host]
		delete(t.lookups, host)
		t.mu.Unlock()
		t.deliver(Event{found: &Found{Ref: ref, Addrs: addrs, Err: err}})
	})
}

func (c *Config) lookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	if c.LookupHost != nil {
		return c.LookupHost(ctx, host)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	var dns *net.DNSError
	if errors.As(err, &dns) {
		err = &lookupError{dns}
	}
	return addrs, err
}

// lookupError is a *net.DNSError without the ports and the repetitions in its
// text.
type lookupError struct{ *net.DNSError }

func (e *lookupError) Error() string {
	why := e.Err
	for _, op := range []string{"dial ", "read ", "write "} { // with addresses and ports
		if strings.HasPrefix(why, op) {
			why = why[strings.LastIndex(why, ": ")+1:]
		}
	}
	why = strings.TrimSpace(why)
	if why == "i/o timeout" {
		why = "no answer"
	}
	if e.Server == "" {
		return why
	}
	server := e.Server
	if a, err := netip.ParseAddrPort(server); err == nil && a.Port() == 53 {
		server = a.Addr().String()
	}
	return "DNS server " + server + ": " + why
}

func (e *lookupError) Unwrap() error { return e.DNSError }

// Resolve gives the registrar with its addresses, one for each address of a
// name, which is looked up if there is one.
func Resolve(ctx context.Context, r rserpool.Registrar) ([]rserpool.Registrar, error) {
	if r.Host == "" || len(r.Addrs) > 0 {
		return []rserpool.Registrar{r}, nil
	}
	addrs, err := (&Config{}).lookupHost(ctx, r.Host)
	if err == nil && len(addrs) == 0 {
		err = hunt.ErrNoAddr
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look up its name: %w", err)
	}
	return hunt.At(r, addrs), nil
}
