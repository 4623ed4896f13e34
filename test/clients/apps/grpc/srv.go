package main

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/resolver"
)

func init() { resolver.Register(srvBuilder{}) }

// srvBuilder has gRPC find servers by SRV records: grpc.NewClient("srv:///_grpc._tcp.NAME").
type srvBuilder struct{}

func (srvBuilder) Scheme() string { return "srv" }

func (srvBuilder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &srvResolver{name: target.Endpoint(), cc: cc, now: make(chan struct{}, 1), cancel: cancel}
	go r.run(ctx)
	return r, nil
}

// srvResolver looks the name up every 5 s, the TTL of the records, and earlier when a
// connection fails.
type srvResolver struct {
	name   string
	cc     resolver.ClientConn
	now    chan struct{}
	cancel context.CancelFunc
}

func (r *srvResolver) Close() { r.cancel() }

func (r *srvResolver) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case r.now <- struct{}{}:
	default:
	}
}

func (r *srvResolver) run(ctx context.Context) {
	const least, most = time.Second, 5 * time.Second
	for ctx.Err() == nil {
		if err := r.lookup(ctx); err != nil {
			r.cc.ReportError(err)
		}
		rest := time.NewTimer(least)
		select {
		case <-ctx.Done():
		case <-rest.C:
		}
		rest.Reset(most - least)
		select {
		case <-ctx.Done():
		case <-r.now:
		case <-rest.C:
		}
		rest.Stop()
	}
}

func (r *srvResolver) lookup(ctx context.Context) error {
	_, list, err := net.DefaultResolver.LookupSRV(ctx, "", "", r.name)
	if err != nil {
		return err
	}
	var state resolver.State
	for _, s := range list {
		at := resolver.Address{Addr: net.JoinHostPort(strings.TrimSuffix(s.Target, "."), strconv.Itoa(int(s.Port)))}
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{at}})
	}
	return r.cc.UpdateState(state)
}
