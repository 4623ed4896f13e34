package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// serve runs an HTTP server that is a pool element, until ctx ends.
func serve(ctx context.Context, o options) error {
	l, err := net.Listen("tcp", netip.AddrPortFrom(o.address, uint16(o.port)).String())
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, o.address)
		}),
		ReadHeaderTimeout: 5 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }() // users can connect before the pool names this server

	e, err := pe.Open(pe.Config{
		Pool: rserpool.PoolHandle(o.pool),
		Transport: rserpool.Transport{
			Type: rserpool.TCP, Port: uint16(o.port), Addrs: []netip.Addr{o.address},
		},
		Policy:     rserpool.Policy{Type: rserpool.RoundRobin},
		Registrars: o.registrars,
		Notify:     func(ev pe.Event) { slog.Info(ev.String()) },
	})
	if err != nil {
		return errors.Join(err, srv.Close())
	}
	select {
	case <-ctx.Done():
	case <-e.Done():
	case err = <-failed:
	}
	// First nobody is sent here any more, then those that are here are served.
	err = errors.Join(err, e.Close())
	last, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, srv.Shutdown(last))
}
