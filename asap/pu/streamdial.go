package pu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const (
	// dialTime is the time for all elements that a dial tries.
	dialTime = 30 * time.Second
	// maxAttempts is how many elements an error lists.
	maxAttempts = 16
	// poolSuffix marks the name of a pool in DialContext.
	poolSuffix = ".pool"
)

// DialContext connects to a pool of TCP elements if the host in addr ends in ".pool", and
// otherwise as [net.Dialer] does. Thus an HTTP client reaches pools: with
//
//	&http.Client{Transport: &http.Transport{DialContext: u.DialContext}}
//
// http://web.pool/ is the pool whose handle is web. Upper and lower case of a handle
// differ. The port in addr is ignored, because elements have their own. network is tcp,
// tcp4 or tcp6.
//
// The connection is a [*Stream]. An element that does not accept it is reported, and the
// next one is tried, so that a request fails only if an element dies while it serves the
// request. http.Transport repeats such a request if it may be repeated and the connection
// had served another one before. It also keeps connections, so that the policy of the pool
// selects for each connection, not for each request. For https, set
// TLSClientConfig.ServerName to the name in the elements' certificates.
func (u *User) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	pool, ok := strings.CutSuffix(host, poolSuffix)
	if !ok {
		return u.tcp(ctx, network, addr)
	}
	if pool == "" || !slices.Contains([]string{"tcp", "tcp4", "tcp6"}, network) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("host %q: want tcp and a pool handle before %s", host, poolSuffix)}
	}
	s, err := u.dialStream(ctx, network, rserpool.PoolHandle(pool))
	if err != nil {
		return nil, err
	}
	return s, nil
}

// tcp connects to an address.
func (u *User) tcp(ctx context.Context, network, addr string) (net.Conn, error) {
	if dial := u.runner.cfg.dialTCP; dial != nil {
		return dial(ctx, network, addr)
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// dialElements connects to an element of a pool. It tries those in tried after all others.
func (u *User) dialElements(ctx context.Context, network string, pool rserpool.PoolHandle, tried []rserpool.PEID) (net.Conn, rserpool.PoolElement, error) {
	start, last := time.Now(), tried
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	failure := &FailoverError{Pool: pool}
	fail := func(why error) (net.Conn, rserpool.PoolElement, error) {
		failure.Selection, failure.After = why, time.Since(start)
		return nil, rserpool.PoolElement{}, failure
	}
	for {
		e, err := u.choose(ctx, pool, choice{families: families(network), without: tried})
		var exhausted *ExhaustedError
		if errors.As(err, &exhausted) && len(last) > 0 {
			tried = slices.DeleteFunc(slices.Clone(tried), func(id rserpool.PEID) bool { return slices.Contains(last, id) })
			last = nil
			continue
		}
		if err != nil {
			return fail(err)
		}
		tried = append(slices.Clip(tried), e.ID)
		if e.UserTransport.Type != rserpool.TCP || len(e.UserTransport.Addrs) == 0 {
			return fail(fmt.Errorf("its elements offer %v, not TCP: use Dial for SCTP", e.UserTransport))
		}
		conn, err := u.dialElement(ctx, network, &e.UserTransport)
		if err == nil {
			u.reached(pool, e.ID)
			return conn, e, nil
		}
		failure.Attempts = append(failure.Attempts, rserpool.ElementAttempt{Element: e, Err: err})
		failure.Attempts = failure.Attempts[max(0, len(failure.Attempts)-maxAttempts):]
		if ctx.Err() != nil {
			return fail(ctx.Err()) // which says nothing of the element
		}
		if ownFault(err) {
			u.busy(pool, e.ID)
		} else {
			u.Failed(pool, e.ID)
		}
	}
}

// ownFault reports whether a dial failed on this machine: it has no route or no address, or
// too many files are open. That says nothing of the element.
func ownFault(err error) bool {
	for _, own := range []error{
		syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS,
	} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

// dialElement connects to an element. A TCP transport has one address (RFC 5354, Section
// 3.5).
func (u *User) dialElement(ctx context.Context, network string, t *rserpool.Transport) (net.Conn, error) {
	limit := u.runner.cfg.Timers.Connect
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no connection within %v", limit))
	defer cancel()
	conn, err := u.tcp(ctx, network, netip.AddrPortFrom(t.Addrs[0], t.Port).String())
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return conn, err
}

// families returns the address families of a network.
func families(network string) handlespace.Families {
	switch network {
	case "tcp4":
		return handlespace.IPv4
	case "tcp6":
		return handlespace.IPv6
	}
	return 0
}
